"""The overlay `staging` with its platform, in namespaces of a test's own, on a real cluster.

Everything is the manifests': stores, MLflow, promoter, service, Rollout, analysis, monitors,
network policies. Judgements come sooner, CPU requests are small, and faults of a version are those
that its bundle names.
"""

import contextlib
import json
import os
import secrets
import subprocess
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import pytest

from components.model.bundle import compute_sha256
from components.package.server import find_free_port
from components.promoter.cluster import Cluster, connect
from components.promoter.workload import POD_HASH_LABEL, VERSION_LABEL, read_pinned_version
from components.registry.registry import BUNDLE_HASH_TAG, MODEL, VERDICT_TAG, register
from pipelines.cluster import _fernet_key, _store_config
from tests.cluster.kube import (
    config_map,
    create,
    find_missing_images,
    forward_port,
    list_pods,
    run,
    wait_until,
)
from tests.factories import make_bundle
from tests.manifests.conftest import (
    combine,
    containers_of,
    find,
    kubectl,
    labels_of,
    of_kind,
    rendered,
)
from tests.manifests.conftest import workloads as with_pods

HERE = Path(__file__).parent
REPLICAS = 4
RATE = 20.0
"""Requests a second of the shop."""

SOONER = {
    # The windows of the queries, when an analysis begins, how often and how many times it looks.
    "[5m]": "[30s]",
    '"initialDelay": "5m"': '"initialDelay": "40s"',
    '"interval": "1m"': '"interval": "10s"',
    '"count": 5': '"count": 2',
}
PATIENT = {"max-latency-ratio": "50", "max-latency": "0.5", "min-requests": "20"}
"""A busy test machine delays single answers; a slow version is slower than that."""

NO_SECRETS: Mapping[str, Mapping[str, str]] = MappingProxyType({})


def find_missing_part() -> str:
    """Why a canary cannot be judged on this cluster; an empty text if it can."""
    if not os.environ.get("KUBECONFIG"):
        return "no cluster: KUBECONFIG is unset"
    parts = {
        "Argo Rollouts": ("deployment", "-A", "-l", "app.kubernetes.io/name=argo-rollouts"),
        "a Prometheus of the operator in the namespace monitoring": (
            "service", "prometheus-operated", "-n", "monitoring",
        ),
        "ServiceMonitors": ("crd", "servicemonitors.monitoring.coreos.com"),
        "a StorageClass": ("storageclass",),
    }  # fmt: skip
    for name, query in parts.items():
        done = subprocess.run(
            [kubectl(), "get", *query, "-o", "name"], capture_output=True, text=True, timeout=60
        )
        if done.returncode or not done.stdout.strip():
            return f"the cluster lacks {name}"
    return ""


