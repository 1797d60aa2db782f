"""What keeps a pod from being ready, as its status and its Events have it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from components.promoter.workload import VERSION_LABEL, find_condition

Object = dict[str, Any]

SERVICE_LABELS = {"app.kubernetes.io/name": "fbt", "app.kubernetes.io/component": "service"}
"""Of pods that wait for the promoter's label."""

IMAGE_REASONS = (
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
    "ImageInspectError", "RegistryUnavailable",
)  # fmt: skip
CREATE_REASONS = ("CreateContainerError", "RunContainerError", "ContainerCannotRun", "StartError")
MOUNT_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
SANDBOX_EVENT = "FailedCreatePodSandBox"
PROBE_CODES = (137, 143)
"""Of a container that the kubelet ended, for a failing liveness probe or for its memory."""
MAX_TEXT = 300
"""Characters of a message; a runtime's own may fill a screen."""


class Kind(StrEnum):
    PROGRESS = "progress"
    """No fault."""
    CHAMPION = "champion"
    """Waits for a promotion; no fault."""
    UNREADY = "unready"
    """Runs, and its probe fails."""
    IMAGE = "image"
    CONFIG = "config"
    """A Secret or ConfigMap, or a key of one, is missing."""
    CREATE = "create"
    """The container runtime refuses."""
    CRASH = "crash"
    SCHEDULE = "schedule"
    VOLUME = "volume"
    REFUSED = "refused"
    """The API server lets no pod in: quota, pod security, admission."""
    EVICTED = "evicted"
    ROLLOUT = "rollout"
    """Argo Rollouts aborted it."""


HARMLESS = (Kind.PROGRESS, Kind.CHAMPION)


@dataclass(frozen=True)
class Obstacle:
    kind: Kind
    text: str
    remedy: str = ""
    """A command, or advice."""
    pod: str = ""
    container: str = ""
    n_restarts: int = 0
    is_previous: bool = True
    """Whether its log is that of the container before the present one."""
    log: tuple[str, ...] = ()
    """Its last lines, where the status has them."""

    @property
    def is_harmless(self) -> bool:
        return self.kind in HARMLESS


def find_obstacle(pod: Object, events: Sequence[Object], claims: Sequence[Object] = ()) -> Obstacle:
    """Of a pod that is not ready; `events` and `claims` are those of its namespace."""
    own = [event for event in events if event["involvedObject"].get("name") == _name(pod)]
    if pod["metadata"].get("deletionTimestamp"):
        return Obstacle(Kind.PROGRESS, f"pod {_name(pod)} ends", pod=_name(pod))
    if _waits_for_champion(pod):
        text = "the alias champion is on no version yet, and these pods wait for one"
        return Obstacle(Kind.CHAMPION, text, "fbt promote VERSION", _name(pod))
    if pod.get("status", {}).get("phase") == "Failed":
        return _describe_failed(pod)
    scheduling = find_condition(pod, "PodScheduled")
    if scheduling.get("status") == "False":
        return _describe_unscheduled(pod, scheduling, events, claims)
    for one in _container_obstacles(pod, own):
        return one
    return Obstacle(Kind.PROGRESS, f"pod {_name(pod)} starts", pod=_name(pod))


def find_refusal(workload: Object, events: Sequence[Object]) -> Obstacle | None:
    """Why the API server lets no pods of a workload in."""
    condition = find_condition(workload, "ReplicaFailure")
    message = condition["message"] if condition.get("status") == "True" else ""
    if not message and workload["kind"] != "Deployment":
        own = [one for one in events if one["involvedObject"].get("uid") == _uid(workload)]
        message = _last_message(own, ("FailedCreate",))
    if not message:
        return None
    return Obstacle(Kind.REFUSED, f"no pod gets in: {_shorten(message)}", _explain(message))


def tail(text: str, n_lines: int = 5) -> tuple[str, ...]:
    # Without the carets of Python's tracebacks.
    lines = [line.rstrip() for line in text.splitlines() if line.strip(" ^~")]
    return tuple(line[:300] for line in lines[-n_lines:])


def is_ready(one: Object) -> bool:
    """A pod or a node."""
    return bool(find_condition(one, "Ready").get("status") == "True")


def _waits_for_champion(pod: Object) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return SERVICE_LABELS.items() <= labels.items() and not labels.get(VERSION_LABEL)


