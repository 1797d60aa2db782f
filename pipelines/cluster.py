"""`fbt cluster up`: installs what a cluster lacks, and waits for it."""

import base64
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

OVERLAYS = Path(__file__).parents[1] / "k8s" / "overlays"
APP, PLATFORM, KFP = "fbt", "fbt-platform", "kubeflow"


STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


class ClusterError(RuntimeError):
    """The message contains the remedy."""


@dataclass(frozen=True)
class Kubectl:
    context: str = ""
    """Empty = the current one."""

    def run(self, *words: str, stdin: str = "") -> str:
        """Standard output. Raises ClusterError."""
        done = self._call(words, stdin)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip()[-1500:]
            raise ClusterError(f"cluster: `{self.format_command(words)}` failed: {reason}")
        return done.stdout

    def exists(self, *words: str) -> bool:
        """Raises ClusterError if no cluster answers."""
        done = self._call(("get", *words), "")
        absent = "NotFound" in done.stderr or "doesn't have a resource type" in done.stderr
        if done.returncode and not absent:
            command = self.format_command(("get", *words))
            raise ClusterError(f"cluster: `{command}` failed: {done.stderr.strip()}")
        return done.returncode == 0

    def format_command(self, words: tuple[str, ...]) -> str:
        return " ".join(["kubectl", *self._context(), *words])

    def _context(self) -> list[str]:
        return ["--context", self.context] if self.context else []

    def _call(self, words: tuple[str, ...], stdin: str) -> "subprocess.CompletedProcess[str]":
        if not shutil.which("kubectl"):
            raise ClusterError("cluster: kubectl is not installed; see kubernetes.io/docs/tasks")
        return subprocess.run(
            ["kubectl", *self._context(), *words],
            input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip


@dataclass(frozen=True)
class Requirement:
    """Third-party software."""

    name: str
    version: str
    why: str
    probe: tuple[str, ...]
    """Arguments of `kubectl get`."""
    install_commands: tuple[tuple[str, ...], ...]
    """Arguments of `kubectl`, in order."""


_KFP_SOURCE = "github.com/kubeflow/pipelines/manifests/kustomize"

REQUIREMENTS = {
    "kfp": Requirement(
        "Kubeflow Pipelines", "2.17.0", "runs the training pipeline",
        ("deployment/ml-pipeline", "--namespace", KFP),
        (
            ("apply", "-k", f"{_KFP_SOURCE}/cluster-scoped-resources?ref=2.17.0"),
            ("wait", "--for", "condition=established", "--timeout=60s",
             "crd/applications.app.k8s.io"),
            ("apply", "-k", f"{_KFP_SOURCE}/env/platform-agnostic?ref=2.17.0"),
        ),
    ),
    "metrics": Requirement(
        "metrics-server", "0.8.0", "measures the load of pods for the autoscaler",
        ("apiservice", "v1beta1.metrics.k8s.io"),
        (("apply", "-f", "https://github.com/kubernetes-sigs/metrics-server/releases/download/"
          "v0.8.0/components.yaml"),),
    ),
    "rollouts": Requirement(
        "Argo Rollouts", "1.9.1", "moves traffic to a canary",
        ("crd", "rollouts.argoproj.io"),
        (
            ("create", "namespace", "argo-rollouts"),
            ("apply", "--namespace", "argo-rollouts", "-f",
             "https://github.com/argoproj/argo-rollouts/releases/download/v1.9.1/install.yaml"),
        ),
    ),
    "prometheus": Requirement(
        "Prometheus operator", "0.93.0", "collects the metrics that canaries are judged by",
        ("crd", "servicemonitors.monitoring.coreos.com"),
        (("apply", "--server-side", "-f", "https://github.com/prometheus-operator/"
          "prometheus-operator/releases/download/v0.93.0/bundle.yaml"),),
    ),
    "gateway": Requirement(
        "Gateway API", "1.6.1", "splits requests by weight",
        ("crd", "httproutes.gateway.networking.k8s.io"),
        (("apply", "-f", "https://github.com/kubernetes-sigs/gateway-api/releases/download/"
          "v1.6.1/standard-install.yaml"),),
    ),
}  # fmt: skip
"""The versions are those of k8s/README.md."""

NEEDED = {
    "local": ("kfp", "metrics"),
    "staging": ("kfp", "metrics", "rollouts", "prometheus"),
    "production": ("kfp", "metrics", "rollouts", "prometheus", "gateway"),
}

IN_CLUSTER_STORES = ("local", "staging")
"""Their database and object store run in the cluster, with generated passwords."""

BY_HAND = (
    (PLATFORM, "fbt-mlflow-database"),
    (PLATFORM, "fbt-object-store"),
    (APP, "fbt-database"),
    (APP, "fbt-events-store"),
)
"""Secrets with the addresses of external stores."""

OF_COMPONENTS = ((APP, "fbt-workbench"), (APP, "fbt-verify-keys"))
"""Secrets made by hand, of components that an overlay has only once somebody adds them."""


def cluster_up(
    overlay: str, context: str = "", wait_s: float = 900, show: Callable[[str], None] = print
) -> None:
    """Change existing objects by `kubectl apply` only, existing Secrets never."""
    needed, kubectl = list_requirements(overlay), Kubectl(context)
    kubectl.run("version")
    for one in find_missing(kubectl, needed):
        show(f"installing {one.name} {one.version}, which {one.why}")
        for command in one.install_commands:
            kubectl.run(*command)
    show(f"creating missing Secrets in {PLATFORM} and {APP}")
    _make_secrets(kubectl, overlay, show)
    for folder in (OVERLAYS / overlay / "platform", OVERLAYS / overlay):
        show(kubectl.format_command(("apply", "-k", str(folder))))
        kubectl.run("apply", "-k", str(folder))
    _wait_until_ready(kubectl, overlay, wait_s, show)
    show("usable; next: `fbt submit --orders …`, then `fbt promote VERSION`")


def list_requirements(overlay: str) -> list[Requirement]:
    if overlay not in NEEDED:
        raise ClusterError(f"cluster: no overlay {overlay!r}; expected one of {', '.join(NEEDED)}")
    return [REQUIREMENTS[name] for name in NEEDED[overlay]]


def find_missing(kubectl: Kubectl, needed: list[Requirement]) -> list[Requirement]:
    return [one for one in needed if not kubectl.exists(*one.probe)]


SecretMaker = Callable[[Kubectl], Mapping[str, str]]


def list_secrets(overlay: str) -> dict[tuple[str, str], SecretMaker]:
    """The generated Secrets, by namespace and name."""
    makers: dict[tuple[str, str], SecretMaker] = {
        (PLATFORM, "fbt-webhook"): lambda _: {"encryption-key": _fernet_key()},
        (APP, "fbt-webhook"): lambda _: {"secret": secrets.token_urlsafe(32)},
        (APP, "fbt-admin"): lambda _: {"token": secrets.token_urlsafe(32)},
    }
    if overlay in IN_CLUSTER_STORES:
        makers |= {
            (PLATFORM, "fbt-mlflow-database"): lambda _: _mlflow_database(),
            (PLATFORM, "fbt-object-store"): lambda _: _store_keys(),
            (PLATFORM, "fbt-database"): lambda _: {"password": secrets.token_hex(24)},
            (APP, "fbt-database"): _service_database,
            (APP, "fbt-events-store"): _copy_store_keys,
        }
    return makers


def _make_secrets(kubectl: Kubectl, overlay: str, show: Callable[[str], None]) -> None:
    for name in (PLATFORM, APP):
        manifest = OVERLAYS.parent / ("platform" if name == PLATFORM else f"overlays/{overlay}")
        kubectl.run("apply", "-f", str(manifest / "namespace.yaml"))
    for (namespace, name), make in list_secrets(overlay).items():
        if kubectl.exists("secret", name, "--namespace", namespace):
            continue
        values = dict(make(kubectl))
        _create(kubectl, namespace, name, values)
        if name == "fbt-object-store":
            _create(kubectl, namespace, f"{name}-config", {"s3.json": _store_config(values)})
        show(f"  created {namespace}/{name}")
    if overlay not in IN_CLUSTER_STORES:
        for namespace, name in BY_HAND:
            if not kubectl.exists("secret", name, "--namespace", namespace):
                raise ClusterError(
                    f"cluster: Secret {name} is missing in {namespace}, expected one with the "
                    "address of the store; k8s/README.md has the command"
                )


def _create(kubectl: Kubectl, namespace: str, name: str, values: Mapping[str, str]) -> None:
    # By standard input: every user of this machine can read a command line.
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": dict(values),
    }
    kubectl.run("create", "-f", "-", stdin=json.dumps(secret))


