"""`fbt images`: builds the container images with docker, podman or buildah."""

import importlib.metadata
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.bundle.build import git_revision
from pipelines.home import code_version

ROOT = Path(__file__).parents[1]
DOCKERFILE = Path("k8s") / "images" / "Dockerfile"
TARGETS = ("steps", "serve", "promoter", "mlflow", "workbench")
VERSION = importlib.metadata.version("fbt")

BUILDERS = {
    "docker": ("docker", "info"),
    "podman": ("podman", "info"),
    "buildah": ("buildah", "info"),
}
"""By preference, each with a command that succeeds if it works."""


class ImagesError(RuntimeError):
    """The message names the missing tool or the failed build."""


@dataclass(frozen=True)
class Build:
    target: str
    registry: str = ""
    """Prefix of the name; empty = local name."""

    @property
    def tags(self) -> list[str]:
        """The version, for manifests; version and code, for KFP's cache keys."""
        name = f"{self.registry}/fbt-{self.target}" if self.registry else f"fbt-{self.target}"
        return [f"{name}:{VERSION}", f"{name}:{VERSION}-{code_version()}"]

    def command(self, builder: str, extra: Sequence[str]) -> list[str]:
        tags = [word for tag in self.tags for word in ("--tag", tag)]
        arguments = {"REVISION": git_revision() or "unknown", "VERSION": VERSION}
        given = [w for name, value in arguments.items() for w in ("--build-arg", f"{name}={value}")]
        where = ["--file", str(DOCKERFILE), "--target", self.target]
        return [builder, "build", *where, *tags, *given, *extra, "."]


def build_images(
    targets: Sequence[str],
    registry: str = "",
    push: bool = False,
    extra: Sequence[str] = (),
    show: Callable[[str], None] = print,
) -> list[str]:
    """Build the targets, all if none are given; the tags. `extra` are options of the builder."""
    if unknown := sorted(set(targets) - set(TARGETS)):
        raise ImagesError(
            f"images: found unknown targets {unknown}, expected some of {', '.join(TARGETS)}"
        )
    if push and not registry:
        raise ImagesError("images: --push needs --registry, the place to push to")
    if not (ROOT / DOCKERFILE).is_file():
        raise ImagesError(
            f"images: {ROOT} has no {DOCKERFILE}; run fbt from a checkout of the source"
        )
    builder, made = find_builder(), list[str]()
    for target in targets or TARGETS:
        build = Build(target, registry.rstrip("/"))
        _run(build.command(builder, extra), show)
        for tag in build.tags:
            if push:
                _run([builder, "push", tag], show)
            made.append(tag)
    return made


def find_builder() -> str:
    for name, probe in BUILDERS.items():
        if shutil.which(name) and subprocess.run(probe, capture_output=True).returncode == 0:
            return name
    raise ImagesError(
        f"images: none of {', '.join(BUILDERS)} is installed and running; one is enough, e.g. "
        "`sudo apt-get install buildah`"
    )


def _run(command: list[str], show: Callable[[str], None]) -> None:
    show("$ " + " ".join(command))
    if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise ImagesError(f"images: {' '.join(command[:2])} ended with code {code}; see above")
