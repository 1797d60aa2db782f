"""`fbt doctor`: what is missing, broken, or waits for a person, each with its remedy."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

from components.promoter.workload import find_condition
from pipelines.cluster import (
    API_SERVICES,
    APP,
    KFP_API,
    OVERLAYS,
    PLATFORM,
    Requirement,
    list_requirements,
    list_secrets,
)
from pipelines.images import ImagesError, find_builder
from pipelines.kubectl import ClusterError, Kubectl
from pipelines.obstacles import event_time, is_ready
from pipelines.secret_keys import list_secret_keys
from pipelines.workload_health import PATHS, Health, Namespace, check_workload, find_failure

KUBERNETES = (1, 34)
"""The oldest, as in k8s/README.md."""
PROMOTER = "fbt-promoter"
IN_CLUSTER = re.compile(r"(http://([a-z0-9-]+)\.([a-z0-9-]+)\.svc:(\d+))")
"""Address of a Service."""
NOT_INSTALLED = "not installed"


class State(StrEnum):
    OK = "ok"
    WAITING = "waiting"
    """On its way, or for a person; nothing is broken."""
    FAILED = "FAILED"


@dataclass(frozen=True)
class Finding:
    name: str
    state: State
    text: str = ""
    remedy: str = ""
    """A command, or advice."""
    log: tuple[str, ...] = ()


def doctor(overlay: str, context: str = "", show: Callable[[str], None] = print) -> None:
    """Raises ClusterError if anything is missing or broken."""
    states = []
    for finding in run_checks(overlay, context):
        states.append(finding.state)
        for line in _format(finding):
            show(line)
    if n_failed := states.count(State.FAILED):
        raise ClusterError(f"doctor: {n_failed} of {len(states)} checks failed, see above")
    if n_waiting := states.count(State.WAITING):
        show(f"nothing is broken; {n_waiting} of {len(states)} wait")


def _format(finding: Finding) -> Iterator[str]:
    text = f": {finding.text}" if finding.text else ""
    yield f"{finding.state:<7}  {finding.name}{text}"
    if finding.state is State.OK:
        return
    yield from (f"         | {line}" for line in finding.log)
    if finding.remedy:
        yield f"         {finding.remedy}"


def run_checks(overlay: str, context: str) -> Iterator[Finding]:
    """Stops early if no cluster answers."""
    needed = list_requirements(overlay)
    yield _check_builder()
    found, remedy = bool(shutil.which("kubectl")), "install it from kubernetes.io"
    yield Finding("kubectl on this machine", _state(found), remedy=remedy)
    if found:
        with Kubectl(context).connected() as kubectl:
            yield from _check_all(kubectl, overlay, needed)


def _check_all(kubectl: Kubectl, overlay: str, needed: list[Requirement]) -> Iterator[Finding]:
    cluster = _guard("a cluster that answers", partial(_check_cluster, kubectl))
    yield replace(cluster, remedy=cluster.remedy or "kind create cluster --name fbt")
    if cluster.state is State.FAILED and not cluster.text.startswith("Kubernetes"):
        return
    for one in needed:
        yield from _check_requirement(kubectl, one)
    manifests = _render(kubectl, overlay)
    yield from _check_secrets(kubectl, overlay, manifests)
    yield from _check_own_workloads(kubectl, overlay, manifests)
    yield from _check_answers(kubectl)
    yield from _check_prometheus(kubectl, manifests)


def _state(is_ok: bool) -> State:
    return State.OK if is_ok else State.FAILED


def _guard(name: str, check: Callable[[], Finding]) -> Finding:
    """What cannot be asked is no reason to leave out the other checks."""
    try:
        return check()
    except ClusterError as error:
        return Finding(name, State.FAILED, _shorten(error))


def _check_builder() -> Finding:
    try:
        return Finding(f"{find_builder()}, to build images", State.OK)
    except ImagesError as error:
        return Finding("a builder of images", State.FAILED, remedy=str(error))


def _check_cluster(kubectl: Kubectl) -> Finding:
    name = "a cluster that answers"
    version = kubectl.read_object("/version") or {}
    text = f"Kubernetes {version.get('gitVersion', 'of an unknown version').removeprefix('v')}"
    numbers = [re.sub(r"\D", "", str(version.get(part, ""))) for part in ("major", "minor")]
    if all(numbers) and tuple(map(int, numbers)) < KUBERNETES:
        oldest = ".".join(map(str, KUBERNETES))
        return Finding(name, State.FAILED, text, f"upgrade it: expected {oldest} or newer")
    nodes = kubectl.list_objects("/api/v1/nodes")
    away = [one["metadata"]["name"] for one in nodes if not is_ready(one)]
    text = f"{text}, {len(nodes) - len(away)} of {len(nodes)} nodes ready"
    if away:
        return Finding(name, State.FAILED, text, f"kubectl describe node {away[0]}")
    return Finding(name, State.OK, text)


# ---------------------------------------------------------------- third-party software


def _check_requirement(kubectl: Kubectl, one: Requirement) -> Iterator[Finding]:
    name = f"{one.name} {one.version}, which {one.why}"
    main = _guard(name, lambda: _check_installed(kubectl, one, name))
    yield main
    namespace, wanted = one.workloads
    if main.text == NOT_INSTALLED or not namespace:
        return
    try:
        look = Namespace(kubectl, namespace)
        for name in look.workloads:
            health = check_workload(look, name)
            if not health.is_ready and (not wanted or name == f"deployment/{wanted}"):
                yield _from_health(look, health, "")
    except ClusterError as error:
        yield Finding(f"workloads of {namespace}", State.FAILED, _shorten(error))


def _check_installed(kubectl: Kubectl, one: Requirement, name: str) -> Finding:
    commands = " && ".join(kubectl.format_command(words) for words in one.install_commands)
    if kubectl.read(one.probe) is None:
        return Finding(name, State.FAILED, NOT_INSTALLED, commands)
    if one.probe.startswith(API_SERVICES) and (reason := _find_silence(kubectl, one.probe)):
        return Finding(name, State.FAILED, reason, "kubectl -n kube-system get pods")
    found = _read_version(kubectl, one)
    if found and _numbers(found) < _numbers(one.version):
        return Finding(name, State.FAILED, f"version {found}, expected {one.version}", commands)
    return Finding(name, State.OK, f"version {found}" if found and found != one.version else "")


def _find_silence(kubectl: Kubectl, path: str) -> str:
    """Why an aggregated API does not answer; empty if it does."""
    found = find_condition(kubectl.read_object(path) or {}, "Available")
    if found.get("status", "True") == "True":
        return ""
    return f"does not answer: {found.get('message', found.get('reason', ''))}"


def _read_version(kubectl: Kubectl, one: Requirement) -> str:
    """Empty where the cluster does not tell it."""
    path, pattern = one.version_at
    try:
        found = re.search(pattern, kubectl.read(path) or "")
    except ClusterError:
        return ""
    return found[1].strip(".") if found else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


# ---------------------------------------------------------------- our own


def _render(kubectl: Kubectl, overlay: str) -> list[dict[str, Any]]:
    """The objects of an overlay and its platform."""
    import yaml  # type: ignore[import-untyped]

    folders = (OVERLAYS / overlay / "platform", OVERLAYS / overlay)
    texts = [kubectl.run("kustomize", str(folder)) for folder in folders]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def _check_secrets(
    kubectl: Kubectl, overlay: str, manifests: list[dict[str, Any]]
) -> Iterator[Finding]:
    asked = list_secret_keys(manifests)
    for namespace, name in sorted({*asked, *list_secrets(overlay)}):
        keys = asked.get((namespace, name), set())
        check = partial(_check_secret, kubectl, overlay, namespace, name, keys)
        yield _guard(f"Secret {namespace}/{name}", check)


def _check_secret(
    kubectl: Kubectl, overlay: str, namespace: str, name: str, keys: set[str]
) -> Finding:
    title, up = f"Secret {namespace}/{name}", f"fbt cluster up --overlay {overlay}"
    found = kubectl.read_object(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    if found is None:
        return Finding(title, State.FAILED, "missing", f"{up}; by hand: k8s/README.md, Secrets")
    has = {key for key, value in (found.get("data") or {}).items() if value}
    if missing := sorted(keys - has):
        patch = json.dumps({"stringData": dict.fromkeys(missing, "…")}, ensure_ascii=False)
        remedy = f"kubectl -n {namespace} patch secret {name} --type merge -p '{patch}'"
        return Finding(title, State.FAILED, f"has no {', '.join(missing)}", remedy)
    return Finding(title, State.OK)


def _check_own_workloads(
    kubectl: Kubectl, overlay: str, manifests: list[dict[str, Any]]
) -> Iterator[Finding]:
    namespaces = {name: Namespace(kubectl, name) for name in (PLATFORM, APP)}
    install = f"fbt cluster up --overlay {overlay}"
    for one in manifests:
        where, kind = one["metadata"].get("namespace", ""), one["kind"].lower()
        if where not in namespaces:
            continue
        look, name = namespaces[where], one["metadata"]["name"]
        if one["kind"] in PATHS:
            check = partial(_check_own_workload, look, f"{kind}/{name}", install)
            yield _guard(f"{where}/{kind}/{name}", check)
        elif one["kind"] == "CronJob":
            yield _guard(f"{where}/{kind}/{name}", partial(_check_cron_job, look, name, install))


def _check_cron_job(namespace: Namespace, name: str, install: str) -> Finding:
    title = f"{namespace.name}/cronjob/{name}"
    if name not in namespace.cron_jobs:
        return Finding(title, State.FAILED, "missing", install)
    failure = find_failure(namespace, name)
    if failure is None:
        return Finding(title, State.OK)
    again = f"kubectl -n {namespace.name} create job {name}-again --from cronjob/{name}"
    text = f"its last run failed: {failure.text}"
    return Finding(title, State.FAILED, text, again, namespace.read_log(failure))


def _check_own_workload(namespace: Namespace, name: str, install: str) -> Finding:
    return _from_health(namespace, check_workload(namespace, name), install)


def _from_health(namespace: Namespace, health: Health, install: str) -> Finding:
    if health.is_ready or not health.is_present:
        return Finding(health.name, _state(health.is_ready), health.describe(), install)
    state = State.WAITING if health.is_harmless else State.FAILED
    first = health.obstacles[0]
    log = () if first.is_harmless else namespace.read_log(first)
    return Finding(health.name, state, health.describe(), first.remedy, log)


# ---------------------------------------------------------------- what servers say


def _check_answers(kubectl: Kubectl) -> Iterator[Finding]:
    kfp, logs = f"{KFP_API}/healthz", "kubectl -n kubeflow logs deploy/ml-pipeline"
    yield from _check_answer(kubectl, "the API of Kubeflow Pipelines", kfp, logs)
    mlflow = f"/api/v1/namespaces/{PLATFORM}/services/mlflow:5000/proxy/version"
    logs = f"kubectl -n {PLATFORM} logs deploy/mlflow -c mlflow"
    for answer in _check_answer(kubectl, "MLflow", mlflow, logs):
        yield answer
        if answer.state is State.OK:
            yield from _check_artifacts(kubectl)
    yield from _check_promoter(kubectl)


def _check_answer(kubectl: Kubectl, name: str, path: str, remedy: str) -> Iterator[Finding]:
    """Nothing for a server that is not there, which its workload's check says."""
    try:
        answer = kubectl.read(path)
    except ClusterError as error:
        # Why it has no pods that are ready stands above.
        state = State.WAITING if "no endpoints" in str(error) else State.FAILED
        yield Finding(name, state, f"no answer: {_shorten(error)}", remedy)
        return
    if answer is not None:
        version = re.search(r"\d+\.\d+\.\d+", answer)
        yield Finding(name, State.OK, f"answers, version {version[0]}" if version else "answers")