def _describe_failed(pod: Object) -> Obstacle:
    status = pod["status"]
    reason, message = status.get("reason", "Failed"), status.get("message", "")
    for one in _container_obstacles(pod, ()):
        if not message:
            return one
    remedy = f"kubectl -n {_namespace(pod)} describe pod {_name(pod)}"
    text = f"pod {_name(pod)}: {reason}: {_shorten(message)}"
    return Obstacle(Kind.EVICTED, text, remedy, _name(pod))


def _describe_unscheduled(
    pod: Object,
    condition: Mapping[str, Any],
    events: Sequence[Object],
    claims: Sequence[Object],
) -> Obstacle:
    for claim in _unbound_claims(pod, claims):
        own = [one for one in events if one["involvedObject"].get("uid") == _uid(claim)]
        message = _last_message(own, ("ProvisioningFailed", "FailedBinding"))
        if message:
            text = f"pod {_name(pod)}: its claim {_name(claim)} has no volume: {_shorten(message)}"
            remedy = (
                "name a StorageClass in the claim, or mark one as the default: "
                f"`kubectl get storageclass`, `kubectl -n {_namespace(pod)} describe pvc "
                f"{_name(claim)}`"
            )
            return Obstacle(Kind.VOLUME, text, remedy, _name(pod))
    if condition.get("reason") != "Unschedulable":
        return Obstacle(Kind.PROGRESS, f"pod {_name(pod)} waits for a node", pod=_name(pod))
    text = f"pod {_name(pod)} fits on no node: {_shorten(condition.get('message', ''))}"
    remedy = "add a node, or lower the requests in the overlay; `kubectl describe nodes`"
    return Obstacle(Kind.SCHEDULE, text, remedy, _name(pod))


def _unbound_claims(pod: Object, claims: Sequence[Object]) -> Iterator[Object]:
    volumes = pod["spec"].get("volumes") or []
    names = {one["persistentVolumeClaim"]["claimName"] for one in volumes
             if "persistentVolumeClaim" in one}  # fmt: skip
    for claim in claims:
        if _name(claim) in names and claim.get("status", {}).get("phase") != "Bound":
            yield claim


def _container_obstacles(pod: Object, events: Sequence[Object]) -> Iterator[Obstacle]:
    status = pod.get("status", {})
    # Init containers run one after the other: the first that is not done is the obstacle.
    for title, field in (
        ("init container", "initContainerStatuses"),
        ("container", "containerStatuses"),
    ):
        for one in status.get(field) or []:
            where = f"pod {_name(pod)}, {title} {one['name']}"
            if found := _describe_container(pod, one, where, title != "container", events):
                yield found


def _describe_container(
    pod: Object, status: Object, where: str, is_init: bool, events: Sequence[Object]
) -> Obstacle | None:
    state = status.get("state") or {}
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated")
    if _is_done(status, is_init):
        return None
    waiting = state.get("waiting") or {}
    reason, message = waiting.get("reason", ""), _shorten(waiting.get("message", ""))
    pod_and_container = {"pod": _name(pod), "container": status["name"]}
    if reason in IMAGE_REASONS:
        text = f"{where}: {reason} of {status['image']}: {message}"
        return Obstacle(Kind.IMAGE, text, _explain_image(status["image"]), **pod_and_container)
    if reason == "CreateContainerConfigError":
        text = f"{where}: {message}"
        return Obstacle(Kind.CONFIG, text, _explain_config(pod, message), **pod_and_container)
    if reason in CREATE_REASONS:
        remedy = f"kubectl -n {_namespace(pod)} describe pod {_name(pod)}"
        return Obstacle(Kind.CREATE, f"{where}: {reason}: {message}", remedy, **pod_and_container)
    if ended and (ended.get("exitCode") or reason == "CrashLoopBackOff"):
        return _describe_crash(pod, status, ended, where, events)
    if "running" in state:
        return _describe_running(pod, status, where, is_init, events)
    return _describe_creation(pod, where, events)


def _is_done(status: Object, is_init: bool) -> bool:
    ended = (status.get("state") or {}).get("terminated")
    return bool(status.get("ready") or (is_init and ended and ended.get("exitCode") == 0))


