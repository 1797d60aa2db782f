"""Kubeflow Pipelines at KF_PIPELINES_ENDPOINT, on the cluster of KUBECONFIG: real runs in pods.

The image `fbt-steps` of FBT_STEPS_IMAGE (default: that of this code) has to be there. Orders of a
small shop lie in a ConfigMap, and a pod of the steps' image serves them.
"""

import base64
import gzip
import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.model.bundle import read_manifest
from components.registry.registry import KFP_RUN_TAG, fetch_artifact, list_versions
from pipelines.compile import compile_pipeline
from pipelines.kfp_server import KfpError, ensure_experiment, kfp_client
from pipelines.parameters import FeedbackParameters, TrainingParameters
from pipelines.placement import ARCHIVE_PATH
from pipelines.run_wait import wait_for_end
from pipelines.schedule import schedule, unschedule
from pipelines.submit import EXPERIMENT, Target, arguments, submit, upload_version, version_name
from tests.cluster.kube import config_map, run, wait_until

pytestmark = [
    pytest.mark.skipif(
        not (os.environ.get("KUBECONFIG") and os.environ.get("KF_PIPELINES_ENDPOINT")),
        reason="no Kubeflow Pipelines: KUBECONFIG or KF_PIPELINES_ENDPOINT is unset",
    ),
    pytest.mark.timeout(7200),
]

KFP, SHOP, PORT, CLAIM = "kubeflow", "fbt-test-shop", 8000, "fbt-test-spark"
EVENTS = "fbt-test-events"
IMAGE = os.environ.get("FBT_STEPS_IMAGE", "fbt-steps")
MLFLOW = os.environ.get("MLFLOW_TRACKING_URI", "")
"""Of the cluster, as seen from here."""
RUN_S = 5400
N_PAIRS = 20


def kubectl(*words, stdin=""):
    return run("--namespace", KFP, *words, stdin=stdin, timeout_s=600)


def pairs():
    """400 orders of two or three pairs: p00a is always bought with p00b, and so on."""
    chance = random.Random(7)
    for order in range(400):
        for pair in chance.sample(range(N_PAIRS), chance.choice([2, 2, 3])):
            yield from ((order, f"p{pair:02d}{half}") for half in "ab")


def noise():
    """400 orders of four products drawn at random: there is nothing to learn."""
    chance, weights = random.Random(7), [1 / (i + 1) for i in range(40)]
    for order in range(400):
        for product in sorted(set(chance.choices(range(40), weights, k=4))):
            yield order, f"p{product}"


def as_csv(lines):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [
        f"o{order},{product},{start + timedelta(hours=order):%FT%TZ}" for order, product in lines
    ]
    return "\n".join(["order_id,product_id,ts", *rows, ""])


@pytest.fixture(scope="module")
def shop(target):
    """URL of the folder with the orders, as pods see it."""
    meta = {"name": SHOP, "labels": {"app": SHOP}}
    command = ["python", "-m", "http.server", str(PORT), "--directory", "/orders"]
    orders = {"name": "orders", "configMap": {"name": SHOP}}
    made = [
        {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta,
            "data": {"pairs.csv": as_csv(pairs()), "noise.csv": as_csv(noise())},
        },
        describe_pod(meta, command, {"/orders": orders}),
        {
            "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {"selector": {"app": SHOP}, "ports": [{"port": PORT}]},
        },
    ]  # fmt: skip
    apply(*made)
    try:
        kubectl("wait", "--for=condition=Ready", f"pod/{SHOP}", "--timeout=300s")
        yield f"http://{SHOP}.{KFP}:{PORT}"
    finally:
        kubectl("delete", "pod,service,configmap", SHOP, "--wait=false", "--ignore-not-found")


