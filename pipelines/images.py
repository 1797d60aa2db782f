"""`fbt images`: builds the container images with docker, podman or buildah."""

import importlib.metadata
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.home import code_version

ROOT = Path(__file__).parents[1]
DOCKERFILE = Path("k8s") / "images" / "Dockerfile"
TARGETS = ("steps", "serve", "promoter", "mlflow", "workbench")
VERSION = importlib.metadata.version("fbt")
DEFAULT_REGISTRY = "docker.io/library"
"""What Kubernetes and docker take a name without a registry for; podman and buildah, localhost."""

BUILDERS = {
    "docker": ("docker", "info"),
    "podman": ("podman", "info"),
    "buildah": ("buildah", "info"),
}
"""By preference, each with a command that succeeds if it works."""


class ImagesError(RuntimeError):
    """The message names the missing tool or the failed build."""


@dataclass(frozen=True)
class Commit:
    """What an image is built from."""

    revision: str
    """With `-dirty` where files differ from it; `unknown` outside of a repository."""
    time_s: int
    """Since 1970."""
    repository: str
    """Its address without a login; may be empty."""

    @property
    def labels(self) -> dict[str, str]:
        created = datetime.fromtimestamp(self.time_s, UTC)
        labels = {
            "created": created.isoformat().replace("+00:00", "Z"),
            "licenses": "Apache-2.0",
            "revision": self.revision,
            "source": self.repository,
            "version": VERSION,
        }
        return {f"org.opencontainers.image.{name}": text for name, text in labels.items() if text}


@dataclass(frozen=True)
class Build:
    target: str
    commit: Commit
    code: str
    """Of before the build: a file that changes meanwhile names no tag that was never built."""
    registry: str = DEFAULT_REGISTRY

    @property
    def tags(self) -> list[str]:
        """The version, for manifests; version and code, for KFP's cache keys."""
        tag = f"{self.registry}/fbt-{self.target}:{VERSION}"
        return [tag, f"{tag}-{self.code}"]

    def command(self, builder: str, extra: Sequence[str]) -> list[str]:
        where = ["--file", str(DOCKERFILE), "--target", self.target]
        tags = [word for tag in self.tags for word in ("--tag", tag)]
        arguments = repeat_option("--build-arg", self._arguments)
        labels = repeat_option("--label", self.commit.labels)
        # The time of the files in an image; docker takes it from SOURCE_DATE_EPOCH.
        time = [] if builder == "docker" else ["--timestamp", str(self.commit.time_s)]
        return [builder, "build", *where, *tags, *arguments, *labels, *time, *extra, "."]

    @property
    def _arguments(self) -> dict[str, str]:
        return {
            "REVISION": self.commit.revision,
            "VERSION": VERSION,
            "SOURCE_DATE_EPOCH": str(self.commit.time_s),
        }


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
    builder, commit, made = find_builder(), read_commit(), list[str]()
    for target in targets or TARGETS:
        place = registry.rstrip("/") or DEFAULT_REGISTRY
        build = Build(target, commit, code_version(), place)
        run_builder(build.command(builder, extra), show)
        for tag in build.tags:
            if push:
                run_builder([builder, "push", tag], show)
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


def read_commit(root: Path = ROOT) -> Commit:
    revision = _ask_git(root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    time_s = _ask_git(root, "show", "--no-patch", "--format=%ct")
    address = urlsplit(_ask_git(root, "remote", "get-url", "origin"))
    # An address may hold a login.
    repository = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
    return Commit(revision or "unknown", int(time_s or 0), repository)


def _ask_git(root: Path, *words: str) -> str:
    """Empty without an answer."""
    # Another repository may lie around a copy of the source.
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()


def repeat_option(option: str, values: dict[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in (option, f"{name}={value}")]


def run_builder(command: list[str], show: Callable[[str], None]) -> None:
    show("$ " + " ".join(command))
    if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise ImagesError(f"images: {' '.join(command[:2])} ended with code {code}; see above")
