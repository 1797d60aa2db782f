"""`fbt cluster up`: installs what a cluster lacks, and waits for it."""

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.kubectl import ClusterError, Kubectl
from pipelines.readiness import POLL_S, wait_until_ready

OVERLAYS = Path(__file__).parents[1] / "k8s" / "overlays"
APP, PLATFORM, KFP = "fbt", "fbt-platform", "kubeflow"


STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Requirement:
    """Third-party software."""

    name: str
    version: str
    why: str
    probe: str
    """Path of the API server that is there where the software is."""
    install_commands: tuple[tuple[str, ...], ...]
    """Arguments of `kubectl`, in order."""
    version_at: tuple[str, str]
    """Path of the API server, and the pattern whose group is the version there."""
    workloads: tuple[str, str] = ("", "")
    """Namespace, and the name of its Deployment there; an empty name is all workloads."""


_KFP_SOURCE = "github.com/kubeflow/pipelines/manifests/kustomize"
_KFP_VERSION = "ref=2.17.0&timeout=5m"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
KFP_API = f"/api/v1/namespaces/{KFP}/services/ml-pipeline:8888/proxy/apis/v2beta1"
"""By the API server, which reaches it where this machine does not."""

REQUIREMENTS = {
    "kfp": Requirement(
        "Kubeflow Pipelines", "2.17.0", "runs the training pipeline",
        f"/apis/apps/v1/namespaces/{KFP}/deployments/ml-pipeline",
        (
            ("apply", "-k", f"{_KFP_SOURCE}/cluster-scoped-resources?{_KFP_VERSION}"),
            ("wait", "--for", "condition=established", "--timeout=60s",
             "crd/applications.app.k8s.io"),
            ("apply", "-k", f"{_KFP_SOURCE}/env/platform-agnostic?{_KFP_VERSION}"),
        ),
        (f"{KFP_API}/healthz", r'"tag_name": *"v?([\d.]+)'),
        (KFP, ""),
    ),
    "metrics": Requirement(
        "metrics-server", "0.8.0", "measures the load of pods for the autoscaler",
        f"{API_SERVICES}/v1beta1.metrics.k8s.io",
        (("apply", "-f", "https://github.com/kubernetes-sigs/metrics-server/releases/download/"
          "v0.8.0/components.yaml"),),
        ("/apis/apps/v1/namespaces/kube-system/deployments/metrics-server",
         r'/metrics-server:v?([\d.]+)'),
        ("kube-system", "metrics-server"),
    ),
    "rollouts": Requirement(
        "Argo Rollouts", "1.9.1", "moves traffic to a canary",
        f"{_CRDS}/rollouts.argoproj.io",
        (
            ("create", "namespace", "argo-rollouts"),
            ("apply", "--namespace", "argo-rollouts", "-f",
             "https://github.com/argoproj/argo-rollouts/releases/download/v1.9.1/install.yaml"),
        ),
        ("/apis/apps/v1/namespaces/argo-rollouts/deployments/argo-rollouts",
         r'/argo-rollouts:v?([\d.]+)'),
        ("argo-rollouts", ""),
    ),
    "prometheus": Requirement(
        "Prometheus operator", "0.93.0", "collects the metrics that canaries are judged by",
        f"{_CRDS}/servicemonitors.monitoring.coreos.com",
        (("apply", "--server-side", "-f", "https://github.com/prometheus-operator/"
          "prometheus-operator/releases/download/v0.93.0/bundle.yaml"),),
        (f"{_CRDS}/servicemonitors.monitoring.coreos.com",
         r'"operator\.prometheus\.io/version": *"v?([\d.]+)'),
        ("default", "prometheus-operator"),
    ),
    "gateway": Requirement(
        "Gateway API", "1.6.1", "splits requests by weight",
        f"{_CRDS}/httproutes.gateway.networking.k8s.io",
        (("apply", "-f", "https://github.com/kubernetes-sigs/gateway-api/releases/download/"
          "v1.6.1/standard-install.yaml"),),
        (f"{_CRDS}/httproutes.gateway.networking.k8s.io",
         r'"gateway\.networking\.k8s\.io/bundle-version": *"v?([\d.]+)'),
    ),
}  # fmt: skip
"""The versions are those of k8s/README.md."""

KFP_FILES = ("cluster-scoped-resources.yaml", "platform-agnostic.yaml")
"""As `kubectl kustomize` writes them from KFP's folders of these names."""

