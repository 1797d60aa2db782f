"""Reads the state of a rollout off the objects of the cluster.

The promoter owns the label VERSION_LABEL of the Deployment's pod template. It is in no manifest, so
that `kubectl apply` never resets it; pods read it through the downward API.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from components.promoter.decide import Phase, Workload
from components.promoter.fetch import DAMAGED

Object = Mapping[str, Any]

VERSION_LABEL = "fbt/model-version"
STABLE_ANNOTATION = "fbt/stable-version"
BUNDLE_IMAGE_ANNOTATION = "fbt/bundle-image"
"""The Deployment's: name of the images that carry bundles, tagged by version; see
k8s/components/bundle-image."""
FETCH = "fetch"
"""Init container."""
POD_HASH_LABEL = "rollouts-pod-template-hash"
"""Argo's label of ReplicaSets and pods."""
REVISION_ANNOTATION = "rollout.argoproj.io/revision"
HANDED_OVER_ANNOTATION = "fbt/replicas-handed-over"
"""On the Deployment: uid of the Rollout that began with as many replicas."""
MAX_MESSAGE = 500


def refers_to(rollout: Object, deployment: Object) -> bool:
    reference = rollout["spec"].get("workloadRef") or {}
    return bool(reference.get("name") == deployment["metadata"]["name"])


def workload_from_rollout(
    deployment: Object, rollout: Object, replica_sets: Iterable[Object], pods: Iterable[Object]
) -> Workload:
    workload = _read_rollout_progress(deployment, rollout, replica_sets, pods)
    own, uid = deployment["spec"].get("replicas", 1), rollout["metadata"].get("uid", "")
    annotations = deployment["metadata"].get("annotations") or {}
    has_fewer = rollout["spec"].get("replicas", 1) < own
    to_hand_over = has_fewer and annotations.get(HANDED_OVER_ANNOTATION) != uid
    return replace(
        workload,
        is_new=workload.phase is Phase.MOVING and _is_first_revision(rollout),
        own_pods=own,
        hand_over_to=uid if to_hand_over else "",
    )


def _read_rollout_progress(
    deployment: Object, rollout: Object, replica_sets: Iterable[Object], pods: Iterable[Object]
) -> Workload:
    versions = {_read_pod_hash(owner): read_pinned_version(owner) for owner in replica_sets}
    status = rollout.get("status", {})
    pinned, stable_hash = read_pinned_version(deployment), status.get("stableRS", "")
    if stable_hash and stable_hash not in versions:
        message = f"the ReplicaSet of the stable hash {stable_hash} is not there (yet)"
        return Workload("Rollout", pinned, "", Phase.UNKNOWN, message)
    current = versions.get(status.get("currentPodHash", ""))
    stable = versions.get(stable_hash, "")
    if current != pinned or _is_behind(deployment, rollout):
        message = "Argo Rollouts has not observed the template yet"
        return Workload("Rollout", pinned, stable, Phase.MOVING, message)
    phase, message = _find_rollout_phase(rollout, pinned, stable, pods)
    is_first = bool(pinned and stable_hash and not stable and not status.get("promoteFull"))
    return Workload("Rollout", pinned, stable, phase, message[:MAX_MESSAGE], is_first)


def workload_from_deployment(deployment: Object, pods: Iterable[Object]) -> Workload:
    """A plain rolling update."""
    pinned = read_pinned_version(deployment)
    stable = deployment["metadata"].get("annotations", {}).get(STABLE_ANNOTATION, "")
    phase, message = _find_deployment_phase(deployment, pinned, stable, pods)
    return Workload("Deployment", pinned, stable, phase, message[:MAX_MESSAGE])


def read_pinned_version(owner: Object) -> str:
    """Of a Deployment or ReplicaSet; may be empty."""
    template = owner["spec"].get("template", {})
    if any(
        is_image_without_reference(one) for one in template.get("spec", {}).get("volumes") or []
    ):
        return ""  # Pods cannot start, whatever the label says.
    labels = template.get("metadata", {}).get("labels") or {}
    return str(labels.get(VERSION_LABEL, ""))


def build_pin(deployment: Object, version: str) -> dict[str, Any]:
    """The change of the pod template that brings a version to the pods."""
    pin: dict[str, Any] = {"metadata": {"labels": {VERSION_LABEL: version}}}
    annotations = deployment["metadata"].get("annotations") or {}
    if image := annotations.get(BUNDLE_IMAGE_ANNOTATION):
        # All volumes: a merge patch replaces lists.
        volumes = deployment["spec"]["template"]["spec"].get("volumes") or []
        pin["spec"] = {"volumes": [_refer_to(one, f"{image}:{version}") for one in volumes]}
    return pin


