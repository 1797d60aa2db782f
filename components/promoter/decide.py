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
class Candidate:
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
    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    workload: Workload | None = None
    """None when the Deployment is missing."""


@dataclass(frozen=True)
class Say:
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
class GiveBack:
    """Move `champion` from a version that will not be served to the one that is."""

    given_up: str
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


Action = Say | Tag | GiveBack | Pin | MarkStable | SkipSteps | ScaleDown


def decide(state: State) -> list[Action]:
    """What is to be done, in order; nothing but Say when cluster and registry agree."""
    if state.workload is None:
        return [Say("WorkloadMissing", "there is no Deployment to bring a version to", True)]
    if state.workload.phase is Phase.UNKNOWN:
        return [Say("WaitingForCluster", state.workload.message)]
    happened = list(_what_happened(state, state.workload))
    if _comes_back(state, state.workload):
        text = f"version {state.workload.pinned}, which served, comes back before anything else"
        return [*happened, Say("WaitingForStable", text)]
    return [*happened, *_what_is_wanted(state, state.workload)]


def in_sync(state: State) -> bool:
    """Whether all pods serve the version that people chose."""
    seen = state.workload
    return bool(seen and seen.phase is Phase.DONE and seen.pinned == state.champion)


def why_not(candidate: Candidate | None) -> str:
    """Why the version may not be rolled out, or nothing."""
    if candidate is None:
        return "is not in the registry"
    if candidate.failed:
        return f"failed its rollout before ({candidate.failed})"
    if candidate.verdict != "passed" and not candidate.forced_by:
        return f"has the gate verdict {candidate.verdict!r} and was not promoted by force"
    return candidate.problem


def _what_happened(state: State, seen: Workload) -> Iterator[Action]:
    """Write down where the pinned version is."""
    candidate = state.candidates.get(seen.pinned)
    if seen.own_pods and (not seen.pinned or seen.phase is Phase.DONE):
        yield ScaleDown()
    if seen.is_first and seen.phase in (Phase.MOVING, Phase.PAUSED):
        yield Say("FirstVersion", f"version {seen.pinned} is the first, and no canary")
        yield SkipSteps(seen.pinned)
    elif seen.phase is Phase.PAUSED:
        yield Say("CanaryPaused", f"version {seen.pinned} waits: {seen.message}", True)
    if seen.phase is Phase.DONE and seen.pinned:
        yield from _arrived(state, seen)
    if seen.phase is Phase.FAILED and candidate and not candidate.failed:
        yield Tag(seen.pinned, FAILED_TAG, seen.message)
        yield Tag(seen.pinned, ROLLOUT_TAG, FAILED)
        yield Say("RolloutFailed", f"version {seen.pinned}: {seen.message}", True)


def _comes_back(state: State, seen: Workload) -> bool:
    """Whether a new Rollout has not yet taken up what served: a canary now would not be judged."""
    candidate = state.candidates.get(seen.pinned)
    is_new = seen.kind == "Rollout" and not seen.stable and seen.phase is Phase.MOVING
    return bool(is_new and candidate and candidate.rollout == LIVE)


def _arrived(state: State, seen: Workload) -> Iterator[Action]:
    if seen.stable != seen.pinned:
        yield MarkStable(seen.pinned)
    candidate = state.candidates.get(seen.pinned)
    if candidate and candidate.failed:
        # Somebody made it go on by hand, and it arrived.
        yield Tag(seen.pinned, FAILED_TAG, None)
    for version, other in state.candidates.items():
        if version != seen.pinned and other.rollout == LIVE:
            yield Tag(version, ROLLOUT_TAG, REPLACED)
    if candidate and candidate.rollout != LIVE:
        yield Tag(seen.pinned, ROLLOUT_TAG, LIVE)
        yield Say("VersionLive", f"version {seen.pinned} serves all traffic")


def _what_is_wanted(state: State, seen: Workload) -> Iterator[Action]:
    target = state.champion
    if not target:
        yield Say("NoChampion", f"nobody is champion; version {seen.pinned or '(none)'} stays")
        # Half a rollout is nobody's wish, even where no version is.
        target = seen.stable if seen.phase is Phase.FAILED and seen.stable else seen.pinned
    elif reason := _objection(state, seen):
        yield from _refusal(state, seen, reason)
        target = seen.stable or seen.pinned
    if target != seen.pinned:
        yield from _rollout(state, seen, target)


def _objection(state: State, seen: Workload) -> str:
    """Why the champion is not to be served; nothing for one that serves already."""
    champion = state.champion
    if champion == seen.stable:
        return ""
    if seen.phase is Phase.FAILED and seen.pinned == champion:
        return seen.message
    return why_not(state.candidates.get(champion))


def _refusal(state: State, seen: Workload, reason: str) -> Iterator[Action]:
    champion, candidate = state.champion, state.candidates.get(state.champion)
    failed = seen.phase is Phase.FAILED and seen.pinned == champion
    failed = failed or bool(candidate and candidate.failed)
    if candidate and not failed and candidate.rollout != REFUSED + reason:
        yield Tag(champion, ROLLOUT_TAG, REFUSED + reason)
    if not failed:
        yield Say("VersionRefused", f"version {champion} {reason}", True)
    if seen.stable:
        back = f"champion goes back from version {champion} to {seen.stable}, which serves"
        yield Say("ChampionGivenBack", f"{back}: {reason}", True)
        yield GiveBack(champion, seen.stable, "rollout failed" if failed else "refused")
    else:
        yield Say("NothingToGoBackTo", f"version {champion} {reason}; none served before", True)


def _rollout(state: State, seen: Workload, target: str) -> Iterator[Action]:
    failed = seen.pinned if seen.phase is Phase.FAILED else ""
    for version, other in state.candidates.items():
        if version not in (target, failed) and other.rollout == ROLLING:
            # The next promotion may come before anybody saw this one arrive.
            yield Tag(version, ROLLOUT_TAG, LIVE if version == seen.stable else SUPERSEDED)
    candidate = state.candidates.get(target)
    forced = f", forced by {candidate.forced_by}" if candidate and candidate.forced_by else ""
    if target == seen.stable:
        yield Say("RollingBack", f"back to version {target}, which still serves")
    elif seen.kind == "Rollout":
        yield Say("RollingOut", f"version {target} begins as a canary{forced}")
    else:
        plain = "without Argo Rollouts: a plain rolling update, which no analysis judges"
        yield Say("RollingOut", f"version {target}{forced}, {plain}", bool(forced))
    if candidate and target != seen.stable and candidate.rollout != ROLLING:
        yield Tag(target, ROLLOUT_TAG, ROLLING)
    yield Pin(target)
