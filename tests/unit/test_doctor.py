"""`fbt doctor` and the waiting of `fbt cluster up`: the real kubectl, against a fake API server.

`tests/cluster` has the same faults on a real one.
"""

import os
from pathlib import Path

import pytest
import yaml

from pipelines.cluster import KFP_API, OVERLAYS, list_secrets
from pipelines.doctor import KUBERNETES, State, doctor, run_checks
from pipelines.kubectl import ClusterError, Kubectl
from pipelines.obstacles import Kind
from pipelines.readiness import PATIENCE_S, Watch, wait_until_ready
from pipelines.secret_keys import list_secret_keys
from pipelines.workload_health import PATHS, Namespace, check_workload
from tests.fakes import FakeKubernetes
from tests.manifests.conftest import kubectl as kubectl_path
from tests.manifests.conftest import rendered

pytestmark = pytest.mark.skipif(not kubectl_path(), reason="needs kubectl")

NOW = "2026-11-30T12:00:00Z"


class Cluster(FakeKubernetes):
    """`pages` answer paths by themselves: logs, servers behind the proxy."""

    def __init__(self):
        super().__init__()
        self.pages = {
            "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.3"},
            "/api/v1/nodes": {"items": [{"metadata": {"name": "one"}, "status": READY}]},
        }

    def answer(self, handler, method, path, query, body, kind):
        page = self.pages.get(path)
        if page is None:
            return super().answer(handler, method, path, query, body, kind)
        if isinstance(page, int):
            return page, {"kind": "Status", "status": "Failure", "code": page,
                          "reason": "ServiceUnavailable", "message": "no endpoints"}  # fmt: skip
        return 200, page

    def put(self, namespace, plural, name, **fields):
        metadata = {"name": name, "namespace": namespace, "uid": f"{plural}-{name}"}
        one = {**fields, "metadata": {**metadata, **fields.get("metadata", {})}}
        self.objects[namespace, plural, name] = one
        return one

    def install(self, overlay):
        """What an overlay renders to, ready, with its Secrets and what it requires."""
        manifests = [*rendered(f"overlays/{overlay}/platform"), *rendered(f"overlays/{overlay}")]
        for one in manifests:
            if one["kind"] in PATHS:
                self.put(one["metadata"]["namespace"], f"{one['kind'].lower()}s", **ready(one))
            if one["kind"] == "CronJob":
                self.put(one["metadata"]["namespace"], "cronjobs", one["metadata"]["name"])
        keys = list_secret_keys(manifests)
        for namespace, name in {*keys, *list_secrets(overlay)}:
            data = dict.fromkeys(keys.get((namespace, name), ()), "eA==")
            self.put(namespace, "secrets", name, data=data)
        pipeline = {"metadata": {"name": "ml-pipeline"}, "spec": {"replicas": 1}}
        self.put("kubeflow", "deployments", **ready(pipeline))
        self.pages[f"{KFP_API}/healthz"] = {"tag_name": "2.17.0"}
        mlflow = "/api/v1/namespaces/fbt-platform/services/mlflow:5000/proxy/version"
        self.pages[mlflow] = b"3.17.0"
        service = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
        available = {"type": "Available", "status": "True"}
        self.pages[service] = {"status": {"conditions": [available]}}

    def break_workload(self, namespace, plural, name, *pods, **status):
        found = self.objects[namespace, plural, name]
        found["status"] = {"observedGeneration": 1, **status}
        labels = found["spec"].get("selector", {}).get("matchLabels") or {"app": name}
        found["spec"]["selector"] = {"matchLabels": labels}
        for number, pod in enumerate(pods):
            self.put(namespace, "pods", f"{name}-{number}", spec={"containers": []},
                     **{"status": pod, "metadata": {"labels": labels}})  # fmt: skip

    def add_event(self, namespace, about, reason, message, at=NOW, **fields):
        event = {
            "involvedObject": {"name": about, "uid": fields.pop("uid", "")},
            **{"reason": reason, "message": message, "lastTimestamp": at},
        }
        self.put(namespace, "events", f"{about}.{len(self.objects)}", **event, **fields)


READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def ready(one):
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    status = {"observedGeneration": 1, "phase": "Healthy", **dict.fromkeys(counts, 1)}
    return {
        "name": one["metadata"]["name"],
        "spec": {**one["spec"], "replicas": 1},
        "status": status,
        "metadata": {"generation": 1},
    }