def _mlflow_database() -> Mapping[str, str]:
    password = secrets.token_hex(24)
    return {"password": password, "uri": _postgres("mlflow", password)}


def _service_database(kubectl: Kubectl) -> Mapping[str, str]:
    """The password is that of the database's own Secret."""
    return {"url": _postgres("fbt", _read_secret(kubectl, "fbt-database", "password"))}


def _copy_store_keys(kubectl: Kubectl) -> Mapping[str, str]:
    """For jobs of the application."""
    return {name: _read_secret(kubectl, "fbt-object-store", name) for name in STORE_KEYS}


def _read_secret(kubectl: Kubectl, name: str, key: str) -> str:
    where = ("secret", name, "--namespace", PLATFORM, "-o", f"jsonpath={{.data.{key}}}")
    return base64.b64decode(kubectl.run("get", *where)).decode()


def _postgres(name: str, password: str) -> str:
    return f"postgresql://{name}:{password}@postgres.{PLATFORM}.svc:5432/{name}"


def _store_keys() -> Mapping[str, str]:
    return dict(zip(STORE_KEYS, (secrets.token_hex(10), secrets.token_hex(24)), strict=True))


def _store_config(keys: Mapping[str, str]) -> str:
    credentials = {
        "accessKey": keys["AWS_ACCESS_KEY_ID"], "secretKey": keys["AWS_SECRET_ACCESS_KEY"],
    }  # fmt: skip
    identity = {"name": "mlflow", "credentials": [credentials], "actions": ["Admin"]}
    return json.dumps({"identities": [identity]})


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _wait_until_ready(
    kubectl: Kubectl, overlay: str, wait_s: float, show: Callable[[str], None]
) -> None:
    """The service itself gets ready only after the first promotion."""
    deadline = time.monotonic() + wait_s
    waited = [
        (PLATFORM, "deployment/mlflow"),
        (KFP, "deployment/ml-pipeline"),
        (APP, "deployment/fbt-promoter"),
    ]
    if overlay in IN_CLUSTER_STORES:
        stores = [(PLATFORM, "statefulset/postgres"), (PLATFORM, "statefulset/object-store")]
        waited = [*stores, *waited]
    for namespace, name in waited:
        left = max(1, int(deadline - time.monotonic()))
        show(f"waiting for {namespace}/{name}")
        kubectl.run("rollout", "status", name, "--namespace", namespace, f"--timeout={left}s")
