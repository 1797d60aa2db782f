"""The promoter's decisions: a pure function of one look at registry and cluster.

The promoter may be killed after every action: the next look leads to those that are left. So a
failed version is tagged before the alias leaves it, and the alias leaves it before the cluster.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from components.registry.registry import FAILED_TAG, ROLLOUT_TAG

LIVE, ROLLING, REPLACED, SUPERSEDED, FAILED, BY_HAND = (
    "live", "rolling out", "replaced", "superseded", "failed", "aborted by hand",
)  # fmt: skip
REFUSED = "refused: "


class Phase(StrEnum):
    """Progress of the version in the pod template."""

    DONE = "done"
    MOVING = "moving"
    PAUSED = "paused"
    """A canary waits for a person, after an inconclusive analysis or a pause by hand."""
    FAILED = "failed"
    """Aborted by an analysis, not ready in time, or its bundle is damaged."""
    ABORTED = "aborted"
    """By a person."""
    IDLE = "idle"
    """The Deployment is scaled to 0 and has no Rollout."""
    UNKNOWN = "unknown"
    """The cluster's objects contradict each other for a moment."""


GIVEN_UP = (Phase.FAILED, Phase.ABORTED)


@dataclass(frozen=True)
class Workload:
    kind: str
    """`Rollout` where Argo Rollouts moves the traffic, else `Deployment`."""
    pinned: str
    """Version in the pod template; empty before the first."""
    stable: str
    """Version that served last without fault, and serves; may be empty."""
    phase: Phase
    message: str = ""
    is_first: bool = False
    """Argo Rollouts compares it with a ReplicaSet without a version, which never served."""
    is_new: bool = False
    """The Rollout's first revision is on its way."""
    own_pods: int = 0
    """The Deployment's own replicas, beside its Rollout's."""
    hand_over_to: str = ""
    """uid of a Rollout that has fewer replicas, and has not been given as many before."""


@dataclass(frozen=True)
class VersionInfo:
    verdict: str = "passed"
    forced_by: str = ""
    failed: str = ""
    """Reason of its failed rollout."""
    rollout: str = "registered"
    problem: str = ""
    """Why its bundle cannot be fetched, if checked."""
    created_at: str = ""
    """ISO 8601."""
    checks_failed: str = ""
    """As the registry's CHECKS_TAG."""


@dataclass(frozen=True)
class State:
    champion: str
    """Empty when nobody set the alias."""
    versions: Mapping[str, VersionInfo] = field(default_factory=dict)
    workload: Workload | None = None
    """None when the Deployment is missing."""


@dataclass(frozen=True)
class EmitEvent:
    """Publish a Kubernetes Event."""

    reason: str
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
    rejected: str
    to: str
    why: str
    """`refused`, `rollout failed` or `aborted by hand`."""


@dataclass(frozen=True)
class Pin:
    """Write the version into the pod template."""

    version: str


@dataclass(frozen=True)
class MarkStable:
    """Record the stable version on a Deployment; a Rollout does so by itself."""

    version: str


@dataclass(frozen=True)
class SkipSteps:
    """Skip the canary steps of the first version."""

    version: str


@dataclass(frozen=True)
class HandOver:
    """Give the Rollout as many replicas as the Deployment has.

    Once, because the count is the autoscaler's afterwards.
    """

    replicas: int
    uid: str
    """Of the Rollout."""


@dataclass(frozen=True)
class ScaleDown:
    """Scale the Deployment to 0, because its Rollout has the pods.

    A pod of the Deployment would take every new template at once, past all canary steps.
    """


Action = EmitEvent | Tag | RevertChampion | Pin | MarkStable | SkipSteps | HandOver | ScaleDown


def decide(state: State) -> list[Action]:
    """In order; nothing but EmitEvent when cluster and registry agree."""
    workload = state.workload
    if workload is None:
        text = "there is no Deployment to pin a version to; apply it again"
        return [EmitEvent("WorkloadMissing", text, True)]
    if workload.phase is Phase.UNKNOWN:
        return [EmitEvent("WaitingForCluster", workload.message)]
    if workload.phase is Phase.IDLE and workload.kind == "Deployment":
        return [
            *_return_to_live(state, workload),
            EmitEvent("RolloutMissing", workload.message, True),
        ]
    progress = list(_record_progress(state, workload))
    if _is_restoring_stable(state, workload):
        text = f"version {workload.pinned}, which served, comes back before anything else"
        return [*progress, EmitEvent("WaitingForStable", text)]
    return [*progress, *_plan_rollout(state, workload)]


def in_sync(state: State) -> bool:
    workload = state.workload
    return bool(workload and workload.phase is Phase.DONE and workload.pinned == state.champion)


def find_objection(info: VersionInfo | None) -> str:
    """An empty text allows the rollout."""
    if info is None:
        return "is not in the registry"
    if info.failed:
        return f"failed its rollout before ({info.failed})"
    if info.verdict != "passed" and not info.forced_by:
        return f"has the gate verdict {info.verdict!r} and was not promoted by force"
    return info.problem


def _return_to_live(state: State, workload: Workload) -> Iterator[Action]:
    """A new Rollout takes any template for judged: no canary may be left there."""
    live = [version for version, info in state.versions.items() if info.rollout == LIVE]
    if live and workload.pinned not in live:
        yield Pin(live[0])