@pytest.fixture
def kubectl(cluster):
    with Kubectl().connected() as connected:
        assert connected.proxy
        yield connected


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    with Cluster().running() as fake:
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": fake.url}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": ""}}],
        }  # fmt: skip
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        folder = str(Path(kubectl_path()).parent)
        monkeypatch.setenv("PATH", os.pathsep.join([folder, os.environ["PATH"]]))
        yield fake


def checks(overlay="local"):
    return {one.name: one for one in run_checks(overlay, "")}


def waiting(container, reason, message="", title="containerStatuses", **fields):
    """A pod's status."""
    status = {"name": container, "image": "fbt-serve:0.1.0", "ready": False, "restartCount": 0,
              "state": {"waiting": {"reason": reason, "message": message}}, **fields}  # fmt: skip
    return {"phase": "Pending", title: [status]}


def ended(code, message="", **fields):
    return {"terminated": {"exitCode": code, "message": message, **fields}}


def test_a_healthy_cluster_has_nothing_to_say(cluster):
    cluster.install("local")
    builder, *others = run_checks("local", "")
    assert "build" in builder.name
    assert {one.state for one in others} == {State.OK}
    found = {one.name: one for one in others}
    assert found["a cluster that answers"].text == "Kubernetes 1.36.3, 1 of 1 nodes ready"
    assert found["MLflow"].text == "answers, version 3.17.0"


def test_what_is_there_and_crashes_is_not_fine(cluster):
    cluster.install("local")
    crashed = waiting("ml-pipeline-api-server", "CrashLoopBackOff", restartCount=6,
                      lastState=ended(1))  # fmt: skip
    cluster.break_workload("kubeflow", "deployments", "ml-pipeline", crashed, replicas=1)
    log = "/api/v1/namespaces/kubeflow/pods/ml-pipeline-0/log"
    cluster.pages[log] = b"F1130 client_manager.go: dial tcp: connect: connection refused\n"
    cluster.pages[f"{KFP_API}/healthz"] = 503
    found = checks()
    broken = found["kubeflow/deployment/ml-pipeline"]
    assert broken.state is State.FAILED
    assert "0 of 1 ready; pod ml-pipeline-0, container ml-pipeline-api-server ended" in broken.text
    assert "started 7 times" in broken.text
    assert broken.log == ("F1130 client_manager.go: dial tcp: connect: connection refused",)
    answer = found["the API of Kubeflow Pipelines"]
    assert (answer.state, "no endpoints" in answer.text) == (State.WAITING, True)
    said = []
    with pytest.raises(ClusterError, match=r"doctor: \d of \d+ checks failed"):
        doctor("local", show=said.append)
    assert "         | F1130 client_manager.go: dial tcp: connect: connection refused" in said


def test_pods_without_a_champion_wait_and_are_not_broken(cluster):
    cluster.install("local")
    fetch = waiting("fetch", "CrashLoopBackOff", title="initContainerStatuses", restartCount=9,
                    lastState=ended(78, "fetch: FBT_MODEL_VERSION is empty"))  # fmt: skip
    cluster.break_workload("fbt", "deployments", "fbt", fetch, replicas=1)
    found = checks()["fbt/deployment/fbt"]
    assert found.state is State.WAITING
    assert found.remedy == "fbt promote VERSION"


def test_a_pinned_version_that_cannot_be_fetched_is_broken(cluster):
    cluster.install("local")
    message = (
        "fetch: the bundle of version 7 has 5,000,000,000 bytes, /bundle may hold 4,294,967,296"
    )
    fetch = waiting("fetch", "CrashLoopBackOff", title="initContainerStatuses", restartCount=2,
                    lastState=ended(78, message))  # fmt: skip
    cluster.break_workload("fbt", "deployments", "fbt", fetch, replicas=1)
    cluster.objects["fbt", "pods", "fbt-0"]["metadata"]["labels"]["fbt/model-version"] = "7"
    found = checks()["fbt/deployment/fbt"]
    assert (found.state, found.log) == (State.FAILED, (message,))