def _shorten(error: ClusterError) -> str:
    """Without the command, which only asked."""
    return str(error).rpartition("failed: ")[2] or str(error)


def _check_artifacts(kubectl: Kubectl) -> Iterator[Finding]:
    """By MLflow itself, whose pod has the keys; nothing where no command may be started there."""
    words = ("exec", "deploy/mlflow", "--namespace", PLATFORM, "--container", "mlflow")
    name = "MLflow's object store"
    try:
        kubectl.run(*words, "--", "python", "-c", _LIST_ARTIFACTS)
        yield Finding(name, State.OK, "MLflow lists it")
    except ClusterError as error:
        if "HTTP Error" in str(error):
            remedy = (
                f"keys in Secret, address and bucket in ConfigMap {PLATFORM}/fbt-object-store; "
                f"the reason: `kubectl -n {PLATFORM} logs deploy/mlflow -c mlflow`"
            )
            yield Finding(name, State.FAILED, "MLflow cannot list it", remedy)


_LIST_ARTIFACTS = (
    "import urllib.request as u; "
    "u.urlopen('http://127.0.0.1:5000/api/2.0/mlflow-artifacts/artifacts', timeout=20).read()"
)


def _check_prometheus(kubectl: Kubectl, manifests: list[dict[str, Any]]) -> Iterator[Finding]:
    """The one that judges canaries; nothing for an address outside of the cluster."""
    texts = [json.dumps(one) for one in manifests if one["kind"] == "AnalysisTemplate"]
    for address, name, namespace, port in sorted(set(IN_CLUSTER.findall(" ".join(texts)))):
        title = f"{address}, which judges canaries"
        path = f"/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy/-/ready"
        found = list(_check_answer(kubectl, title, path, f"kubectl -n {namespace} get pods"))
        remedy = (
            "without one every canary is inconclusive: `kubectl apply -k k8s/platform/prometheus`, "
            "or name yours as the argument `prometheus` of components/canary/analysis.yaml"
        )
        yield from found or [Finding(title, State.FAILED, "not there", remedy)]


def _check_promoter(kubectl: Kubectl) -> Iterator[Finding]:
    """Its latest Event; Kubernetes keeps them for an hour."""
    name = "the promoter's last Event"
    try:
        events = Namespace(kubectl, APP).events
    except ClusterError as error:
        yield Finding(name, State.FAILED, _shorten(error))
        return
    own = [one for one in events if (one.get("source") or {}).get("component") == PROMOTER]
    if own:
        last = max(own, key=event_time)
        calm = last.get("type") != "Warning" and last["reason"] != "NoChampion"
        text = f"{last['reason']}, {event_time(last)}: {last['message']}"
        remedy = f"kubectl -n {APP} get events --sort-by .lastTimestamp"
        yield Finding(name, State.OK if calm else State.WAITING, text, remedy)
