"""One look at registry and cluster, and the actions that follow from it."""

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from components.promoter.cluster import Cluster, ClusterError, Conflict, Object
from components.promoter.decide import (
    Action,
    EmitEvent,
    HandOver,
    MarkStable,
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
from components.promoter.settings import Settings
from components.promoter.versions import find_problem, read_versions, revert_alias, write_tag
from components.promoter.workload import (
    HANDED_OVER_ANNOTATION,
    POD_HASH_LABEL,
    STABLE_ANNOTATION,
    VERSION_LABEL,
    build_pin,
    refers_to,
    workload_from_deployment,
    workload_from_rollout,
)

COMPONENT = "fbt-promoter"
REPEAT_EVENT_S = 1800.0
"""Kubernetes forgets Events after an hour."""
REFUSED_EVENT = (403, 404, 422)
"""A refused Event is no reason not to act."""

log = logging.getLogger("fbt.promoter")


class Promoter:
    def __init__(
        self, cluster: Cluster, settings: Settings, leadership: Leadership, metrics: Metrics
    ) -> None:
        self._cluster, self._settings = cluster, settings
        self._leadership, self.metrics = leadership, metrics
        self._intact: set[str] = set()
        self._published_at: dict[EmitEvent, float] = {}

    def reconcile(self) -> list[Action]:
        """Do and return all that follows from one look.

        Raises ClusterError (Conflict: somebody else wrote in between), RegistryError or
        LeadershipLost; the next look goes on from there.
        """
        # The registry first: the next look sees an alias that moves in between.
        champion, versions = read_versions()
        deployment = self._cluster.get("Deployment", self._settings.deployment)
        workload = self._observe_workload(deployment) if deployment else None
        state = self._check_new_champion(State(champion, versions, workload))
        actions = decide(state)
        self.metrics.observe(state)
        # An Event that no longer holds is news when it holds again.
        self._published_at = {e: at for e, at in self._published_at.items() if e in actions}
        for action in actions:
            self._execute(action, deployment)
        return actions

    def _check_new_champion(self, state: State) -> State:
        champion, workload = state.champion, state.workload
        info = state.versions.get(champion)
        if not workload or champion in (workload.pinned, workload.stable):
            return state
        if info is None or find_objection(info):
            return state
        checked = replace(info, problem=find_problem(champion, self._intact))
        return replace(state, versions={**state.versions, champion: checked})

    def _observe_workload(self, deployment: Object) -> Workload:
        rollout = self._cluster.get("Rollout", self._settings.rollout)
        pods = self._cluster.list_objects("Pod", VERSION_LABEL)
        if rollout is None or not refers_to(rollout, deployment):
            return workload_from_deployment(deployment, pods)
        replica_sets = self._cluster.list_objects("ReplicaSet", POD_HASH_LABEL)
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
                if deployment is not None:
                    self._write(deployment, {"spec": {"template": build_pin(deployment, version)}})
            case HandOver(replicas, uid):
                scale = {"spec": {"replicas": replicas}}
                self._cluster.patch("Rollout", f"{self._settings.rollout}/scale", scale)
                self._write(
                    deployment, {"metadata": {"annotations": {HANDED_OVER_ANNOTATION: uid}}}
                )
            case ScaleDown():
                self._write(deployment, {"spec": {"replicas": 0}})
            case SkipSteps():
                # As `kubectl argo rollouts promote --full` does.
                status = {"status": {"promoteFull": True}}
                self._cluster.patch("Rollout", f"{self._settings.rollout}/status", status)
            case MarkStable(version):
                self._write(deployment, {"metadata": {"annotations": {STABLE_ANNOTATION: version}}})
        log.info("%s", action)
        reason = action.reason if isinstance(action, EmitEvent) else ""
        self.metrics.steps.labels(type(action).__name__, reason).inc()

    def _write(self, deployment: Object | None, change: dict[str, Any]) -> None:
        """Raises Conflict when somebody changed the Deployment since this look."""
        if deployment is None:
            return
        observed = {"resourceVersion": deployment["metadata"]["resourceVersion"]}
        change["metadata"] = {**change.get("metadata", {}), **observed}
        after = self._cluster.patch("Deployment", self._settings.deployment, change)
        # The next write of the same look builds on this one.
        deployment["metadata"] = after["metadata"]

    def _publish_event(self, event: EmitEvent) -> bool:
        """False for an Event published less than REPEAT_EVENT_S ago."""
        now = time.monotonic()
        if now - self._published_at.get(event, -REPEAT_EVENT_S) < REPEAT_EVENT_S:
            return False
        body = build_event(self._cluster.namespace, self._settings, event)
        try:
            self._create_or_renew(body)
        except ClusterError as error:
            if error.status not in REFUSED_EVENT:
                raise
            log.warning("%s could not be published: %s", event, error)
        self._published_at[event] = now
        return True

    def _create_or_renew(self, body: Object) -> None:
        try:
            self._cluster.create("Event", body)
        except Conflict:
            change = {"lastTimestamp": body["lastTimestamp"], "message": body["message"]}
            self._cluster.patch("Event", body["metadata"]["name"], change)


def build_event(namespace: str, settings: Settings, event: EmitEvent) -> Object:
    """The same reason and message make the same name."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = sha256(f"{event.reason} {event.message}".encode()).hexdigest()[:16]
    return {
        "metadata": {"name": f"{settings.deployment}.{digest}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": settings.deployment,
            "namespace": namespace,
        },
        "reason": event.reason,
        "message": event.message[:1000],
        "type": "Warning" if event.warning else "Normal",
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": settings.identity,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
