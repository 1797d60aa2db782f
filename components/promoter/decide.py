"""What to do next, from what is seen: the promoter's whole judgement, without any I/O.

Nothing is remembered between two looks. Every action may be the last before the promoter is
killed: what is seen afterwards leads to the actions that are left. Therefore a failed version is
tagged before the alias leaves it, and the alias leaves it before the cluster does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from components.registry.registry import FAILED_TAG, ROLLOUT_TAG

LIVE, ROLLING, REPLACED, SUPERSEDED, FAILED = (
    "live", "rolling out", "replaced", "superseded", "failed",
)  # fmt: skip
REFUSED = "refused: "


class Phase(StrEnum):
    """How far the cluster is with the version that is pinned to the pod template."""

    DONE = "done"
    """Every pod serves it."""
    MOVING = "moving"
    PAUSED = "paused"
    """A canary that waits for a person: its analysis was inconclusive, or somebody paused it."""
    FAILED = "failed"
    """Given up: aborted by its analysis or by hand, not ready in time, or its bundle is damaged."""
    IDLE = "idle"
    """Scaled to nothing: nothing can be said."""
    UNKNOWN = "unknown"
    """What is seen does not fit together yet: the cluster's parts are written one by one."""


@dataclass(frozen=True)
class Workload:
    """The service in the cluster."""

    kind: str
    """`Rollout` where Argo Rollouts moves the traffic, else `Deployment`."""
    pinned: str
    """Version in the pod template; empty before the first."""
    stable: str
    """Version that served last without fault, and serves; empty when there is none."""
    phase: Phase
    message: str = ""
    """Why it failed or pauses, in the cluster's own words."""
    is_first: bool = False
    """Whether Argo Rollouts compares it with a ReplicaSet that has no version and never served."""
    own_pods: int = 0
    """Pods that the Deployment wants for itself, beside those of its Rollout."""


@dataclass(frozen=True)
class VersionInfo:
    """What the registry says of one version."""

    verdict: str = "passed"
    forced_by: str = ""
    failed: str = ""
    """Why its rollout failed before."""
    rollout: str = "registered"
    problem: str = ""
    """Why its bundle cannot be fetched, where that was looked at."""
    created_at: str = ""
    """When it was registered, ISO 8601."""
    checks_failed: str = ""
    """Data checks that its run was warned by, as the registry's CHECKS_TAG."""


@dataclass(frozen=True)
class State:
    """One look at registry and cluster."""

    champion: str
    """Version the alias points to; empty when nobody set it or it was deleted."""
    versions: Mapping[str, VersionInfo] = field(default_factory=dict)
    workload: Workload | None = None
    """None when the Deployment is missing."""


@dataclass(frozen=True)
class EmitEvent:
    """Tell people, as a Kubernetes Event."""

    reason: str
    """CamelCase, as Events have it."""
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Tag:
    """Set a tag of a version in the registry; None deletes it."""

    version: str
    key: str
    value: str | None


@dataclass(frozen=True)
class RevertChampion:
    """Move `champion` from a version that will not be served to the one that is."""

    rejected: str
    to: str
    why: str
    """`refused` or `rollout failed`, as in components.registry.promotion."""


@dataclass(frozen=True)
class Pin:
    """Write the version into the pod template: the cluster does the rest."""

    version: str


@dataclass(frozen=True)
class MarkStable:
    """Remember on the Deployment that this version serves; Argo Rollouts does it by itself."""

    version: str


@dataclass(frozen=True)
class SkipSteps:
    """Have Argo Rollouts bring this version at once: there is nothing to compare it with."""

    version: str


@dataclass(frozen=True)
class ScaleDown:
    """Scale the Deployment to nothing: its Rollout has the pods, and weighs the traffic.

    Argo Rollouts does so only when the first revision gets ready, which one without a version never
    does. A pod of the Deployment takes every new template at once, past all steps of a canary.
    """


Action = EmitEvent | Tag | RevertChampion | Pin | MarkStable | SkipSteps | ScaleDown


def decide(state: State) -> list[Action]:
    """What is to be done, in order; nothing but EmitEvent when cluster and registry agree."""
    if state.workload is None:
        return [EmitEvent("WorkloadMissing", "there is no Deployment to bring a version to", True)]
    if state.workload.phase is Phase.UNKNOWN:
        return [EmitEvent("WaitingForCluster", state.workload.message)]
    happened = list(_record_progress(state, state.workload))
    if _is_restoring_stable(state, state.workload):
        text = f"version {state.workload.pinned}, which served, comes back before anything else"
        return [*happened, EmitEvent("WaitingForStable", text)]
    return [*happened, *_plan_rollout(state, state.workload)]


def in_sync(state: State) -> bool:
    """Whether all pods serve the version that people chose."""
    workload = state.workload
    return bool(workload and workload.phase is Phase.DONE and workload.pinned == state.champion)


def find_objection(info: VersionInfo | None) -> str:
    """Why the version may not be rolled out, or nothing."""
    if info is None:
        return "is not in the registry"
    if info.failed:
        return f"failed its rollout before ({info.failed})"
    if info.verdict != "passed" and not info.forced_by:
        return f"has the gate verdict {info.verdict!r} and was not promoted by force"
    return info.problem


