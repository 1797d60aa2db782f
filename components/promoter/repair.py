"""Bringing back what was deleted or edited by hand: the Deployment and the Rollout.

What they should be is what was last applied, which `kubectl apply` leaves on the object itself;
where somebody applied them in another way, they are kept as they were last seen, and edits count as
meant. The record lies in a ConfigMap that belongs to the application's ServiceAccount: who deletes
the application as a whole does not find it rising again.
"""

import copy
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from components.promoter.cluster import MERGE, STRATEGIC, Cluster, ClusterError, Conflict, Object
from components.promoter.decide import EmitEvent
from components.promoter.workload import STABLE_ANNOTATION, VERSION_LABEL, read_pinned_version

RECORD = "fbt-promoter"
APPLIED_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
OFF_ANNOTATION = "fbt/repair"
"""`off` on the Deployment: whoever takes things apart on purpose says so by it."""
GRACE_S = 30.0
"""A deleted application is gone, record and all, after some seconds. Until then, wait."""

SERVERS_OWN = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink",
    "ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds",
)  # fmt: skip
PATCH = {"Deployment": STRATEGIC, "Rollout": MERGE}


class Repair:
    """Keeps the record of one Deployment and its Rollout, and restores them from it."""

    def __init__(
        self,
        cluster: Cluster,
        names: Mapping[str, str],
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._names = cluster, names
        self._grace_s, self._clock = grace_s, clock
        self._missing_since: dict[str, float] = {}
        self._checked: dict[str, Any] = {}
        self.waits_for = ""
        """Kind of an object that is missing and will be brought back."""

    def restore(
        self, live: Mapping[str, Object | None], check: Callable[[], None]
    ) -> list[EmitEvent]:
        """Repair what can be repaired; what was done. `check` is called before every write.

        When anything was done, `live` is no longer what is there.
        """
        self.waits_for = ""
        deployment = live["Deployment"]
        annotations = (deployment or {}).get("metadata", {}).get("annotations") or {}
        if annotations.get(OFF_ANNOTATION) == "off":
            return []
        done: list[EmitEvent] = []
        record: dict[str, str] | None = None
        for kind, found in live.items():
            if found is not None:
                self._missing_since.pop(kind, None)
                done += self._undo_edits(kind, found, check)
                continue
            record = self._record() if record is None else record
            if kind in record and not self._is_due(kind):
                self.waits_for = kind
            elif kind in record:
                check()
                done += self._bring_back(kind, json.loads(record[kind]), record, deployment)
        return done

    def keep(
        self, live: Mapping[str, Object | None], stable: str, check: Callable[[], None]
    ) -> None:
        """Write down what is there now, and what serves. Called after a look without repairs."""
        deployment = live["Deployment"]
        if deployment is None:
            return
        wanted = {kind: _text(declared(one)) for kind, one in live.items() if one is not None}
        # The version that served last stays written down while a restarted one has none yet.
        wanted |= {"stable": stable} if stable else {}
        record = self._record()
        if wanted.items() <= record.items():
            return
        check()
        if record:
            self._cluster.patch("ConfigMap", RECORD, {"data": wanted})
        else:
            self._create_record(deployment, wanted)

    def _undo_edits(self, kind: str, found: Object, check: Callable[[], None]) -> list[EmitEvent]:
        generation = (found["metadata"].get("uid"), found["metadata"].get("generation"))
        applied = _applied(found)
        if applied is None or self._checked.get(kind) == generation:
            return []
        if not contains(found["spec"], applied["spec"]):
            check()
            resource_version = {"resourceVersion": found["metadata"]["resourceVersion"]}
            patch = {"metadata": resource_version, "spec": applied["spec"]}
            after = self._cluster.patch(kind, self._names[kind], patch, PATCH[kind])
            changed = after["metadata"].get("generation") != generation[1]
            generation = (generation[0], after["metadata"].get("generation"))
            if changed:
                text = f"{kind} {self._names[kind]} was edited; back to what was applied"
                self._checked[kind] = generation
                return [EmitEvent("Repaired", text, True)]
        # The server writes some values its own way, 1000m as 1: no edit, and not looked at again.
        self._checked[kind] = generation
        return []

    def _bring_back(
        self, kind: str, body: Object, record: Mapping[str, str], deployment: Object | None
    ) -> list[EmitEvent]:
        name, stable = self._names[kind], record.get("stable", "")
        if kind == "Deployment" and stable and "Rollout" not in record:
            _pin(body, stable)
        if (
            kind == "Rollout"
            and stable
            and deployment
            and read_pinned_version(deployment) != stable
        ):
            # A new Rollout takes what it finds for judged: it must not find a canary.
            patch = {"spec": {"template": {"metadata": {"labels": {VERSION_LABEL: stable}}}}}
            self._cluster.patch("Deployment", self._names["Deployment"], patch)
        try:
            self._cluster.create(kind, body)
        except Conflict:
            return []
        except ClusterError as error:
            if error.status == 404:
                self._cluster.patch("ConfigMap", RECORD, {"data": {kind: None}})
                text = "Argo Rollouts is gone from this cluster: from now on plain rolling updates"
                return [EmitEvent("NoRollouts", text, True)]
            raise
        del self._missing_since[kind]
        return [
            EmitEvent("Repaired", f"{kind} {name} was deleted; it is back as it was applied", True)
        ]

    def _is_due(self, kind: str) -> bool:
        since = self._missing_since.setdefault(kind, self._clock())
        return self._clock() - since >= self._grace_s

    def _record(self) -> dict[str, str]:
        found = self._cluster.get("ConfigMap", RECORD)
        return dict((found or {}).get("data") or {})

    def _create_record(self, deployment: Object, data: Mapping[str, str]) -> None:
        metadata: Object = {"name": RECORD}
        pod = deployment["spec"]["template"].get("spec", {})
        owner = self._cluster.get("ServiceAccount", pod.get("serviceAccountName") or "default")
        if owner:
            metadata["ownerReferences"] = [
                {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                }
            ]
        try:
            self._cluster.create("ConfigMap", {"metadata": metadata, "data": dict(data)})
        except Conflict:
            self._cluster.patch("ConfigMap", RECORD, {"data": dict(data)})


def declared(found: Object) -> Object:
    """The object as it would be applied, with the promoter's own fields as they are now."""
    applied = _applied(found)
    body = applied if applied is not None else copy.deepcopy(dict(found))
    body.pop("status", None)
    kept = {k: v for k, v in body["metadata"].items() if k not in SERVERS_OWN}
    annotations = dict(kept.get("annotations") or {})
    own = (APPLIED_ANNOTATION, STABLE_ANNOTATION)
    annotations |= {
        name: value
        for name, value in (found["metadata"].get("annotations") or {}).items()
        if name in own
    }
    body["metadata"] = {**kept, "annotations": annotations}
    if "replicas" in found["spec"]:
        body["spec"]["replicas"] = found["spec"]["replicas"]
    if version := read_pinned_version(found):
        _pin(body, version)
    return body


def contains(live: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` is in `live` too, whatever else the server added.

    The number of replicas does not count: it belongs to the autoscaler.
    """
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            key in live and contains(live[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(contains(a, b) for a, b in zip(live, wanted, strict=True))
        )
    return bool(live == wanted)


def _applied(found: Object) -> Object | None:
    text = (found["metadata"].get("annotations") or {}).get(APPLIED_ANNOTATION)
    if not text:
        return None
    applied: Object = json.loads(text)
    applied.get("spec", {}).pop("replicas", None)
    return applied


def _pin(body: Object, version: str) -> None:
    template = body["spec"].setdefault("template", {})
    labels = template.setdefault("metadata", {}).setdefault("labels", {}) or {}
    template["metadata"]["labels"] = {**labels, VERSION_LABEL: version}


def _text(body: Object) -> str:
    return json.dumps(body, sort_keys=True)
