"""What `fbt doctor` and `fbt cluster up` make of pods that are really broken, on the cluster that
KUBECONFIG names. Every test has a namespace of its own.
"""

import json
import os
import time
import uuid
from pathlib import Path

import pytest

from pipelines.doctor import State, run_checks
from pipelines.kubectl import ClusterError, Kubectl
from pipelines.obstacles import Kind
from pipelines.readiness import PATIENCE_S, wait_until_ready
from pipelines.workload_health import Namespace, check_workload
from tests.manifests.conftest import kubectl as kubectl_path

pytestmark = [
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no cluster: KUBECONFIG is unset"),
    pytest.mark.timeout(300),
]
DEPLOYMENT = "deployment/broken"
WITHIN_S = 120


@pytest.fixture(autouse=True)
def path_of_kubectl(monkeypatch):
    folder = str(Path(kubectl_path()).parent)
    monkeypatch.setenv("PATH", os.pathsep.join([folder, os.environ["PATH"]]))


@pytest.fixture
def kubectl():
    with Kubectl().connected() as connected:
        yield connected


@pytest.fixture
def namespace(kubectl):
    name = f"fbt-test-{uuid.uuid4().hex[:8]}"
    kubectl.run("create", "namespace", name)
    until = time.monotonic() + 30
    while not kubectl.exists("serviceaccount", "default", "--namespace", name):
        assert time.monotonic() < until, "the namespace has no service account"
    yield name
    kubectl.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def image(kubectl):
    """One with a shell that a node has."""
    nodes = kubectl.list_objects("/api/v1/nodes")
    there = [name for one in nodes for image in one["status"].get("images") or []
             for name in image.get("names") or []]  # fmt: skip
    for part in ("busybox:", "fbt-promoter:", "fbt-mlflow:", "debian:", "alpine:"):
        for name in there:
            if part in name:
                return name
    pytest.skip("no node has an image with a shell, like busybox")


def deploy(kubectl, namespace, container, **pod):
    """The Deployment `broken`, whose pod has the given fields; the container's are merged in.

    Without its probe, a container that ends at once would be ready for a moment.
    """
    labels = {"app": "broken"}
    probe = {"exec": {"command": ["true"]}, "initialDelaySeconds": 4, "periodSeconds": 1}
    container = {"name": "main", "command": ["sleep", "1000"], "readinessProbe": probe, **container}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], **pod}
    kubectl.run("create", "-f", "-", stdin=json.dumps({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "broken", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }))  # fmt: skip


def create(kubectl, namespace, kind, name, version="v1", **fields):
    one = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields}
    kubectl.run("create", "--namespace", namespace, "-f", "-", stdin=json.dumps(one))


def wait_for(kubectl, namespace, kind, n_restarts=0):
    """The look, and the obstacle of the kind, as soon as there is one."""
    until = time.monotonic() + WITHIN_S
    while True:
        look = Namespace(kubectl, namespace)
        health = check_workload(look, DEPLOYMENT)
        for one in health.obstacles:
            if one.kind is kind and one.n_restarts >= n_restarts:
                assert not health.is_ready
                return look, one
        assert time.monotonic() < until, health.describe()
        time.sleep(1)


def test_an_image_that_cannot_be_pulled(kubectl, namespace):
    deploy(kubectl, namespace, {"image": "registry.invalid/fbt/fbt-serve:0.0.7"})
    _, found = wait_for(kubectl, namespace, Kind.IMAGE)
    assert "registry.invalid/fbt/fbt-serve:0.0.7" in found.text
    assert "registry.invalid" in found.text.partition("0.0.7: ")[2], "the runtime's own words"
    assert "fbt images --registry registry.invalid/fbt --push" in found.remedy


def test_a_secret_that_is_missing_and_one_without_the_key(kubectl, namespace, image):
    asked = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "door", "key": "token"}}}
    deploy(kubectl, namespace, {"image": image, "env": [asked]})
    _, found = wait_for(kubectl, namespace, Kind.CONFIG)
    assert 'secret "door" not found' in found.text
    assert f"kubectl -n {namespace} get secrets" in found.remedy
    create(kubectl, namespace, "Secret", "door", stringData={"other": "x"})
    until = time.monotonic() + WITHIN_S
    while "couldn't find key token" not in wait_for(kubectl, namespace, Kind.CONFIG)[1].text:
        assert time.monotonic() < until
        time.sleep(1)


def test_a_secret_that_a_volume_misses(kubectl, namespace, image):
    volume = {"name": "door", "secret": {"secretName": "door"}}
    mount = {"name": "door", "mountPath": "/door"}
    deploy(kubectl, namespace, {"image": image, "volumeMounts": [mount]}, volumes=[volume])
    _, found = wait_for(kubectl, namespace, Kind.CONFIG)
    assert 'secret "door" not found' in found.text


def test_a_quota_that_is_too_small(kubectl, namespace, image):
    create(kubectl, namespace, "ResourceQuota", "tiny", spec={"hard": {"requests.memory": "1Mi"}})
    resources = {"requests": {"memory": "64Mi"}}
    deploy(kubectl, namespace, {"image": image, "resources": resources})
    _, found = wait_for(kubectl, namespace, Kind.REFUSED)
    assert "exceeded quota: tiny" in found.text
    assert "raise the quota" in found.remedy


def test_pod_security_lets_nobody_in(kubectl, namespace, image):
    label = "pod-security.kubernetes.io/enforce=restricted"
    kubectl.run("label", "namespace", namespace, label)
    deploy(kubectl, namespace, {"image": image})
    _, found = wait_for(kubectl, namespace, Kind.REFUSED)
    assert "violates PodSecurity" in found.text