def test_a_secret_without_a_key_is_named_with_the_key(cluster):
    cluster.install("local")
    del cluster.objects["fbt-platform", "secrets", "fbt-mlflow-database"]["data"]["password"]
    del cluster.objects["fbt", "secrets", "fbt-admin"]
    found = checks()
    database = found["Secret fbt-platform/fbt-mlflow-database"]
    assert (database.state, database.text) == (State.FAILED, "has no password")
    assert "patch secret fbt-mlflow-database --type merge" in database.remedy
    assert found["Secret fbt/fbt-admin"].text == "missing"
    assert "fbt cluster up --overlay local" in found["Secret fbt/fbt-admin"].remedy


@pytest.mark.parametrize("overlay", ["local", "staging", "production"])
def test_the_keys_that_manifests_ask_for_are_those_that_are_generated(overlay):
    manifests = [*rendered(f"overlays/{overlay}/platform"), *rendered(f"overlays/{overlay}")]
    asked = list_secret_keys(manifests)
    assert asked["fbt-platform", "fbt-mlflow-database"] >= {"uri"}
    no_cluster = Kubectl()
    for place, make in list_secrets(overlay).items():
        if place in asked and make.__name__ == "<lambda>":
            assert asked[place] <= set(make(no_cluster)), place


def test_old_software_is_named_with_both_versions(cluster):
    cluster.install("local")
    cluster.pages["/version"] = {"major": "1", "minor": "31+", "gitVersion": "v1.31.2"}
    cluster.pages[f"{KFP_API}/healthz"] = {"tag_name": "2.5.0"}
    found = checks()
    assert found["a cluster that answers"].text == "Kubernetes 1.31.2"
    assert "expected 1.34 or newer" in found["a cluster that answers"].remedy
    kfp = next(one for name, one in found.items() if name.startswith("Kubeflow"))
    assert (kfp.state, kfp.text) == (State.FAILED, "version 2.5.0, expected 2.17.0")


def test_metrics_that_nobody_answers_for(cluster):
    cluster.install("local")
    service = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
    away = {"type": "Available", "status": "False", "message": "endpoints not found"}
    cluster.pages[service] = {"status": {"conditions": [away]}}
    found = next(one for name, one in checks().items() if name.startswith("metrics-server"))
    assert (found.state, found.text) == (State.FAILED, "does not answer: endpoints not found")


def test_what_is_missing_is_said_with_its_command(cluster):
    said = []
    with pytest.raises(ClusterError, match="checks failed"):
        doctor("staging", show=said.append)
    text = "\n".join(said)
    assert "FAILED   Argo Rollouts 1.9.1, which moves traffic to a canary: not installed" in text
    assert "kubectl apply --namespace argo-rollouts -f https://github.com/argoproj" in text
    assert "ok       a cluster that answers: Kubernetes 1.36.3" in text


def test_a_nightly_job_that_failed_is_named_with_its_log(cluster):
    cluster.install("local")
    owner = {"kind": "CronJob", "name": "fbt-events-compact"}
    for number, (hour, kind) in enumerate([("01", "Failed"), ("02", "Complete")]):
        cluster.put(
            "fbt", "jobs", f"compact-{number}",
            metadata={
                "ownerReferences": [owner], "creationTimestamp": f"2026-11-30T{hour}:00:00Z",
            },
            spec={"selector": {"matchLabels": {"job-name": f"compact-{number}"}}},
            status={"conditions": [{"type": kind, "status": "True"}]},
        )  # fmt: skip
    name = "fbt/cronjob/fbt-events-compact"
    assert checks()[name].state is State.OK
    del cluster.objects["fbt", "jobs", "compact-1"]
    status = {"name": "compact", "image": "fbt-serve:0.1.0", "ready": False, "restartCount": 0,
              "state": ended(1)}  # fmt: skip
    cluster.put(
        "fbt", "pods", "compact-0-x", metadata={"labels": {"job-name": "compact-0"}},
        spec={"containers": []}, status={"phase": "Failed", "containerStatuses": [status]},
    )  # fmt: skip
    cluster.pages["/api/v1/namespaces/fbt/pods/compact-0-x/log"] = b"fbt: no such bucket\n"
    found = checks()[name]
    assert found.state is State.FAILED
    assert "its last run failed: pod compact-0-x, container compact ended with code 1" in found.text
    assert found.log == ("fbt: no such bucket",)
    assert found.remedy == (
        "kubectl -n fbt create job fbt-events-compact-again --from cronjob/fbt-events-compact"
    )
    del cluster.objects["fbt", "cronjobs", "fbt-events-compact"]
    assert checks()[name].text == "missing"


