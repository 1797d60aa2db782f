"""Whether the workloads of a namespace are ready, and what keeps them from it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from components.promoter.workload import find_condition
from pipelines.kubectl import ClusterError, Kubectl
from pipelines.obstacles import (
    Kind,
    Obstacle,
    find_obstacle,
    find_refusal,
    is_ready,
    tail,
)

Object = dict[str, Any]

PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "Rollout": "/apis/argoproj.io/v1alpha1/namespaces/{}/rollouts",
}
BATCH = "/apis/batch/v1/namespaces/{}"
NO_LOG = "unable to retrieve container logs"
"""The kubelet answers so for a container that it has removed."""


@dataclass
class Namespace:
    """One look: what was read once stays."""

    kubectl: Kubectl
    name: str

    @cached_property
    def workloads(self) -> dict[str, Object]:
        """By `kind/name`, in lower case as kubectl has it."""
        return {
            f"{kind.lower()}/{one['metadata']['name']}": {**one, "kind": kind}
            for kind, path in PATHS.items()
            for one in self.kubectl.list_objects(path.format(self.name))
        }

    @cached_property
    def pods(self) -> list[Object]:
        return self._list("pods")

    @cached_property
    def events(self) -> list[Object]:
        return self._list("events")

    @cached_property
    def claims(self) -> list[Object]:
        return self._list("persistentvolumeclaims")

    @cached_property
    def cron_jobs(self) -> set[str]:
        found = self.kubectl.list_objects(f"{BATCH.format(self.name)}/cronjobs")
        return {one["metadata"]["name"] for one in found}

    @cached_property
    def jobs(self) -> list[Object]:
        return self.kubectl.list_objects(f"{BATCH.format(self.name)}/jobs")

    def _list(self, plural: str) -> list[Object]:
        return self.kubectl.list_objects(f"/api/v1/namespaces/{self.name}/{plural}")

    def read_log(self, obstacle: Obstacle) -> tuple[str, ...]:
        """Its container's last lines; none where nobody kept them."""
        if obstacle.log or not obstacle.container:
            return obstacle.log
        path = (
            f"/api/v1/namespaces/{self.name}/pods/{obstacle.pod}/log"
            f"?container={obstacle.container}&tailLines=20"
        )
        try:
            text = self.kubectl.read(f"{path}&previous=true" if obstacle.is_previous else path)
        except ClusterError:
            return ()
        return () if not text or text.startswith(NO_LOG) else tail(text)


@dataclass(frozen=True)
class Health:
    name: str
    """`namespace/kind/name`."""
    is_present: bool = True
    n_ready: int = 0
    n_wanted: int = 0
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def is_ready(self) -> bool:
        return self.is_present and not self.obstacles and self.n_ready >= self.n_wanted

    @property
    def is_harmless(self) -> bool:
        """Ready, or on its way."""
        return self.is_present and all(one.is_harmless for one in self.obstacles)

    def describe(self) -> str:
        if not self.is_present:
            return "missing"
        if self.is_ready:
            return f"{self.n_ready} of {self.n_wanted} ready"
        reason = self.obstacles[0].text if self.obstacles else "not ready yet"
        more = f" (and {len(self.obstacles) - 1} more)" if len(self.obstacles) > 1 else ""
        return f"{self.n_ready} of {self.n_wanted} ready; {reason}{more}"


def check_workload(namespace: Namespace, name: str) -> Health:
    """`name` is `kind/name`. Raises ClusterError."""
    title = f"{namespace.name}/{name}"
    workload = namespace.workloads.get(name)
    if workload is None:
        return Health(title, is_present=False)
    n_wanted, n_ready = _count(workload)
    health = Health(title, True, n_ready, n_wanted)
    if _is_current(workload) and n_ready >= n_wanted:
        return health
    return replace(health, obstacles=tuple(_find_obstacles(namespace, workload)))


def find_failure(namespace: Namespace, cron_job: str) -> Obstacle | None:
    """Why its last Job failed; None if it did not. Raises ClusterError."""
    own = [
        job
        for job in namespace.jobs
        for owner in job["metadata"].get("ownerReferences") or []
        if (owner["kind"], owner["name"]) == ("CronJob", cron_job)
    ]
    last = max(own, key=_created_at, default={})
    failed = find_condition(last, "Failed")
    if failed.get("status") != "True":
        return None
    pods = [one for one in namespace.pods if _selects(last, one)]
    for pod in sorted(pods, key=_created_at, reverse=True):
        return find_obstacle(pod, namespace.events)
    return Obstacle(Kind.CRASH, failed.get("message", "its Job failed"))


def _find_obstacles(namespace: Namespace, workload: Object) -> list[Obstacle]:
    newest_first = sorted(namespace.pods, key=_created_at, reverse=True)
    found = [
        find_obstacle(pod, namespace.events, namespace.claims)
        for pod in newest_first
        if _selects(workload, pod) and not is_ready(pod)
    ]
    found += [one for one in (find_refusal(workload, namespace.events),) if one]
    if not any(one.kind is Kind.CHAMPION for one in found):
        found += _find_rollout_trouble(workload)
    # Each once, for pods of one workload mostly wait for the same.
    distinct: dict[tuple[Kind, str], Obstacle] = {}
    for one in found:
        distinct.setdefault((one.kind, one.container), one)
    made = Obstacle(Kind.PROGRESS, "its pods are made")
    return sorted(distinct.values(), key=_rank) or [made]


def _rank(one: Obstacle) -> int:
    """A container that ends is often the consequence of another fault."""
    return 2 if one.is_harmless else int(one.kind is Kind.CRASH)


def _created_at(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def _find_rollout_trouble(workload: Object) -> list[Obstacle]:
    status = workload.get("status") or {}
    phase = status.get("phase") if workload["kind"] == "Rollout" else ""
    if phase not in ("Degraded", "Paused"):
        return []
    name, namespace = workload["metadata"]["name"], workload["metadata"]["namespace"]
    remedy = f"kubectl argo rollouts get rollout {name} -n {namespace}"
    kind = Kind.ROLLOUT if phase == "Degraded" else Kind.PROGRESS
    return [Obstacle(kind, f"the Rollout is {phase}: {status.get('message', '')}", remedy)]


def _count(workload: Object) -> tuple[int, int]:
    """Pods wanted and ready."""
    wanted = workload["spec"].get("replicas")
    status = workload.get("status") or {}
    ready = status.get(
        "readyReplicas" if workload["kind"] == "StatefulSet" else "availableReplicas"
    )
    return (1 if wanted is None else int(wanted)), int(ready or 0)


def _is_current(workload: Object) -> bool:
    """Whether the pods are those of the newest template."""
    status, wanted = workload.get("status") or {}, _count(workload)[0]
    if workload["kind"] == "Rollout":
        return status.get("phase") == "Healthy"
    if int(status.get("observedGeneration") or 0) < int(
        workload["metadata"].get("generation") or 0
    ):
        return False
    if workload["kind"] == "StatefulSet":
        current = status.get("currentRevision") == status.get("updateRevision")
        return current or int(status.get("updatedReplicas") or 0) >= wanted
    updated, total = int(status.get("updatedReplicas") or 0), int(status.get("replicas") or 0)
    return updated >= wanted and total <= max(updated, wanted)


def _selects(workload: Object, pod: Object) -> bool:
    wanted = (workload["spec"].get("selector") or {}).get("matchLabels") or {}
    labels = pod["metadata"].get("labels") or {}
    return bool(wanted) and wanted.items() <= labels.items()