@dataclass
class Staging:
    name: str
    stack: contextlib.ExitStack
    component: str
    """Of k8s/components, added to the overlay; may be empty."""
    secrets: Mapping[str, Mapping[str, str]]
    """Of the service's namespace, which the component needs."""
    cluster: Cluster = field(init=False)
    url: str = ""
    """Of MLflow, from here."""
    forward: contextlib.ExitStack = field(init=False)

    @property
    def platform(self) -> str:
        return f"{self.name}-platform"

    @property
    def shop(self) -> str:
        return f"{self.name}-shop"

    def install(self) -> None:
        self.cluster = connect(self.name)
        for name, labels in (
            (self.platform, {"pod-security.kubernetes.io/enforce": "restricted"}),
            (self.name, {"pod-security.kubernetes.io/enforce": "restricted"}),
            (self.shop, {"fbt/client": "true"}),
        ):
            create({"kind": "Namespace", "metadata": {"name": name, "labels": labels}})
            self.stack.callback(run, "delete", "namespace", name, "--wait=false")
        self.make_secrets()
        added = f"components: [../../components/{self.component}]" if self.component else "{}"
        for objects in (
            rendered("overlays/staging/platform"), combine(["overlays/staging"], added),
        ):  # fmt: skip
            run("apply", "-f", "-", stdin=self.adapt(objects))
        self.wait_for_rollout(self.platform, "statefulset/postgres")
        self.wait_for_rollout(self.platform, "statefulset/object-store")
        self.wait_for_rollout(self.platform, "deployment/mlflow")
        self.wait_for_rollout(self.name, "deployment/fbt-promoter")

    def make_secrets(self) -> None:
        """As k8s/README.md says, by hand."""
        password, service = secrets.token_hex(8), secrets.token_hex(8)
        keys = {"AWS_ACCESS_KEY_ID": "fbt", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(8)}
        postgres = f"postgres.{self.platform}.svc:5432"
        uri = f"postgresql://mlflow:{password}@{postgres}/mlflow"
        url = f"postgresql://fbt:{service}@{postgres}/fbt"
        for namespace, name, values in (
            (self.platform, "fbt-mlflow-database", {"uri": uri, "password": password}),
            (self.platform, "fbt-database", {"password": service}),
            (self.platform, "fbt-object-store", keys),
            (self.platform, "fbt-object-store-config", {"s3.json": _store_config(keys)}),
            (self.platform, "fbt-webhook", {"encryption-key": _fernet_key()}),
            (self.name, "fbt-webhook", {"secret": secrets.token_hex(16)}),
            (self.name, "fbt-admin", {"token": secrets.token_hex(16)}),
            (self.name, "fbt-database", {"url": url}),
            *((self.name, name, values) for name, values in self.secrets.items()),
        ):
            metadata = {"name": name, "namespace": namespace}
            create({"kind": "Secret", "metadata": metadata, "stringData": values})

    def adapt(self, objects: list[dict]) -> str:
        """Their own namespaces, small requests, early judgements, and room for faults."""
        kept = [one for one in json.loads(json.dumps(objects)) if is_wanted(one)]
        for workload in with_pods(kept):
            for container in containers_of(workload):
                container["resources"]["requests"] = {"cpu": "50m", "memory": "128Mi"}
        if scaler := find(kept, "HorizontalPodAutoscaler", "fbt"):
            scaler["spec"] |= {"minReplicas": REPLICAS, "maxReplicas": REPLICAS}
            serve_faults(find(kept, "Deployment", "fbt"))
            kept.append(config_map(self.name, "faults", HERE / "faulty_version.py"))
        for one in of_kind(kept, "ServiceMonitor"):
            for endpoint in one["spec"]["endpoints"]:
                endpoint |= {"interval": "3s", "scrapeTimeout": "3s"}
        text = "\n---\n".join(judge_sooner(one) for one in kept)
        text = text.replace("registry.example.com/fbt/", "").replace("fbt-platform", self.platform)
        return text.replace('"namespace": "fbt"', f'"namespace": "{self.name}"')

    def wait_for_rollout(self, namespace: str, name: str, within_s: float = 300) -> None:
        """Skips the tests where an image is not there."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            done = subprocess.run(
                [kubectl(), "-n", namespace, "rollout", "status", name, "--timeout=5s"],
                capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            if done.returncode == 0:
                return
            for image in find_missing_images(list_pods(namespace)):
                pytest.skip(f"the cluster has no image {image}")
        pytest.fail(f"{namespace}/{name}: {done.stdout} {run('-n', namespace, 'get', 'pods')}")

    def open_mlflow(self) -> str:
        """Its address from here, for as long as the tests last."""
        self.forward = self.stack.enter_context(contextlib.ExitStack())
        self.url = f"http://127.0.0.1:{find_free_port()}"
        self.reopen_mlflow()
        return self.url

    def reopen_mlflow(self) -> None:
        """The same address, after MLflow's pod was replaced."""
        self.forward.close()
        local = int(self.url.rpartition(":")[2])
        self.forward.enter_context(forward_port(self.platform, "mlflow", 5000, local))
        wait_until(lambda: answers(f"{self.url}/health"), 60)

    def register(self, folder: Path, fault: str = "", **options) -> str:
        """A version that passed its gate; `fault` is one of faulty_version.py."""
        return self.register_bundle(self.make_bundle(folder, fault, **options))

    def make_bundle(self, folder: Path, fault: str = "", **options) -> Path:
        bundle = make_bundle(folder / f"bundle-{secrets.token_hex(4)}", **options)
        manifest = json.loads((bundle / "bundle.json").read_text())
        # A unique one, for versions of equal bundles are told apart by their hash.
        manifest["code_version"] = fault or secrets.token_hex(4)
        (bundle / "bundle.json").write_text(json.dumps(manifest))
        return bundle

    def register_bundle(self, bundle: Path) -> str:
        digest = compute_sha256(bundle / "bundle.json")
        return register(
            {"bundle": bundle}, {}, {}, {VERDICT_TAG: "passed", BUNDLE_HASH_TAG: digest}
        )

    @contextlib.contextmanager
    def open_shop(self, seconds: float = 600, tries: int = 1):
        """Shoppers, for at most these seconds; a `Shop`."""
        name = f"shop-{secrets.token_hex(3)}"
        create(config_map(self.shop, name, HERE / "traffic.py"))
        url = f"http://fbt.{self.name}.svc"
        command = ["python", "/scripts/traffic.py", url, str(RATE), str(seconds), str(tries)]
        container = {
            "name": "shop",
            "image": "fbt-serve:0.1.0",
            "command": command,
            "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}],
        }
        create({
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.shop},
            "spec": {
                "containers": [container],
                "volumes": [{"name": "scripts", "configMap": {"name": name}}],
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
            },
        })  # fmt: skip
        try:
            run("-n", self.shop, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
            yield Shop(self.shop, name)
        finally:
            run("-n", self.shop, "delete", "pod", name, "--wait=false")

    def set_champion(self, version: str) -> float:
        """As the MLflow UI does; when, in seconds of the epoch."""
        from mlflow import MlflowClient

        now = time.time()
        MlflowClient().set_registered_model_alias(MODEL, "champion", version)
        return now

    @property
    def champion(self) -> str:
        from mlflow import MlflowClient

        return str(MlflowClient().get_registered_model(MODEL).aliases.get("champion", ""))

    def tags(self, version: str) -> dict[str, str]:
        from mlflow import MlflowClient

        return dict(MlflowClient().get_model_version(MODEL, version).tags)

    @property
    def pinned(self) -> str:
        return read_pinned_version(self.cluster.get("Deployment", "fbt"))

    @property
    def status(self) -> dict:
        return (self.cluster.get("Rollout", "fbt") or {}).get("status") or {}

    def ready_pods(self) -> Counter[str]:
        """How many pods of each version are ready."""
        return Counter(
            pod["metadata"]["labels"][VERSION_LABEL]
            for pod in self.cluster.list_objects("Pod", f"{VERSION_LABEL},{POD_HASH_LABEL}")
            if "deletionTimestamp" not in pod["metadata"]
            for one in pod.get("status", {}).get("conditions") or []
            if (one["type"], one["status"]) == ("Ready", "True")
        )

    def has_model(self) -> bool:
        from mlflow import MlflowClient

        return bool(MlflowClient().search_registered_models(f"name = '{MODEL}'"))

    def analysed(self) -> list[dict]:
        """Every AnalysisRun."""
        text = run("-n", self.name, "get", "analysisruns", "-o", "json")
        return list(json.loads(text)["items"])

    def judged_at(self) -> float:
        """When the last analysis failed, in seconds of the epoch."""
        ends = [
            measured["finishedAt"]
            for one in self.analysed()
            for metric in one.get("status", {}).get("metricResults", [])
            for measured in metric.get("measurements", [])
            if measured["phase"] == "Failed"
        ]
        return datetime.fromisoformat(max(ends)).timestamp()

    def is_live(self, version: str) -> bool:
        return (
            self.status.get("phase") == "Healthy"
            and self.ready_pods() == {version: REPLICAS}
            and self.tags(version).get("fbt.rollout") == "live"
        )


@contextlib.contextmanager
def install_staging(component: str = "", secrets: Mapping[str, Mapping[str, str]] = NO_SECRETS):
    """The platform with an open MLflow, which MLFLOW_TRACKING_URI names. Skips without a part."""
    if reason := find_missing_part():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        installed = Staging(f"fbt-test-{uuid.uuid4().hex[:6]}", stack, component, secrets)
        installed.install()
        environment.setenv("MLFLOW_TRACKING_URI", installed.open_mlflow())
        yield installed


@dataclass(frozen=True)
class Shop:
    namespace: str
    pod: str

    def read(self) -> list[dict]:
        """Every second that is over: `at`, `answers`, `slowest_s`."""
        text = run("-n", self.namespace, "logs", self.pod)
        return [json.loads(line) for line in text.splitlines()]

    def wait(self, at: float) -> list[dict]:
        """All seconds, once this time is among them."""
        wait_until(lambda: any(one["at"] >= at for one in self.read()), 30)
        return self.read()


def count(seconds: list[dict], since: float, until: float) -> Counter[str]:
    """The answers of whole seconds between two times, by version."""
    found: Counter[str] = Counter()
    for one in seconds:
        if since <= one["at"] and one["at"] + 1 <= until:
            found.update(one["answers"])
    return found


def is_wanted(one: dict) -> bool:
    """Without KFP's and what makes events, which no promotion needs."""
    if one["kind"] in ("Namespace", "CronJob") or one["metadata"].get("namespace") == "kubeflow":
        return False
    component = one["metadata"].get("labels", {}).get("app.kubernetes.io/component", "")
    return component not in ("ingest", "online", "events-jobs")


def serve_faults(deployment: dict) -> None:
    """The service of faulty_version.py instead of the image's."""
    service, pod = deployment["spec"]["template"]["spec"]["containers"][0], labels_of(deployment)
    assert service["name"] == "service", pod
    service["command"] = [
        "python", "-m", "bentoml", "serve", "faulty_version:Fbt", "--working-dir", "/faults",
        "--host", "0.0.0.0", "--port", "3000",
    ]  # fmt: skip
    # On a busy machine event loops are late, and a service that is late refuses requests.
    service["env"].append({"name": "FBT_MAX_LAG_MS", "value": "60000"})
    service["volumeMounts"].append({"name": "faults", "mountPath": "/faults"})
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    volumes.append({"name": "faults", "configMap": {"name": "faults"}})


def judge_sooner(one: dict) -> str:
    """The object as JSON."""
    if one["kind"] != "AnalysisTemplate":
        return json.dumps(one)
    for argument in one["spec"].get("args", []):
        if "value" in argument:
            argument["value"] = PATIENT.get(argument["name"], argument["value"])
    text = json.dumps(one)
    for written, sooner in SOONER.items():
        text = text.replace(written, sooner)
    return text


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False
