"""Overlay `local` with the workbench, installed as k8s/README.md says, on a real cluster.

In namespaces of its own, which are deleted afterwards. It skips where the cluster has no images.
"""

import contextlib
import json
import os
import re
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass

import pytest

from components.model.bundle import compute_sha256
from components.registry.registry import BUNDLE_HASH_TAG, VERDICT_TAG, register
from pipelines import cluster as fbt_cluster
from tests.cluster.kube import (
    create,
    find_missing_images,
    forward_port,
    list_pods,
    run,
    wait_until,
)
from tests.factories import make_bundle
from tests.manifests.conftest import K8S, build, combine

pytestmark = [
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no cluster: KUBECONFIG is unset"),
    pytest.mark.timeout(1500),
]

MAX_MB = 2500
"""What the idle platform may take, without KFP."""

COMPLAINT = re.compile(r"Traceback|\b(ERROR|CRITICAL|FATAL|panic)\b")
EVENTS = [
    {"event": "view_item_list", "event_id": "1", "session_id": "s", "request_id": "r",
     "items": [{"item_id": "milk", "index": 0}]},
    {"event": "select_item", "event_id": "2", "session_id": "s", "request_id": "r",
     "items": [{"item_id": "milk", "index": 0}]},
]  # fmt: skip


@dataclass(frozen=True)
class Platform:
    app: str
    stack: contextlib.ExitStack

    @property
    def platform(self):
        return f"{self.app}-platform"

    def install(self):
        for name in (self.app, self.platform):
            labels = {"pod-security.kubernetes.io/enforce": "restricted", "fbt/client": "true"}
            create({"kind": "Namespace", "metadata": {"name": name, "labels": labels}})
            self.stack.callback(run, "delete", "namespace", name, "--wait=false")
        for (namespace, name), values in make_secrets(self.rename).items():
            metadata = {"name": name, "namespace": self.rename(namespace)}
            create({"kind": "Secret", "metadata": metadata, "stringData": values})
        wanted = [*build(K8S / "overlays/local/platform"), *combine(["overlays/local"], OPEN)]
        kept = [one for one in wanted if one["kind"] != "Namespace" and not is_of_kfp(one)]
        run("apply", "-f", "-", stdin=self.rename("\n---\n".join(map(json.dumps, kept))))

    def rename(self, text):
        text = text.replace("fbt-platform", self.platform)
        return re.sub(r'^fbt$|(?<="namespace": ")fbt(?=")', self.app, text)

    def pods(self):
        """Of both namespaces, without those of jobs."""
        found = [*list_pods(self.app), *list_pods(self.platform)]
        return [one for one in found if "job-name" not in one["metadata"]["labels"]]

    def wait_until_ready(self, *except_for, within_s=600):
        wait_until(lambda: not self.find_waiting(except_for), within_s, 1, self.find_waiting)

    def find_waiting(self, except_for=()):
        pods = self.pods()
        if images := find_missing_images(pods):
            pytest.skip(f"the cluster lacks the images {', '.join(sorted(images))}")
        component = "app.kubernetes.io/component"
        waited = [one for one in pods if one["metadata"]["labels"].get(component) not in except_for]
        return [name_of(one) for one in waited if not is_ready(one)] if waited else ["any pod"]

    def open(self, namespace, service, port):
        """Address of a Service from here, for as long as the tests last."""
        return self.stack.enter_context(forward_port(namespace, service, port))


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """With a champion that serves."""
    if not run("get", "storageclass", "-o", "name"):
        pytest.skip("the cluster has no StorageClass")
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        made = Platform(f"fbt-test-{secrets.token_hex(3)}", stack)
        made.install()
        made.wait_until_ready("service")
        patch.setenv("MLFLOW_TRACKING_URI", made.open(made.platform, "mlflow", 5000))
        promote(make_bundle(tmp_path_factory.mktemp("platform") / "bundle"))
        made.wait_until_ready()
        yield made


OPEN = """
components: [../../components/workbench]
patches:
  - target: {kind: ConfigMap, name: fbt-workbench}
    patch: |
      - {op: add, path: /data/FBT_WORKBENCH_OPEN, value: viewer}
      - {op: remove, path: /data/FBT_OIDC_ISSUER}
      - {op: remove, path: /data/FBT_WORKBENCH_URL}
"""
"""The workbench for everybody, added to an overlay as k8s/README.md says."""


def make_secrets(rename):
    """Those of `fbt cluster up`, and the workbench's."""
    made = {}

    class Remembering(fbt_cluster.Kubectl):
        """Secrets are read from those made before."""

        def run(self, *words, stdin=""):
            key = words[-1].removeprefix("jsonpath={.data.").removesuffix("}")
            return fbt_cluster.base64.b64encode(made[words[4], words[2]][key].encode()).decode()

    for where, make in fbt_cluster.list_secrets("local").items():
        values = dict(make(Remembering()))
        made[where] = {key: rename(value) for key, value in values.items()}
    namespace, store = fbt_cluster.PLATFORM, "fbt-object-store"
    config = fbt_cluster._store_config(made[namespace, store])
    made[namespace, f"{store}-config"] = {"s3.json": config}
    key = secrets.token_hex(32)
    made[fbt_cluster.APP, "fbt-workbench"] = {"client-secret": "", "session-key": key}
    return made


