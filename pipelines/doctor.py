"""`fbt doctor`: lists what is missing, with remedies."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipelines.cluster import ClusterError, Kubectl, list_requirements, list_secrets
from pipelines.images import ImagesError, find_builder


@dataclass(frozen=True)
class Finding:
    name: str
    is_present: bool
    remedy: str = ""
    """A command, or advice."""


def doctor(overlay: str, context: str = "", show: Callable[[str], None] = print) -> None:
    findings = []
    for finding in run_checks(overlay, context):
        findings.append(finding)
        show(f"{'ok     ' if finding.is_present else 'MISSING'}  {finding.name}")
        if not finding.is_present:
            show(f"         {finding.remedy}")
    if n_missing := sum(not one.is_present for one in findings):
        raise ClusterError(f"doctor: {n_missing} of {len(findings)} checks failed, see above")


def run_checks(overlay: str, context: str) -> Iterator[Finding]:
    """Stops early if no cluster answers."""
    needed, kubectl = list_requirements(overlay), Kubectl(context)
    yield _builder()
    yield Finding(
        "kubectl on this machine", bool(shutil.which("kubectl")), "install it from kubernetes.io"
    )
    try:
        kubectl.run("version")
    except ClusterError as error:
        yield Finding("a cluster that answers", False, f"kind create cluster --name fbt ({error})")
        return
    yield Finding("a cluster that answers", True)
    for one in needed:
        commands = " && ".join(kubectl.format_command(words) for words in one.install_commands)
        found = kubectl.exists(*one.probe)
        yield Finding(f"{one.name} {one.version}, which {one.why}", found, commands)
    yield from _check_own_objects(kubectl, overlay)


def _builder() -> Finding:
    try:
        return Finding(f"{find_builder()}, to build images", True)
    except ImagesError as error:
        return Finding("a builder of images", False, str(error))


def _check_own_objects(kubectl: Kubectl, overlay: str) -> Iterator[Finding]:
    up = f"fbt cluster up --overlay {overlay}"
    for namespace, name in list_secrets(overlay):
        found = kubectl.exists("secret", name, "--namespace", namespace)
        yield Finding(f"Secret {namespace}/{name}", found, up)
    for namespace, name in (
        ("fbt-platform", "deployment/mlflow"),
        ("fbt", "deployment/fbt-promoter"),
        ("fbt", "deployment/fbt"),
    ):
        yield Finding(f"{namespace}/{name}", kubectl.exists(name, "--namespace", namespace), up)