def is_image_without_reference(volume: Object) -> bool:
    return "image" in volume and not volume["image"].get("reference")


def _refer_to(volume: Object, reference: str) -> Object:
    if "image" not in volume:
        return volume
    return {**volume, "image": {**volume["image"], "reference": reference}}


def find_fetch_failure(pods: Iterable[Object], version: str) -> str:
    """Message of an init container that found the bundle damaged; may be empty."""
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        if labels.get(VERSION_LABEL) != version or "deletionTimestamp" in pod["metadata"]:
            continue
        for container in pod.get("status", {}).get("initContainerStatuses") or []:
            for state in (container.get("state", {}), container.get("lastState", {})):
                ended = state.get("terminated") or {}
                if container["name"] == FETCH and ended.get("exitCode") == DAMAGED:
                    return str(ended.get("message") or "its bundle is missing or damaged").strip()
    return ""


def _find_rollout_phase(
    rollout: Object, pinned: str, stable: str, pods: Iterable[Object]
) -> tuple[Phase, str]:
    status = rollout.get("status", {})
    phase, message = status.get("phase", ""), status.get("message", "")
    progress = find_condition(rollout, "Progressing")
    if phase == "Healthy" and status.get("currentPodHash") == status.get("stableRS"):
        return Phase.DONE, ""
    if pinned != stable:
        late = progress.get("reason") == "ProgressDeadlineExceeded"
        if status.get("abort") and not late:
            reason = _find_abort_reason(progress)
            return (Phase.FAILED, reason) if reason else (Phase.ABORTED, "")
        if status.get("abort") or (phase == "Degraded" and late):
            return Phase.FAILED, progress.get("message") or "its pods did not get ready in time"
        if failure := find_fetch_failure(pods, pinned):
            return Phase.FAILED, failure
    if phase == "Paused":
        return Phase.PAUSED, _join_pause_reasons(status) or message
    return Phase.MOVING, message


def _find_abort_reason(progress: Object) -> str:
    """Of an analysis; empty when a person aborted, which Argo gives no reason for."""
    if progress.get("reason") != "RolloutAborted":
        return ""
    return str(progress.get("message", "")).partition(": ")[2]


def _is_first_revision(rollout: Object) -> bool:
    """On its way: Argo calls the first revision stable at once, before a pod is ready."""
    annotations: Object = rollout["metadata"].get("annotations") or {}
    is_first = bool(annotations.get(REVISION_ANNOTATION, "1") == "1")
    return is_first and bool(rollout.get("status", {}).get("phase", "") != "Degraded")


def _find_deployment_phase(
    deployment: Object, pinned: str, stable: str, pods: Iterable[Object]
) -> tuple[Phase, str]:
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    if wanted == 0:
        return Phase.IDLE, (
            "the Deployment is scaled to 0 and no Rollout refers to it; apply the Rollout again, "
            "or scale the Deployment up"
        )
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return Phase.MOVING, "the Deployment controller has not observed it yet"
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    if counts == [wanted] * 3:
        return Phase.DONE, ""
    progress = find_condition(deployment, "Progressing")
    if pinned != stable:
        if progress.get("reason") == "ProgressDeadlineExceeded":
            return Phase.FAILED, progress.get("message", "its pods did not get ready in time")
        if failure := find_fetch_failure(pods, pinned):
            return Phase.FAILED, failure
    return Phase.MOVING, progress.get("message", "")


def _is_behind(deployment: Object, rollout: Object) -> bool:
    """An abort in a status older than the specs may be of another version."""
    status = rollout.get("status", {})
    for name, owner in (
        ("observedGeneration", rollout),
        ("workloadObservedGeneration", deployment),
    ):
        observed = str(status.get(name, ""))
        if observed.isdigit() and int(observed) < owner["metadata"].get("generation", 0):
            return True
    return False


def _join_pause_reasons(status: Object) -> str:
    conditions = status.get("pauseConditions") or []
    return ", ".join(one["reason"] for one in conditions if one.get("reason"))


def find_condition(owner: Object, kind: str) -> Object:
    """Of any object; empty where it has none of that kind."""
    for one in (owner.get("status") or {}).get("conditions") or []:
        if one["type"] == kind:
            return dict(one)
    return {}


def _read_pod_hash(replica_set: Object) -> str:
    return str(replica_set["metadata"].get("labels", {}).get(POD_HASH_LABEL, ""))
