"""One look at registry and cluster, and what follows from it.

`decide` knows nothing of before, so a promoter that was killed anywhere goes on by looking.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from components.promoter.cluster import Cluster, ClusterError, Conflict, Object
from components.promoter.decide import (
    Action,
    EmitEvent,
    MarkStable,
    Phase,
    Pin,
    RevertChampion,
    ScaleDown,
    SkipSteps,
    State,
    Tag,
    Workload,
    decide,
    find_objection,
)
from components.promoter.lease import Leadership
from components.promoter.metrics import Metrics
from components.promoter.repair import APPLIED_ANNOTATION, Repair
from components.promoter.settings import Settings
from components.promoter.versions import check_bundle, read_versions, revert_alias, write_tag
from components.promoter.workload import (
    POD_HASH_LABEL,
    STABLE_ANNOTATION,
    VERSION_LABEL,
    workload_from_deployment,
    workload_from_rollout,
)

COMPONENT = "fbt-promoter"
REPEAT_EVENT_S = 1800.0
"""A state that lasts is said again: Kubernetes forgets Events after an hour."""

log = logging.getLogger("fbt.promoter")


class Promoter:
    """Looks, decides and acts; holds nothing that a new one would miss."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        leadership: Leadership,
        metrics: Metrics,
        repair: Repair | None = None,
    ) -> None:
        self._cluster, self._settings = cluster, settings
        self._leadership, self.metrics = leadership, metrics
        self._repair = repair or Repair(cluster, settings.names)
        self._intact: set[str] = set()
        self._published_at: dict[EmitEvent, float] = {}

    def reconcile(self) -> list[Action]:
        """One look, and everything that follows from it; what was done.

        Raises ClusterError (Conflict: somebody else wrote in between), RegistryError or
        LeadershipLost. What was done until then stays done, and the next look goes on from there.
        """
        live = self._read_live_objects()
        if repaired := self._repair.restore(live, self._leadership.check):
            for say in repaired:
                self._execute(say, live["Deployment"])
            return list(repaired)
        state = self._observe(live)
        actions = decide(state)
        self.metrics.observe(state)
        self._forget_past_events(actions)
        for action in actions:
            self._execute(action, live["Deployment"])
        if not any(isinstance(action, Pin | MarkStable | ScaleDown) for action in actions):
            stable = state.workload.stable if state.workload else ""
            self._repair.keep(live, stable, self._leadership.check)
        return actions

    def _read_live_objects(self) -> dict[str, Object | None]:
        live = {kind: self._cluster.get(kind, name) for kind, name in self._settings.names.items()}
        rollout = live["Rollout"]
        refers = ((rollout or {}).get("spec", {}).get("workloadRef") or {}).get("name")
        if rollout and refers != self._settings.deployment and not _was_applied(rollout):
            live["Rollout"] = None
        return live

    def _observe(self, live: Mapping[str, Object | None]) -> State:
        # The registry first: an alias that moves while the cluster is read is seen the next time,
        # while a cluster older than the alias would be judged by a champion it has not heard of.
        champion, versions = read_versions()
        workload = self._observe_workload(live)
        state = State(champion, versions, workload)
        is_new = workload and champion not in ("", workload.pinned, workload.stable)
        if is_new and not find_objection(versions.get(champion)):
            state = replace(state, versions=check_bundle(versions, champion, self._intact))
        return state

    def _observe_workload(self, live: Mapping[str, Object | None]) -> Workload | None:
        deployment, rollout = live["Deployment"], live["Rollout"]
        if deployment is None:
            return None
        pods = self._cluster.items("Pod", VERSION_LABEL)
        if self._repair.waits_for:
            seen, text = (
                workload_from_deployment(deployment, pods),
                f"the {self._repair.waits_for} is missing",
            )
            return replace(seen, phase=Phase.UNKNOWN, message=f"{text}; it is brought back soon")
        if rollout is None:
            return workload_from_deployment(deployment, pods)
        replica_sets = self._cluster.items("ReplicaSet", POD_HASH_LABEL)
        return workload_from_rollout(deployment, rollout, replica_sets, pods)

    def _execute(self, action: Action, deployment: Object | None) -> None:
        self._leadership.check()
        match action:
            case EmitEvent():
                if not self._publish_event(action):
                    return
            case Tag():
                write_tag(action)
            case RevertChampion():
                revert_alias(action)
            case Pin(version):
                labels = {"metadata": {"labels": {VERSION_LABEL: version}}}
                self._write(deployment, {"spec": {"template": labels}})
            case ScaleDown():
                self._write(deployment, {"spec": {"replicas": 0}})
            case SkipSteps():
                # What `kubectl argo rollouts promote --full` does.
                status = {"status": {"promoteFull": True}}
                self._cluster.patch("Rollout", f"{self._settings.rollout}/status", status)
            case MarkStable(version):
                self._write(deployment, {"metadata": {"annotations": {STABLE_ANNOTATION: version}}})
        log.info("%s", action)
        reason = action.reason if isinstance(action, EmitEvent) else ""
        self.metrics.steps.labels(type(action).__name__, reason).inc()

    def _write(self, deployment: Object | None, change: dict[str, Any]) -> None:
        """Change the Deployment that was looked at; raises Conflict when it is another by now."""
        if deployment is None:
            return
        seen = {"resourceVersion": deployment["metadata"]["resourceVersion"]}
        change["metadata"] = {**change.get("metadata", {}), **seen}
        after = self._cluster.patch("Deployment", self._settings.deployment, change)
        # The next write of the same look builds on this one.
        deployment["metadata"] = after["metadata"]

    def _publish_event(self, say: EmitEvent) -> bool:
        """Make an Event of it, unless it was made a short while ago."""
        now = time.monotonic()
        if now - self._published_at.get(say, -REPEAT_EVENT_S) < REPEAT_EVENT_S:
            return False
        body = build_event(self._cluster.namespace, self._settings, say)
        try:
            try:
                self._cluster.create("Event", body)
            except Conflict:
                change = {"lastTimestamp": body["lastTimestamp"], "message": body["message"]}
                self._cluster.patch("Event", body["metadata"]["name"], change)
        except ClusterError as error:
            if error.status not in (403, 404, 422):
                raise
            # Not to be allowed to speak is no reason not to act.
            log.warning("%s could not be said: %s", say, error)
        self._published_at[say] = now
        return True

    def _forget_past_events(self, actions: list[Action]) -> None:
        """What is no longer so will be news when it is so again."""
        self._published_at = {say: at for say, at in self._published_at.items() if say in actions}


def build_event(namespace: str, settings: Settings, say: EmitEvent) -> Object:
    """An Event about the Deployment; the same news has the same name, so it is there once."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = sha256(f"{say.reason} {say.message}".encode()).hexdigest()[:16]
    return {
        "metadata": {"name": f"{settings.deployment}.{digest}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": settings.deployment,
            "namespace": namespace,
        },
        "reason": say.reason,
        "message": say.message[:1000],
        "type": "Warning" if say.warning else "Normal",
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": settings.identity,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def _was_applied(rollout: Object) -> bool:
    return APPLIED_ANNOTATION in (rollout["metadata"].get("annotations") or {})