def _describe_crash(
    pod: Object, status: Object, ended: Object, where: str, events: Sequence[Object]
) -> Obstacle:
    n_restarts = int(status.get("restartCount") or 0)
    times = f", started {n_restarts + 1} times" if n_restarts else ""
    show_log = f"kubectl -n {_namespace(pod)} logs {_name(pod)} -c {status['name']} --previous"
    remedy = f"the whole log: `{show_log}`"
    text = f"{where} ended with code {ended.get('exitCode')}{times}"
    if ended.get("reason") == "OOMKilled":
        limit = _memory_limit(pod, status["name"])
        text = f"{where} was killed for memory, its limit is {limit}{times}"
        remedy = "raise resources.limits.memory of this container in the overlay"
    elif ended.get("exitCode") in PROBE_CODES and (killed := _last_message(events, ("Killing",))):
        text = f"{text}; {_shorten(killed)}"
    is_previous = "terminated" not in (status.get("state") or {})
    log = tail(ended.get("message") or "")
    return Obstacle(
        Kind.CRASH, text, remedy, _name(pod), status["name"], n_restarts, is_previous, log
    )


def _describe_running(
    pod: Object, status: Object, where: str, is_init: bool, events: Sequence[Object]
) -> Obstacle:
    probe = "" if is_init else _last_message(events, ("Unhealthy",))
    # Until it has started, a probe that fails only tells that it has not.
    kind = Kind.UNREADY if probe and status.get("started") else Kind.PROGRESS
    text = f"{where} runs: {_shorten(probe)}" if probe else f"{where} runs"
    return Obstacle(kind, text, pod=_name(pod), container=status["name"])


def _describe_creation(pod: Object, where: str, events: Sequence[Object]) -> Obstacle:
    name, namespace = _name(pod), _namespace(pod)
    if message := _last_message(events, MOUNT_EVENTS):
        remedy = _explain_config(pod, message)
        return Obstacle(Kind.CONFIG, f"pod {name}: {_shorten(message)}", remedy, name)
    if message := _last_message(events, (SANDBOX_EVENT,)):
        remedy = f"the cluster's network or runtime: `kubectl -n {namespace} describe pod {name}`"
        return Obstacle(Kind.CREATE, f"pod {name}: {_shorten(message)}", remedy, name)
    if message := _last_message(events, ("Pulling", "Pulled"), only="Pulling"):
        return Obstacle(Kind.PROGRESS, f"pod {name}: {_shorten(message)}", pod=name)
    return Obstacle(Kind.PROGRESS, f"{where} is created", pod=name)


def _explain(message: str) -> str:
    if "quota" in message:
        return "raise the quota, or lower requests and replicas in the overlay"
    if "PodSecurity" in message:
        return "the pod asks for more than the namespace's pod security standard allows"
    if "limitranges" in message.lower() or "usage per" in message:
        return "change the namespace's LimitRange, or the resources in the overlay"
    return "`kubectl apply -k` the overlay again, or ask whoever runs the cluster's admission"


def _explain_image(image: str) -> str:
    registry, _, name = image.removeprefix("docker.io/library/").rpartition("/")
    if name.startswith("fbt-"):
        if registry:
            return (
                f"`fbt images --registry {registry} --push`; a registry that asks for a login "
                "needs an imagePullSecret"
            )
        return (
            "`fbt images`, then load the image into the cluster "
            f"(kind: `kind load docker-image {name}`), or name a registry in `images:` of the "
            "overlay"
        )
    return "bring the image to where the nodes reach it, and name it in `images:` of the overlay"


def _explain_config(pod: Object, message: str) -> str:
    if "secret" in message.lower():
        return (
            f"`kubectl -n {_namespace(pod)} get secrets`; `fbt cluster up` makes those that it can "
            "generate, k8s/README.md has the commands for the others"
        )
    return f"kubectl -n {_namespace(pod)} describe pod {_name(pod)}"


def _memory_limit(pod: Object, container: str) -> str:
    spec = pod.get("spec", {})
    for one in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if one["name"] == container:
            limits = (one.get("resources") or {}).get("limits") or {}
            return str(limits.get("memory", "none of its own"))
    return "unknown"


def _last_message(events: Iterable[Object], reasons: Sequence[str], only: str = "") -> str:
    """Of the latest Event with one of the reasons; empty unless that is `only`."""
    found = sorted((one for one in events if one.get("reason") in reasons), key=event_time)
    if not found or (only and found[-1]["reason"] != only):
        return ""
    return str(found[-1].get("message") or "")


def event_time(event: Object) -> str:
    """ISO 8601."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((str(one) for one in times if one), event["metadata"].get("creationTimestamp", ""))


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else f"{line[:MAX_TEXT]}…"


def _name(one: Object) -> str:
    return str(one["metadata"]["name"])


def _namespace(one: Object) -> str:
    return str(one["metadata"].get("namespace", ""))


def _uid(one: Object) -> str:
    return str(one["metadata"].get("uid", ""))
