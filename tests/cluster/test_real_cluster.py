"""The promoter against the API server that KUBECONFIG names: the same tests as on the fake one.

Every test has a namespace of its own, which is deleted afterwards. Argo Rollouts is played, so that
its CustomResourceDefinition suffices, but for the tests of its own controller; the Deployment
controller is the cluster's own. No image is needed: pods are never scheduled.
"""

import json
import os
import subprocess
import time
import uuid
from collections import Counter

import pytest

from components.promoter.api_server import from_official_client
from components.promoter.cluster import Cluster
from components.promoter.workload import VERSION_LABEL
from tests.factories import make_bundle
from tests.fakes import FakeMlflow
from tests.manifests.conftest import OVERLAYS, kubectl, of_kind, rendered
from tests.promotions import *  # noqa: F403
from tests.promotions import delete, edit, promoted, serving_one
from tests.world import POD, Argo, World, await_

pytestmark = [
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no cluster: KUBECONFIG is unset"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("promoter") / "bundle")


@pytest.fixture
def namespace():
    """A namespace without a quota, for as long as the test lasts."""
    from kubernetes import client, config

    config.load_kube_config()
    core, name = client.CoreV1Api(), f"fbt-test-{uuid.uuid4().hex[:8]}"
    labels = {"fbt/test": "true", "pod-security.kubernetes.io/warn": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    try:
        until = time.monotonic() + 30
        while not core.list_namespaced_service_account(name).items:
            assert time.monotonic() < until, "the namespace has no service account"
            time.sleep(0.1)
        yield name
    finally:
        core.delete_namespace(name)


@pytest.fixture
def world(namespace, bundle, monkeypatch, request):
    from components.promoter.cluster import ClusterError, connect

    cluster = connect(namespace)
    if needs_rollouts(request):
        try:
            cluster.list_objects("Rollout")
        except ClusterError as error:
            if error.status != 404:
                raise
            pytest.skip("the cluster has no CustomResourceDefinition of Argo Rollouts")
    with FakeMlflow(bundle).running() as mlflow:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
        yield World(cluster, mlflow)


def needs_rollouts(request):
    callspec = getattr(request.node, "callspec", None)
    kind = callspec.params.get("either") if callspec else None
    return kind == "Rollout" or "canary" in request.fixturenames or "rollout" in request.node.name


def test_the_namespace_has_no_quota_and_that_is_no_hindrance(namespace, world):
    from kubernetes import client

    assert client.CoreV1Api().list_namespaced_resource_quota(namespace).items == []
    world.deploy("Deployment")
    world.promote(world.mlflow.add())
    world.calm()
    assert world.pinned == "1"


@pytest.mark.parametrize("either", ["Deployment", "Rollout"])
def test_the_rights_that_the_manifests_give_the_promoter_suffice(
    namespace, world, either, monkeypatch
):
    from kubernetes import client

    monkeypatch.setitem(POD, "serviceAccountName", "fbt")
    signed = signed_in(namespace, "fbt-promoter")
    with pytest.raises(client.ApiException, match="Forbidden"):
        client.CoreV1Api(signed).list_namespaced_secret(namespace)
    world.promoter_cluster = Cluster(from_official_client(signed), namespace)
    world.restart()
    world.deploy(either)
    serving_one(world)
    promoted(world)
    delete(world, "Deployment")
    world.until(lambda: "WorkloadMissing" in world.said())
    world.restore("Deployment")
    world.calm()
    assert world.pinned == world.champion == "2"


def signed_in(namespace, account):
    """The API as a service account of the manifests sees it."""
    from kubernetes import client

    for one in of_kind(rendered("overlays/local"), "ServiceAccount", "Role", "RoleBinding"):
        moved = json.dumps(one).replace('"namespace": "fbt"', f'"namespace": "{namespace}"')
        done = create(json.loads(moved))
        assert done.returncode == 0, done.stderr
    asked = {"spec": {"expirationSeconds": 600}}
    core = client.CoreV1Api()
    token = core.create_namespaced_service_account_token(account, namespace, asked).status.token
    # The default one with nothing of its own login.
    default, own = client.Configuration.get_default_copy(), client.Configuration()
    for name in ("host", "ssl_ca_cert", "verify_ssl", "tls_server_name"):
        setattr(own, name, getattr(default, name))
    own.api_key, own.retries = {"authorization": f"Bearer {token}"}, False
    return client.ApiClient(own)


SERVICE = {"ConfigMap", "Service", "Deployment", "HorizontalPodAutoscaler"}
CANARY = {"Rollout", "AnalysisTemplate"}


def test_the_first_version_of_a_rollout_arrives_and_the_next_one_gets_one_pod(namespace, world):
    """The manifests of staging under Argo Rollouts' own controller; only the kubelet is played."""
    apply(namespace, "overlays/staging", SERVICE | CANARY)
    wait_for_argo(world)
    act_by_the_rights_of_the_manifests(namespace, world)
    # As when the first champion comes hours after the manifests.
    world.until(lambda: status_of(world).get("phase") == "Degraded")
    world.promote(world.mlflow.add())
    world.until(lambda: world.tag("1") == "live" and ready_pods(world) == {"1": 2}, within_s=90)
    assert world.said().keys() >= {"FirstVersion", "VersionLive"}
    assert "CanaryPaused" not in world.said()

    world.promote(world.mlflow.add())
    world.until(lambda: status_of(world).get("currentStepIndex") == 1)
    assert ready_pods(world) == {"1": 2, "2": 1}
    assert len(world.cluster.list_objects("Pod", "app.kubernetes.io/component=service")) == 3


def test_moving_from_a_deployment_to_a_rollout_loses_no_pod_before_it_serves(namespace, world):
    apply(namespace, "overlays/local", SERVICE - {"HorizontalPodAutoscaler"})
    act_by_the_rights_of_the_manifests(namespace, world)
    world.promote(world.mlflow.add())
    edit(world, "Deployment", {"spec": {"replicas": 5}})
    world.until(lambda: world.tag("1") == "live" and ready_pods(world)["1"] == 5, within_s=120)
    apply(namespace, "overlays/staging", SERVICE | CANARY)
    wait_for_argo(world)
    fewest = []

    def moved():
        fewest.append(ready_pods(world)["1"])
        own = world.cluster.get("Deployment", "fbt")["spec"]["replicas"]
        return own == 0 and len(world.cluster.list_objects("Pod", VERSION_LABEL)) == 5

    world.until(moved, within_s=90)
    assert min(fewest) >= 5
    assert world.champion == world.pinned == "1"


@pytest.fixture
def rolling(namespace, world):
    """The manifests of staging under Argo Rollouts' own controller: 1 serves, 2 is a canary."""
    apply(namespace, "overlays/staging", SERVICE | CANARY)
    wait_for_argo(world)
    act_by_the_rights_of_the_manifests(namespace, world)
    world.promote(world.mlflow.add())
    world.until(lambda: world.tag("1") == "live" and ready_pods(world) == {"1": 2}, within_s=90)
    world.promote(world.mlflow.add())
    world.until(lambda: status_of(world).get("currentStepIndex") == 1)
    return world


def test_a_canary_aborted_by_hand_goes_back_and_may_come_again(rolling):
    Argo(rolling.cluster).abort_by_hand()
    rolling.until(lambda: is_back_at_one(rolling))
    assert rolling.tag("2") == "aborted by hand"
    assert rolling.tag("2", "fbt.rollout_failed") == ""
    rolling.promote("2")
    rolling.until(lambda: status_of(rolling).get("currentStepIndex") == 1)
    assert (rolling.pinned, rolling.champion, rolling.tag("2")) == ("2", "2", "rolling out")


def test_an_abort_that_argo_saw_before_the_promoter_is_by_hand_too(rolling):
    Argo(rolling.cluster).abort_by_hand()
    await_(lambda: status_of(rolling).get("phase") == "Degraded")
    rolling.until(lambda: is_back_at_one(rolling))
    assert rolling.tag("2") == "aborted by hand"


def test_canary_pods_that_are_never_ready_fail_with_the_reason_of_argo(rolling):
    rolling.never_ready = {"3"}
    rolling.promote(rolling.mlflow.add())
    rolling.until(lambda: is_back_at_one(rolling))
    assert "has timed out progressing" in rolling.tag("3", "fbt.rollout_failed")
    assert (rolling.tag("2"), rolling.tag("3")) == ("superseded", "failed")


def test_two_promotions_within_a_second_end_as_one_canary_of_the_second(rolling):
    for _ in range(2):
        rolling.promote(rolling.mlflow.add())
        rolling.reconcile()
    rolling.until(lambda: ready_pods(rolling) == {"1": 2, "4": 1})
    assert (rolling.pinned, rolling.tag("3"), rolling.tag("4")) == (
        "4",
        "superseded",
        "rolling out",
    )


def test_a_rollout_that_was_deleted_serves_again_before_it_takes_the_canary(namespace, rolling):
    rolling.cluster._request("DELETE", "Rollout", "fbt")
    rolling.until(lambda: rolling.pinned == "1")
    rolling.never_ready = {"1"}
    apply(namespace, "overlays/staging", {"Rollout"})
    wait_for_argo(rolling)
    rolling.until(lambda: "WaitingForStable" in rolling.said())
    assert status_of(rolling)["stableRS"]
    assert rolling.pinned == "1"
    rolling.never_ready = set()
    rolling.until(lambda: rolling.pinned == "2")
    assert ready_pods(rolling)["1"] >= 1


def is_back_at_one(world):
    status = status_of(world)
    settled = status.get("phase") == "Healthy" and status["stableRS"] == status["currentPodHash"]
    return settled and world.pinned == world.champion == "1"


def apply(namespace, overlay, kinds):
    """The service of an overlay, with pods that nobody schedules and a short deadline."""
    for one in of_kind(rendered(overlay), *kinds):
        one = json.loads(
            json.dumps(one).replace('"namespace": "fbt"', f'"namespace": "{namespace}"')
        )
        if one["kind"] == "Deployment":
            if one["metadata"]["name"] != "fbt":
                continue
            one["spec"]["template"]["spec"]["schedulerName"] = "nobody"
        if one["kind"] == "Rollout":
            one["spec"]["progressDeadlineSeconds"] = 10
        done = subprocess.run(
            [kubectl(), "apply", "-f", "-"],
            input=json.dumps(one), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def wait_for_argo(world):
    """Skip where no controller takes notice of a Rollout."""
    until = time.monotonic() + 20
    while not status_of(world):
        if time.monotonic() > until:
            pytest.skip("no controller of Argo Rollouts runs in the cluster")
        time.sleep(0.2)


def act_by_the_rights_of_the_manifests(namespace, world):
    signed = from_official_client(signed_in(namespace, "fbt-promoter"))
    world.promoter_cluster = Cluster(signed, namespace)
    world.restart()


def status_of(world):
    return (world.cluster.get("Rollout", "fbt") or {}).get("status") or {}


def ready_pods(world):
    """How many pods of each version are ready."""
    return Counter(
        pod["metadata"]["labels"][VERSION_LABEL]
        for pod in world.cluster.list_objects("Pod", VERSION_LABEL)
        for one in pod.get("status", {}).get("conditions") or []
        if (one["type"], one["status"]) == ("Ready", "True")
    )


def create(one, *options):
    """What `kubectl create` made of an object."""
    return subprocess.run(
        [kubectl(), "create", *options, "-f", "-"],
        input=json.dumps(one), capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_takes_every_object_of_an_overlay_without_a_warning(namespace, overlay):
    """What no schema says: defaults, admission, the pod security standard. Nothing is created."""
    found = [one for one in rendered(overlay) if one["kind"] != "Namespace"]
    for one in found:
        one = {**one, "metadata": {**one["metadata"], "namespace": namespace}}
        done = create(one, "--dry-run=server", "--validate=strict")
        if "no matches for kind" in done.stderr:
            continue  # of an operator that this cluster does not have
        assert (done.returncode, done.stderr) == (0, ""), one["metadata"]["name"]