def _record_progress(state: State, workload: Workload) -> Iterator[Action]:
    """Write down where the pinned version is."""
    info = state.versions.get(workload.pinned)
    if workload.own_pods and (not workload.pinned or workload.phase is Phase.DONE):
        yield ScaleDown()
    if workload.is_first and workload.phase in (Phase.MOVING, Phase.PAUSED):
        yield EmitEvent("FirstVersion", f"version {workload.pinned} is the first, and no canary")
        yield SkipSteps(workload.pinned)
    elif workload.phase is Phase.PAUSED:
        yield EmitEvent(
            "CanaryPaused", f"version {workload.pinned} waits: {workload.message}", True
        )
    if workload.phase is Phase.DONE and workload.pinned:
        yield from _record_arrival(state, workload)
    if workload.phase is Phase.FAILED and info and not info.failed:
        yield Tag(workload.pinned, FAILED_TAG, workload.message)
        yield Tag(workload.pinned, ROLLOUT_TAG, FAILED)
        yield EmitEvent("RolloutFailed", f"version {workload.pinned}: {workload.message}", True)


def _is_restoring_stable(state: State, workload: Workload) -> bool:
    """Whether a new Rollout has not yet taken up what served: a canary now would not be judged."""
    info = state.versions.get(workload.pinned)
    is_new = workload.kind == "Rollout" and not workload.stable and workload.phase is Phase.MOVING
    return bool(is_new and info and info.rollout == LIVE)


def _record_arrival(state: State, workload: Workload) -> Iterator[Action]:
    if workload.stable != workload.pinned:
        yield MarkStable(workload.pinned)
    info = state.versions.get(workload.pinned)
    if info and info.failed:
        # Somebody made it go on by hand, and it arrived.
        yield Tag(workload.pinned, FAILED_TAG, None)
    for version, other in state.versions.items():
        if version != workload.pinned and other.rollout == LIVE:
            yield Tag(version, ROLLOUT_TAG, REPLACED)
    if info and info.rollout != LIVE:
        yield Tag(workload.pinned, ROLLOUT_TAG, LIVE)
        yield EmitEvent("VersionLive", f"version {workload.pinned} serves all traffic")


def _plan_rollout(state: State, workload: Workload) -> Iterator[Action]:
    target = state.champion
    if not target:
        yield EmitEvent(
            "NoChampion", f"nobody is champion; version {workload.pinned or '(none)'} stays"
        )
        # Half a rollout is nobody's wish, even where no version is.
        target = (
            workload.stable
            if workload.phase is Phase.FAILED and workload.stable
            else workload.pinned
        )
    elif reason := _find_champion_objection(state, workload):
        yield from _refuse_champion(state, workload, reason)
        target = workload.stable or workload.pinned
    if target != workload.pinned:
        yield from _start_rollout(state, workload, target)


def _find_champion_objection(state: State, workload: Workload) -> str:
    """Why the champion is not to be served; nothing for one that serves already."""
    champion = state.champion
    if champion == workload.stable:
        return ""
    if workload.phase is Phase.FAILED and workload.pinned == champion:
        return workload.message
    return find_objection(state.versions.get(champion))


def _refuse_champion(state: State, workload: Workload, reason: str) -> Iterator[Action]:
    champion, info = state.champion, state.versions.get(state.champion)
    failed = workload.phase is Phase.FAILED and workload.pinned == champion
    failed = failed or bool(info and info.failed)
    if info and not failed and info.rollout != REFUSED + reason:
        yield Tag(champion, ROLLOUT_TAG, REFUSED + reason)
    if not failed:
        yield EmitEvent("VersionRefused", f"version {champion} {reason}", True)
    if workload.stable:
        back = f"champion goes back from version {champion} to {workload.stable}, which serves"
        yield EmitEvent("ChampionGivenBack", f"{back}: {reason}", True)
        yield RevertChampion(champion, workload.stable, "rollout failed" if failed else "refused")
    else:
        yield EmitEvent(
            "NothingToGoBackTo", f"version {champion} {reason}; none served before", True
        )


def _start_rollout(state: State, workload: Workload, target: str) -> Iterator[Action]:
    failed = workload.pinned if workload.phase is Phase.FAILED else ""
    for version, other in state.versions.items():
        if version not in (target, failed) and other.rollout == ROLLING:
            # The next promotion may come before anybody saw this one arrive.
            yield Tag(version, ROLLOUT_TAG, LIVE if version == workload.stable else SUPERSEDED)
    info = state.versions.get(target)
    forced = f", forced by {info.forced_by}" if info and info.forced_by else ""
    if target == workload.stable:
        yield EmitEvent("RollingBack", f"back to version {target}, which still serves")
    elif workload.kind == "Rollout":
        yield EmitEvent("RollingOut", f"version {target} begins as a canary{forced}")
    else:
        plain = "without Argo Rollouts: a plain rolling update, which no analysis judges"
        yield EmitEvent("RollingOut", f"version {target}{forced}, {plain}", bool(forced))
    if info and target != workload.stable and info.rollout != ROLLING:
        yield Tag(target, ROLLOUT_TAG, ROLLING)
    yield Pin(target)