def describe_pod(meta, command, volumes, **spec):
    """A pod of the steps' image; `volumes` by the path where it sees them."""
    container = {
        "name": "main",
        "image": f"{IMAGE}:0.1.0" if ":" not in IMAGE else IMAGE,
        "command": command,
        "volumeMounts": [{"name": one["name"], "mountPath": path} for path, one in volumes.items()],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    secure = {
        "runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    spec |= {"containers": [container], "securityContext": secure, "volumes": [*volumes.values()]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def describe_claim(name):
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip


def apply(*objects):
    kubectl("apply", "-f", "-", stdin="---\n".join(json.dumps(one) + "\n" for one in objects))


@pytest.fixture(scope="module")
def target():
    return Target(image=IMAGE)


@pytest.fixture
def client():
    with kfp_client("", "") as connected:
        yield connected


def small(orders, **others):
    return TrainingParameters(orders=orders, trials=2, shards=2, sweep_share=1, **others)


@pytest.fixture(scope="module")
def first_run(shop, target):
    return submit(small(f"{shop}/pairs.csv"), target, wait_s=RUN_S)


def phases(run):
    """{step: phases, one for each shard}.

    From Argo's workflow: KFP's own list of tasks ends where Argo compresses it, beyond 1 MB.
    """
    listed = kubectl("get", "workflows", "--selector", f"pipeline/runid={run}", "--output", "json")
    (workflow,) = json.loads(listed)["items"]
    packed = workflow["status"].get("compressedNodes")
    nodes = gzip.decompress(base64.b64decode(packed)) if packed else None
    found = {}
    for node in (json.loads(nodes) if nodes else workflow["status"]["nodes"]).values():
        found.setdefault(node["displayName"], []).append(node["phase"])
    return found


def test_one_upload_is_one_version(client, target):
    ids = upload_version(client, "training", target)
    assert upload_version(client, "training", target) == ids
    listed = client.list_pipeline_versions(ids[0], page_size=100).pipeline_versions
    names = [one.display_name for one in listed]
    assert names.count(version_name(target)) == 1
    assert "fbt-training" not in names


def test_the_steps_run_as_pods_and_shards_fan_out(first_run):
    found = phases(first_run)
    assert found["package"] == ["Succeeded"]
    assert found["sweep"] == ["Succeeded"] * 2


@pytest.fixture
def version_of(monkeypatch):
    """The version that a run registered."""
    if not MLFLOW.startswith("http"):
        pytest.skip("no MLflow server: MLFLOW_TRACKING_URI is unset")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", MLFLOW)

    def of(run):
        (version,) = [one for one in list_versions() if one.tags.get(KFP_RUN_TAG) == run]
        return version

    return of


@pytest.fixture
def hashes(version_of, tmp_path):
    """Of the files of the bundle that a run made."""

    def of(run):
        assert fetch_artifact(version_of(run).version, "bundle", tmp_path / run)
        return read_manifest(tmp_path / run).files

    return of


def test_the_version_knows_its_run(first_run, hashes):
    assert hashes(first_run)


@pytest.fixture(scope="module")
def spark_run(shop):
    """The same as `first_run`, but for two executors in pods of their own."""
    apply(describe_claim(CLAIM))
    try:
        yield submit(small(f"{shop}/pairs.csv"), with_executors(CLAIM), wait_s=RUN_S)
    finally:
        kubectl("delete", "pvc", CLAIM, "--wait=false")


def with_executors(claim):
    return Target(
        image=IMAGE, spark_executors=2, spark_executor_cores=1, spark_executor_memory="1g",
        spark_claim=claim,
    )  # fmt: skip


def test_executors_are_pods_that_go_with_the_driver(spark_run):
    events = json.loads(kubectl("get", "events", "--output", "json"))["items"]
    started = {one["involvedObject"]["name"] for one in events if one["reason"] == "Started"}
    assert len([name for name in started if "-exec-" in name]) >= 2
    assert kubectl("get", "pods", "--selector", "spark-role=executor", "--output", "name") == ""


def test_executors_count_the_same_baskets(first_run, spark_run, hashes):
    """The order of the baskets is another one, and so is what is trained on them."""
    alone, spread = hashes(first_run), hashes(spark_run)
    for name in ("n_orders.npy", "pairs_support.npy", "pairs_offsets.npy"):
        assert alone[name] == spread[name]


def test_a_claim_that_is_missing_ends_the_run_with_its_name(shop):
    said = []
    with pytest.raises(KfpError, match="the run failed"):
        submit(
            small(f"{shop}/pairs.csv"), with_executors("fbt-absent"), wait_s=900, show=said.append
        )
    run = said[0].split()[1]
    logs = kubectl("logs", "--selector", f"pipeline/runid={run}", "--container", "main")
    assert "no PersistentVolumeClaim fbt-absent found in namespace kubeflow" in logs


def test_a_failed_gate_is_a_failed_run(shop, target):
    with pytest.raises(KfpError, match="the run failed"):
        submit(small(f"{shop}/noise.csv"), target, wait_s=RUN_S)


def test_a_schedule_is_there_once_and_goes_away(target, client):
    parameters = small("s3://shop/orders")
    first = schedule("fbt test", "30 2 1 1 *", parameters, target)
    try:
        assert schedule("fbt test", "30 2 1 1 *", parameters, target) == first
    finally:
        unschedule("fbt test", "training", target)
    listed = client.list_recurring_runs(page_size=100).recurring_runs or []
    assert "fbt test" not in [one.display_name for one in listed]


def test_a_schedule_starts_runs_with_its_parameters(shop, target, client):
    name = "fbt test of every minute"
    parameters = small(f"{shop}/pairs.csv")
    made = schedule(name, "* * * * *", parameters, target)
    try:
        run = wait_until(lambda: find_run_of(client, made), 180)
        # First: the workflow goes with its schedule.
        client.terminate_run(run.run_id)
    finally:
        unschedule(name, "training", target)
    given = {key: run.runtime_config.parameters[key] for key in ("orders", "trials")}
    assert given == {"orders": parameters.orders, "trials": 2}


def find_run_of(client, schedule):
    listed = client.list_runs(page_size=100, sort_by="created_at desc").runs or []
    return next((one for one in listed if one.recurring_run_id == schedule), None)


def test_applied_objects_are_a_version_that_runs(shop, target, client, tmp_path):
    if "--pipelinesStoreKubernetes=true" not in kubectl("get", "deployment/ml-pipeline", "-o=json"):
        pytest.skip("this KFP does not keep pipelines as Kubernetes objects")
    _, objects = compile_pipeline(tmp_path, version_name(target), target)
    # One that came by an upload has the same name, and no version may be changed.
    made = f"fbt-training-{version_name(target)}"
    kubectl("delete", "pipelineversions.pipelines.kubeflow.org", made, "--ignore-not-found")
    kubectl("apply", "-f", str(objects))
    ids = wait_until(lambda: find_version(client, version_name(target)), 60)
    assert upload_version(client, "training", target) == ids
    parameters = arguments(small(f"{shop}/pairs.csv"), target)
    run = client.run_pipeline(
        ensure_experiment(client, EXPERIMENT, ""), "applied", pipeline_id=ids[0], version_id=ids[1],
        params=parameters,
    )  # fmt: skip
    wait_for_end(client, run.run_id, RUN_S, 10, print)


def find_version(client, name):
    """Ids of pipeline and version."""
    if pipeline := client.get_pipeline_id("fbt-training"):
        listed = client.list_pipeline_versions(pipeline, page_size=100).pipeline_versions or []
        for one in listed:
            if one.display_name == name:
                return pipeline, one.pipeline_version_id
    return None


@pytest.fixture
def archive(first_run, version_of):
    """A claim whose sink knows what shoppers did with the lists of the first run's version."""
    url = f"sqlite:///{ARCHIVE_PATH}/events.db"
    shoppers = config_map(KFP, EVENTS, Path(__file__).parents[1] / "shoppers.py")
    secret = {"kind": "Secret", "metadata": {"name": EVENTS}, "stringData": {"FBT_EVENTS_URL": url}}
    written = f"""
import sys; sys.path.append("/scripts")
from components.events.open import open_sink
from shoppers import shop, write
write(open_sink({url!r}), shop({version_of(first_run).version!r}, 400, 0.5))
"""
    volumes = {
        "/scripts": {"name": "scripts", "configMap": {"name": EVENTS}},
        ARCHIVE_PATH: {"name": "archive", "persistentVolumeClaim": {"claimName": EVENTS}},
    }
    pod = describe_pod({"name": EVENTS}, ["python", "-c", written], volumes, restartPolicy="Never")
    apply(describe_claim(EVENTS), shoppers, {"apiVersion": "v1", **secret}, pod)
    try:
        done = "--for=jsonpath={.status.phase}=Succeeded"
        kubectl("wait", done, f"pod/{EVENTS}", "--timeout=300s")
        yield Target(image=IMAGE, events_claim=EVENTS, events_secret=EVENTS)
    finally:
        kubectl("delete", "pod,configmap,secret,pvc", EVENTS, "--wait=false", "--ignore-not-found")


def test_what_shoppers_did_comes_back_to_the_version(first_run, archive, version_of):
    submit(FeedbackParameters(archive=ARCHIVE_PATH), archive, wait_s=RUN_S)
    assert float(version_of(first_run).tags["fbt.online_click_through"].split()[0]) > 0.1