def test_a_container_that_ends_again_and_again_is_shown_with_its_last_lines(
    kubectl, namespace, image
):
    script = "echo starting; echo password authentication failed for user mlflow >&2; exit 3"
    deploy(kubectl, namespace, {"image": image, "command": ["sh", "-c", script]})
    look, found = wait_for(kubectl, namespace, Kind.CRASH, n_restarts=1)
    assert "ended with code 3, started " in found.text
    assert set(look.read_log(found)) == {
        "starting",
        "password authentication failed for user mlflow",
    }
    assert f"kubectl -n {namespace} logs {found.pod} -c main --previous" in found.remedy


def test_an_init_container_that_fails_is_the_one_that_is_named(kubectl, namespace, image):
    first = {
        "name": "database", "image": image, "command": ["sh", "-c", "echo no such host; exit 1"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }  # fmt: skip
    deploy(kubectl, namespace, {"image": image}, initContainers=[first])
    look, found = wait_for(kubectl, namespace, Kind.CRASH)
    assert "init container database ended with code 1" in found.text
    assert look.read_log(found) == ("no such host",)


def test_a_container_that_is_killed_for_its_memory(kubectl, namespace, image):
    script = "x=a; while true; do x=$x$x$x$x; done"
    limits = {"limits": {"memory": "32Mi"}, "requests": {"memory": "8Mi"}}
    deploy(kubectl, namespace, {"image": image, "command": ["sh", "-c", script],
                                "resources": limits})  # fmt: skip
    _, found = wait_for(kubectl, namespace, Kind.CRASH)
    assert "killed for memory, its limit is 32Mi" in found.text
    assert "limits.memory" in found.remedy


def test_a_pod_that_fits_on_no_node(kubectl, namespace, image):
    resources = {"requests": {"memory": "100Ti"}}
    deploy(kubectl, namespace, {"image": image, "resources": resources})
    _, found = wait_for(kubectl, namespace, Kind.SCHEDULE)
    assert "nodes are available" in found.text
    assert "Insufficient memory" in found.text


def test_a_claim_without_a_volume(kubectl, namespace, image):
    create(kubectl, namespace, "PersistentVolumeClaim", "data", spec={
        "accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "resources": {"requests": {"storage": "1Gi"}},
    })  # fmt: skip
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    deploy(kubectl, namespace, {"image": image}, volumes=[volume])
    _, found = wait_for(kubectl, namespace, Kind.VOLUME)
    assert "its claim data has no volume: no persistent volumes available" in found.text
    assert "StorageClass" in found.remedy


def test_a_probe_that_fails(kubectl, namespace, image):
    probe = {"exec": {"command": ["sh", "-c", "echo database is away; exit 1"]}}
    deploy(kubectl, namespace, {"image": image, "readinessProbe": {**probe, "periodSeconds": 1}})
    _, found = wait_for(kubectl, namespace, Kind.UNREADY)
    assert "database is away" in found.text


def test_what_gets_ready_is_ready(kubectl, namespace, image):
    deploy(kubectl, namespace, {"image": image})
    said = []
    wait_until_ready(kubectl, [(namespace, DEPLOYMENT)], WITHIN_S, said.append, poll_s=0.5)
    assert said[-1] == f"  {namespace}/{DEPLOYMENT}: 1 of 1 ready"


def test_waiting_ends_early_beside_what_does_not_heal(kubectl, namespace, image, monkeypatch):
    monkeypatch.setitem(PATIENCE_S, Kind.CRASH, 1)
    script = "echo wrong password; exit 1"
    deploy(kubectl, namespace, {"image": image, "command": ["sh", "-c", script]})
    said, started = [], time.monotonic()
    with pytest.raises(
        ClusterError, match=r"does not get ready: pod broken-.* ended with"
    ) as ended:
        wait_until_ready(kubectl, [(namespace, DEPLOYMENT)], 280, said.append, poll_s=1)
    assert time.monotonic() - started < WITHIN_S
    assert "  | wrong password" in str(ended.value)
    assert "    | wrong password" in said


def test_waiting_goes_on_while_a_neighbour_that_may_be_needed_starts(
    kubectl, namespace, image, monkeypatch
):
    """As MLflow's schema, which is upgraded once PostgreSQL is up."""
    monkeypatch.setitem(PATIENCE_S, Kind.CRASH, 1)
    deploy(kubectl, namespace, {"image": image, "command": ["sh", "-c", "exit 1"]})
    store = {"name": "store", "image": image, "command": ["sh", "-c", "sleep 1000"]}
    probe = {"exec": {"command": ["true"]}, "initialDelaySeconds": 25, "periodSeconds": 1}
    create(kubectl, namespace, "StatefulSet", "store", "apps/v1", spec={
        "serviceName": "store", "selector": {"matchLabels": {"app": "store"}},
        "template": {
            "metadata": {"labels": {"app": "store"}},
            "spec": {"terminationGracePeriodSeconds": 0,
                     "containers": [{**store, "readinessProbe": probe}]},
        },
    })  # fmt: skip
    started = time.monotonic()
    waited = [(namespace, "statefulset/store"), (namespace, DEPLOYMENT)]
    with pytest.raises(ClusterError, match="deployment/broken does not get ready"):
        wait_until_ready(kubectl, waited, 280, print, poll_s=1)
    assert time.monotonic() - started > 25


def test_the_doctor_looks_at_the_whole_cluster_and_explains_what_it_finds():
    findings = list(run_checks("local", ""))
    (cluster,) = [one for one in findings if one.name == "a cluster that answers"]
    assert cluster.text.startswith("Kubernetes 1.")
    assert len(findings) > 12
    for one in findings:
        assert one.state is not State.FAILED or one.remedy or one.log, one
