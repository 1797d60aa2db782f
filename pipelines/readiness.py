"""Waits until workloads are ready; ends early for what does not heal by itself."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipelines.kubectl import ClusterError, Kubectl
from pipelines.obstacles import Kind, Obstacle
from pipelines.workload_health import Health, Namespace, check_workload

POLL_S = 3.0
PATIENCE_S = {
    Kind.CONFIG: 20.0,
    Kind.REFUSED: 30.0,
    # Registries hiccup; the kubelet asks them three times in this time.
    Kind.IMAGE: 60.0,
    Kind.CREATE: 60.0,
    Kind.VOLUME: 60.0,
    # An autoscaler of nodes gets the time that it mostly takes.
    Kind.SCHEDULE: 180.0,
    Kind.EVICTED: 60.0,
    # And it must have been started again in this time, beside neighbours that are ready.
    Kind.CRASH: 60.0,
}
"""How long a fault may last; those of no entry may heal at any time."""
MAX_SILENCE_S = 60.0
"""Of the API server."""


class Stuck(ClusterError):
    """A fault that does not heal by itself."""


@dataclass(frozen=True)
class Seen:
    at: float
    n_restarts: int


@dataclass
class Watch:
    """Progress of workloads, named `kind/name` in a namespace."""

    kubectl: Kubectl
    waited: Sequence[tuple[str, str]]
    show: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _shown: dict[str, object] = field(default_factory=dict)
    _seen: dict[tuple[str, Kind, str], Seen] = field(default_factory=dict)

    def look(self) -> list[Health]:
        """Those that are not ready yet. Raises Stuck, and ClusterError without an answer."""
        namespaces = {name: Namespace(self.kubectl, name) for name, _ in self.waited}
        pending = []
        for namespace, name in self.waited:
            health = check_workload(namespaces[namespace], name)
            self._report(namespaces[namespace], health)
            self._judge(namespaces[namespace], name, health)
            if not health.is_ready:
                pending.append(health)
        return pending

    def _report(self, namespace: Namespace, health: Health) -> None:
        news = [_summarize(one) for one in health.obstacles], health.n_ready, health.is_ready
        if self._shown.get(health.name) == news:
            return
        self._shown[health.name] = news
        self.show(f"  {health.name}: {health.describe()}")
        for one in health.obstacles:
            if one.kind is Kind.CRASH:
                for line in namespace.read_log(one):
                    self.show(f"    | {line}")

    def _judge(self, namespace: Namespace, name: str, health: Health) -> None:
        current = {(health.name, one.kind, one.container): one for one in health.obstacles}
        for key in [key for key in self._seen if key[0] == health.name and key not in current]:
            del self._seen[key]
        for key, one in current.items():
            if one.kind is Kind.CRASH and _is_any_on_its_way(namespace, name):
                # It may need one of them.
                self._seen.pop(key, None)
                continue
            seen = self._seen.setdefault(key, Seen(self.clock(), one.n_restarts))
            if self._is_lasting(one, seen):
                raise Stuck(describe_fault(namespace, health, one))

    def _is_lasting(self, one: Obstacle, seen: Seen) -> bool:
        if one.kind not in PATIENCE_S or self.clock() - seen.at < PATIENCE_S[one.kind]:
            return False
        return one.kind is not Kind.CRASH or one.n_restarts > seen.n_restarts


def wait_until_ready(
    kubectl: Kubectl,
    waited: Sequence[tuple[str, str]],
    wait_s: float,
    show: Callable[[str], None],
    poll_s: float = POLL_S,
) -> None:
    """Raises ClusterError."""
    look = AnsweredLook(Watch(kubectl, waited, show))
    deadline = time.monotonic() + wait_s
    n_ready = 0
    # Twice: a container without a probe is ready for the moment until it ends.
    while n_ready < 2:
        pending = look()
        n_ready = n_ready + 1 if pending == [] else 0
        if n_ready == 0 and time.monotonic() > deadline:
            raise ClusterError(describe_late(pending or (), wait_s))
        time.sleep(poll_s)


class AnsweredLook:
    """Bears an API server that is away for a while."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self._answered_at = watch, time.monotonic()

    def __call__(self) -> list[Health] | None:
        """None without an answer."""
        try:
            pending = self._watch.look()
        except Stuck:
            raise
        except ClusterError as error:
            if time.monotonic() - self._answered_at > MAX_SILENCE_S:
                raise
            self._watch.show(f"  {error}; asking again")
            return None
        self._answered_at = time.monotonic()
        return pending


def describe_fault(namespace: Namespace, health: Health, one: Obstacle) -> str:
    lines = [f"cluster: {health.name} does not get ready: {one.text}"]
    lines += [f"  | {line}" for line in namespace.read_log(one)]
    lines += [f"  {one.remedy}"] if one.remedy else []
    return "\n".join([*lines, "  then `fbt cluster up` again; what is there stays"])


def describe_late(pending: Sequence[Health], wait_s: float) -> str:
    lines = [f"cluster: not everything is ready after {wait_s:g} s (--wait)"]
    lines += [f"  {one.name}: {one.describe()}" for one in pending]
    return "\n".join([*lines, "  `fbt doctor` shows how it goes on"])


def _summarize(one: Obstacle) -> tuple[object, ...]:
    """What makes it news: messages of a registry, say, differ from try to try."""
    return one.kind, one.container, one.n_restarts, one.text if one.is_harmless else ""


def _is_any_on_its_way(namespace: Namespace, name: str) -> bool:
    """Whether a neighbour without a fault is not ready yet."""
    neighbours = (one for one in namespace.workloads if one != name)
    healths = (check_workload(namespace, one) for one in neighbours)
    return any(not one.is_ready and _is_progressing(one) for one in healths)


def _is_progressing(health: Health) -> bool:
    return health.is_present and all(one.kind is Kind.PROGRESS for one in health.obstacles)