NEEDED = {
    "local": ("kfp", "metrics"),
    "staging": ("kfp", "metrics", "rollouts", "prometheus"),
    "production": ("kfp", "metrics", "rollouts", "prometheus", "gateway"),
}

IN_CLUSTER_STORES = ("local", "staging")
"""Their database and object store run in the cluster, with generated passwords."""

PROMETHEUS = OVERLAYS.parent / "platform" / "prometheus"
PROMETHEUS_SERVICE = ("service", "prometheus-operated", "--namespace", "monitoring")
"""Of the operator's Prometheus, which the AnalysisTemplates ask."""

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
    overlay: str,
    context: str = "",
    wait_s: float = 900,
    show: Callable[[str], None] = print,
    kfp_source: str = "",
    poll_s: float = POLL_S,
) -> None:
    """Change existing objects by `kubectl apply` only, existing Secrets never.

    `kfp_source` is a folder or URL with the files of KFP_FILES, instead of GitHub.
    """
    needed, kubectl = list_requirements(overlay), Kubectl(context)
    kubectl.run("version")
    for one in find_missing(kubectl, needed):
        show(f"installing {one.name} {one.version}, which {one.why}")
        _install(kubectl, _take_from(kfp_source, one) if kfp_source else one)
    if needs_prometheus(kubectl, overlay):
        show("installing a Prometheus, which judges canaries")
        kubectl.run("apply", "-k", str(PROMETHEUS))
    show(f"creating missing Secrets in {PLATFORM} and {APP}")
    _make_secrets(kubectl, overlay, show)
    for folder in (OVERLAYS / overlay / "platform", OVERLAYS / overlay):
        show(kubectl.format_command(("apply", "-k", str(folder))))
        kubectl.run("apply", "-k", str(folder))
    show(f"waiting until these are ready, {wait_s:g} s at most")
    with kubectl.connected() as connected:
        wait_until_ready(connected, list_waited(overlay), wait_s, show, poll_s)
    show("usable; next: `fbt submit --orders …`, then `fbt promote VERSION`")


def _take_from(source: str, one: Requirement) -> Requirement:
    """KFP with its manifests from another place; others as they are."""
    if one is not REQUIREMENTS["kfp"]:
        return one
    cluster_scoped, namespaced = (f"{source.rstrip('/')}/{name}" for name in KFP_FILES)
    _, wait, _ = one.install_commands
    commands = ("apply", "-f", cluster_scoped), wait, ("apply", "-f", namespaced)
    return replace(one, install_commands=commands)


def _install(kubectl: Kubectl, one: Requirement) -> None:
    for command in one.install_commands:
        try:
            kubectl.run(*command)
        except ClusterError as error:
            if "AlreadyExists" in str(error):
                continue
            raise ClusterError(f"{error}\n  {_explain_source(one)}") from None


def _explain_source(one: Requirement) -> str:
    if one.name == REQUIREMENTS["kfp"].name:
        return (
            "without GitHub: write its manifests to files where GitHub can be reached, as "
            "k8s/README.md shows under 'Without GitHub', and name their folder by --kfp-source"
        )
    return (
        "without GitHub: bring the file here, `kubectl apply` it, and run this again; what is "
        "installed is left as it is"
    )


def list_requirements(overlay: str) -> list[Requirement]:
    if overlay not in NEEDED:
        raise ClusterError(f"cluster: no overlay {overlay!r}; expected one of {', '.join(NEEDED)}")
    return [REQUIREMENTS[name] for name in NEEDED[overlay]]


def find_missing(kubectl: Kubectl, needed: list[Requirement]) -> list[Requirement]:
    return [one for one in needed if kubectl.read(one.probe) is None]


def needs_prometheus(kubectl: Kubectl, overlay: str) -> bool:
    """Not in production, which has one of its own."""
    has_canary = "prometheus" in NEEDED[overlay] and overlay in IN_CLUSTER_STORES
    return has_canary and not kubectl.exists(*PROMETHEUS_SERVICE)


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


def list_waited(overlay: str) -> list[tuple[str, str]]:
    """Namespace and `kind/name`; the service itself gets ready only after the first promotion."""
    stores = [(PLATFORM, "statefulset/postgres"), (PLATFORM, "statefulset/object-store")]
    return [
        *(stores if overlay in IN_CLUSTER_STORES else []),
        (PLATFORM, "deployment/mlflow"),
        (KFP, "deployment/ml-pipeline"),
        (APP, "deployment/fbt-promoter"),
    ]