def promote(bundle):
    from mlflow import MlflowClient

    tags = {VERDICT_TAG: "passed", BUNDLE_HASH_TAG: compute_sha256(bundle / "bundle.json")}
    version = register({"bundle": bundle}, {}, {}, tags)
    MlflowClient().set_registered_model_alias("fbt", "champion", version)


def is_of_kfp(one):
    return one["metadata"].get("namespace") == "kubeflow"


def is_ready(pod):
    conditions = pod["status"].get("conditions", [])
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def name_of(pod):
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def ask(url, body=None):
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None)
    request.add_header("Content-Type", "application/json")
    return urllib.request.urlopen(request, timeout=30).read().decode()


def recommend(url):
    answer = json.loads(ask(f"{url}/recommend", {"items": ["tea"], "k": 1}))
    return [one["product_id"] for one in answer["items"]]


# ---------------------------------------------------------------- what is seen


def test_every_pod_is_ready_without_having_been_restarted(platform):
    names = {name_of(one).split("/")[1].rsplit("-", 2)[0] for one in platform.pods()}
    assert {"fbt", "fbt-promoter", "fbt-ingest", "fbt-online", "fbt-workbench", "mlflow"} <= names
    for pod in platform.pods():
        for one in pod["status"]["containerStatuses"]:
            assert one["restartCount"] == 0, (name_of(pod), one["lastState"])


def test_the_service_answers_from_the_bundle_of_the_registry(platform):
    assert recommend(platform.open(platform.app, "fbt", 80)) == ["milk"]


def test_the_idle_platform_fits_a_laptop(platform):
    used = {}
    for node in json.loads(run("get", "nodes", "-o", "json"))["items"]:
        path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
        for pod in json.loads(run("get", "--raw", path))["pods"]:
            if pod["podRef"]["namespace"] in (platform.app, platform.platform):
                used[pod["podRef"]["name"]] = pod["memory"]["workingSetBytes"] / 1e6
    assert len(used) >= 8
    assert sum(used.values()) <= MAX_MB, used


def test_no_log_of_our_own_ready_pods_complains(platform):
    for pod in platform.pods():
        if pod["metadata"]["namespace"] != platform.app:
            continue
        where = ("-n", pod["metadata"]["namespace"], pod["metadata"]["name"])
        (ready,) = [one for one in pod["status"]["conditions"] if one["type"] == "Ready"]
        since = f"--since-time={ready['lastTransitionTime']}"
        lines = run("logs", *where, "--all-containers", since).splitlines()
        assert not [line for line in lines if COMPLAINT.search(line)], name_of(pod)


def test_events_are_stored_and_move_to_the_object_store(platform):
    url = platform.open(platform.app, "fbt-ingest", 80)
    assert json.loads(ask(f"{url}/events", {"events": EVENTS}))["accepted"] == len(EVENTS)
    assert re.search(
        r"^[1-9]\d* events and \d+ recommendations are in Parquet", run_compaction(platform)
    )


def run_compaction(platform):
    """Its log."""
    job = ("-n", platform.app, "job", f"now-{secrets.token_hex(3)}")
    run("create", *job, "--from=cronjob/fbt-events-compact")

    def has_ended():
        pods = json.loads(
            run("-n", platform.app, "get", "pods", "-l", f"job-name={job[3]}", "-o", "json")
        )
        if images := find_missing_images(pods["items"]):
            pytest.skip(f"the cluster lacks the images {', '.join(images)}")
        status = json.loads(run("get", *job, "-o", "json"))["status"]
        assert not status.get("failed"), run("-n", platform.app, "logs", f"job/{job[3]}")
        return status.get("succeeded")

    wait_until(has_ended, 300)
    return run("-n", platform.app, "logs", f"job/{job[3]}")


def test_the_workbench_shows_what_the_service_and_the_registry_say(platform):
    page = ask(platform.open(platform.app, "fbt-workbench", 80) + "/product/tea")
    assert "milk" in page


def test_without_the_database_recommendations_go_on_and_events_are_refused(platform):
    service, intake = (platform.open(platform.app, name, 80) for name in ("fbt", "fbt-ingest"))
    run("-n", platform.platform, "scale", "statefulset/postgres", "--replicas=0")
    try:
        wait_until(lambda: is_refused(intake), 60)
        assert recommend(service) == ["milk"]
        assert not platform.find_waiting()
    finally:
        run("-n", platform.platform, "scale", "statefulset/postgres", "--replicas=1")
    platform.wait_until_ready(within_s=180)
    wait_until(lambda: not is_refused(intake), 60)


def is_refused(intake):
    event = EVENTS[0] | {"event_id": secrets.token_hex(8)}
    try:
        ask(f"{intake}/events", {"events": [event]})
    except urllib.error.HTTPError as error:
        return error.code == 503
    return False