def test_the_prometheus_that_judges_canaries_is_asked(cluster):
    cluster.install("staging")
    name = "http://prometheus-operated.monitoring.svc:9090, which judges canaries"
    assert "every canary is inconclusive" in checks("staging")[name].remedy
    path = "/api/v1/namespaces/monitoring/services/prometheus-operated:9090/proxy/-/ready"
    cluster.pages[path] = b"Prometheus Server is Ready."
    assert checks("staging")[name].state is State.OK
    assert name not in checks("local")


def test_no_cluster_ends_the_list(cluster):
    cluster.down = True
    *_, last = checks().values()
    assert (last.name, last.state) == ("a cluster that answers", State.FAILED)
    assert "kind create cluster" in last.remedy


def test_the_promoters_last_event_is_shown(cluster):
    cluster.install("local")
    by = {"source": {"component": "fbt-promoter"}}
    cluster.add_event("fbt", "fbt", "VersionLive", "version 6 serves", **by)
    later = {"at": "2026-11-30T12:05:00Z", "type": "Warning", **by}
    cluster.add_event("fbt", "fbt", "VersionRefused", "version 7 has no bundle", **later)
    found = checks()["the promoter's last Event"]
    assert found.state is State.WAITING
    assert found.text.endswith("version 7 has no bundle")


def look(kubectl, name="deployment/fbt-promoter"):
    return check_workload(Namespace(kubectl, "fbt"), name)


FAULTS = [
    (waiting("promoter", "ImagePullBackOff", "pull access denied"), Kind.IMAGE,
     "ImagePullBackOff of fbt-serve:0.1.0: pull access denied"),
    (waiting("promoter", "CreateContainerConfigError", 'secret "fbt-webhook" not found'),
     Kind.CONFIG, 'secret "fbt-webhook" not found'),
    (waiting("promoter", "CrashLoopBackOff", lastState=ended(137, reason="OOMKilled")),
     Kind.CRASH, "was killed for memory"),
    ({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
      "reason": "Unschedulable", "message": "0/1 nodes are available: Insufficient cpu."}]},
     Kind.SCHEDULE, "fits on no node: 0/1 nodes are available: Insufficient cpu."),
    ({"phase": "Failed", "reason": "Evicted", "message": "emptyDir exceeds the limit 4Gi"},
     Kind.EVICTED, "Evicted: emptyDir exceeds the limit 4Gi"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "kind", "text"), FAULTS, ids=[str(one[1]) for one in FAULTS])
def test_each_fault_is_told_from_the_others(cluster, kubectl, status, kind, text):
    cluster.install("local")
    cluster.break_workload("fbt", "deployments", "fbt-promoter", status)
    (found,) = look(kubectl).obstacles
    assert (found.kind, text in found.text) == (kind, True), found
    assert found.remedy


def test_a_quota_that_lets_no_pod_in(cluster, kubectl):
    cluster.install("local")
    message = 'pods "fbt-promoter-1" is forbidden: exceeded quota: tiny, requested: pods=1'
    condition = {"type": "ReplicaFailure", "status": "True", "message": message}
    cluster.break_workload("fbt", "deployments", "fbt-promoter", conditions=[condition])
    (found,) = look(kubectl).obstacles
    assert found.kind is Kind.REFUSED
    assert "exceeded quota: tiny, requested: pods=1" in found.text