def _record_progress(state: State, workload: Workload) -> Iterator[Action]:
    pinned, phase = workload.pinned, workload.phase
    info = state.versions.get(pinned)
    if pinned and workload.hand_over_to:
        yield HandOver(workload.own_pods, workload.hand_over_to)
    elif workload.own_pods and (not pinned or phase is Phase.DONE):
        yield ScaleDown()
    if workload.is_first and phase in (Phase.MOVING, Phase.PAUSED):
        yield EmitEvent("FirstVersion", f"version {pinned} is the first, and no canary")
        yield SkipSteps(pinned)
    elif phase is Phase.PAUSED:
        yield EmitEvent("CanaryPaused", f"version {pinned} waits: {workload.message}", True)
    if phase is Phase.DONE and pinned:
        yield from _record_arrival(state, workload)
    if phase is Phase.FAILED and info and not info.failed:
        yield Tag(pinned, FAILED_TAG, workload.message)
        yield Tag(pinned, ROLLOUT_TAG, FAILED)
        yield EmitEvent("RolloutFailed", f"version {pinned}: {workload.message}", True)
    if phase is Phase.ABORTED and info and info.rollout != BY_HAND:
        yield Tag(pinned, ROLLOUT_TAG, BY_HAND)


def _is_restoring_stable(state: State, workload: Workload) -> bool:
    """A new Rollout has to bring up the live version before a canary can be compared with it."""
    info = state.versions.get(workload.pinned)
    return bool(workload.is_new and info and info.rollout == LIVE)


def _record_arrival(state: State, workload: Workload) -> Iterator[Action]:
    pinned = workload.pinned
    if workload.stable != pinned:
        yield MarkStable(pinned)
    info = state.versions.get(pinned)
    if info and info.failed:
        # Somebody made it go on by hand, and it arrived.
        yield Tag(pinned, FAILED_TAG, None)
    for version, other in state.versions.items():
        if version != pinned and other.rollout == LIVE:
            yield Tag(version, ROLLOUT_TAG, REPLACED)
    if info and info.rollout != LIVE:
        yield Tag(pinned, ROLLOUT_TAG, LIVE)
        yield EmitEvent("VersionLive", f"version {pinned} serves all traffic")


def _plan_rollout(state: State, workload: Workload) -> Iterator[Action]:
    target, pinned, stable = state.champion, workload.pinned, workload.stable
    if not target:
        yield EmitEvent("NoChampion", f"nobody is champion; version {pinned or '(none)'} stays")
        # Half a rollout is nobody's wish, even without a champion.
        target = stable if workload.phase in GIVEN_UP and stable else pinned
    elif objection := _find_champion_objection(state, workload):
        yield from _refuse_champion(state, workload, objection)
        target = stable or pinned
    if target != pinned:
        yield from _start_rollout(state, workload, target)


def _find_champion_objection(state: State, workload: Workload) -> str:
    """Empty for one that serves already."""
    champion = state.champion
    if champion == workload.stable:
        return ""
    if workload.phase in GIVEN_UP and workload.pinned == champion:
        return BY_HAND if workload.phase is Phase.ABORTED else workload.message
    return find_objection(state.versions.get(champion))


def _refuse_champion(state: State, workload: Workload, reason: str) -> Iterator[Action]:
    champion, stable = state.champion, workload.stable
    info, why = state.versions.get(champion), _classify_rejection(state, workload)
    if why == "refused":
        if info and info.rollout != REFUSED + reason:
            yield Tag(champion, ROLLOUT_TAG, REFUSED + reason)
        yield EmitEvent("VersionRefused", f"version {champion} {reason}", True)
    if stable:
        back = f"champion goes back from version {champion} to {stable}, which serves"
        yield EmitEvent("ChampionGivenBack", f"{back}: {reason}", True)
        yield RevertChampion(champion, stable, why)
    else:
        text = f"version {champion} {reason}; none served before"
        yield EmitEvent("NothingToGoBackTo", text, True)


def _classify_rejection(state: State, workload: Workload) -> str:
    """As RevertChampion.why."""
    info, phase = state.versions.get(state.champion), workload.phase
    if phase in GIVEN_UP and workload.pinned == state.champion:
        return BY_HAND if phase is Phase.ABORTED else "rollout failed"
    return "rollout failed" if info and info.failed else "refused"


def _start_rollout(state: State, workload: Workload, target: str) -> Iterator[Action]:
    stable = workload.stable
    given_up = workload.pinned if workload.phase in GIVEN_UP else ""
    for version, other in state.versions.items():
        if version not in (target, given_up) and other.rollout == ROLLING:
            # The next promotion may come before a look saw this one arrive.
            yield Tag(version, ROLLOUT_TAG, LIVE if version == stable else SUPERSEDED)
    info = state.versions.get(target)
    yield _announce(info, workload, target)
    if info and target != stable and info.rollout != ROLLING:
        yield Tag(target, ROLLOUT_TAG, ROLLING)
    yield Pin(target)


def _announce(info: VersionInfo | None, workload: Workload, target: str) -> EmitEvent:
    if target == workload.stable:
        return EmitEvent("RollingBack", f"back to version {target}, which still serves")
    forced = f", forced by {info.forced_by}" if info and info.forced_by else ""
    if workload.kind == "Rollout":
        return EmitEvent("RollingOut", f"version {target} begins as a canary{forced}")
    plain = "without Argo Rollouts: a plain rolling update, which no analysis judges"
    return EmitEvent("RollingOut", f"version {target}{forced}, {plain}", bool(forced))