def test_a_claim_that_no_volume_answers(cluster, kubectl):
    cluster.install("local")
    pending = {"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "pod has unbound immediate PersistentVolumeClaims"}]}  # fmt: skip
    cluster.break_workload("fbt", "deployments", "fbt-promoter", pending)
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
    cluster.objects["fbt", "pods", "fbt-promoter-0"]["spec"]["volumes"] = volumes
    cluster.put("fbt", "persistentvolumeclaims", "data", status={"phase": "Pending"})
    cluster.add_event("fbt", "data", "FailedBinding", "no storage class is set",
                      uid="persistentvolumeclaims-data")  # fmt: skip
    (found,) = look(kubectl).obstacles
    assert (found.kind, "no storage class is set" in found.text) == (Kind.VOLUME, True)


# ---------------------------------------------------------------- waiting

MLFLOW = ("fbt-platform", "deployment/mlflow")
POSTGRES = ("fbt-platform", "statefulset/postgres")


def crash(n_restarts):
    return waiting(
        "database", "CrashLoopBackOff", title="initContainerStatuses", restartCount=n_restarts,
        lastState=ended(1, "OperationalError: password authentication failed"),
    )  # fmt: skip


def test_a_wait_ends_at_what_does_not_heal_with_the_log_and_the_remedy(
    cluster, kubectl, monkeypatch
):
    monkeypatch.setitem(PATIENCE_S, Kind.CRASH, 0)
    cluster.install("local")
    cluster.break_workload("fbt-platform", "deployments", "mlflow", crash(1))
    said = []

    def show(line):
        said.append(line)
        cluster.break_workload("fbt-platform", "deployments", "mlflow", crash(2))

    with pytest.raises(ClusterError) as error:
        wait_until_ready(kubectl, [MLFLOW], 60, show, poll_s=0)
    assert "  | OperationalError: password authentication failed" in str(error.value)
    assert "fbt-platform/deployment/mlflow does not get ready" in str(error.value)
    assert "kubectl -n fbt-platform logs mlflow-0 -c database" in str(error.value)
    assert "    | OperationalError: password authentication failed" in said


def test_a_crash_is_borne_while_a_store_starts_and_until_it_was_tried_again(cluster, kubectl):
    cluster.install("local")
    clock = [0.0]
    cluster.break_workload("fbt-platform", "statefulsets", "postgres", {
        "phase": "Running", "containerStatuses": [
            {"name": "postgres", "image": "postgres", "state": {"running": {}}, "ready": False}]},
    )  # fmt: skip
    watch = Watch(kubectl, [POSTGRES, MLFLOW], lambda _: None, clock=lambda: clock[0])
    for n_restarts in range(4):
        cluster.break_workload("fbt-platform", "deployments", "mlflow", crash(n_restarts))
        assert len(watch.look()) == 2
        clock[0] += 100
    cluster.install("local")
    cluster.break_workload("fbt-platform", "deployments", "mlflow", crash(4))
    for _ in range(3):
        assert len(watch.look()) == 1
        clock[0] += 100
    cluster.break_workload("fbt-platform", "deployments", "mlflow", crash(5))
    with pytest.raises(ClusterError, match="does not get ready"):
        watch.look()


def test_a_wait_that_is_over_says_what_each_waits_for(cluster, kubectl):
    cluster.install("local")
    cluster.break_workload("fbt-platform", "deployments", "mlflow",
                           waiting("mlflow", "ContainerCreating"))  # fmt: skip
    with pytest.raises(
        ClusterError, match=r"after 0 s.*\n  fbt-platform/deployment/mlflow: 0 of 1"
    ):
        wait_until_ready(kubectl, [MLFLOW, POSTGRES], 0, print, poll_s=0)


def test_an_api_server_that_is_away_for_a_moment_ends_no_wait(cluster, kubectl):
    cluster.install("local")
    cluster.faults.extend(["broken"])
    said = []
    wait_until_ready(kubectl, [MLFLOW], 60, said.append, poll_s=0)
    assert "asking again" in said[0]
    assert said[-1].endswith("mlflow: 1 of 1 ready")


def test_the_oldest_kubernetes_is_that_of_the_readme():
    text = (OVERLAYS.parent / "README.md").read_text()
    assert f"Kubernetes {'.'.join(map(str, KUBERNETES))} or newer" in text


def test_reading_starts_no_kubectl_each_time_and_says_the_same_without_the_proxy(cluster, kubectl):
    cluster.install("local")
    path = "/apis/apps/v1/namespaces/fbt/deployments"
    plain = Kubectl()
    assert kubectl.list_objects(path) == plain.list_objects(path) != []
    assert kubectl.read("/api/v1/namespaces/fbt/secrets/none") is None
    assert plain.read("/api/v1/namespaces/fbt/secrets/none") is None
    cluster.pages["/broken"] = 503
    for one in (kubectl, plain):
        with pytest.raises(ClusterError, match="no endpoints"):
            one.read("/broken")
