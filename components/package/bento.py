"""Packages a model version as one BentoML archive: code, bundle and requirements."""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from components.model.atomic import atomic_write
from components.model.bundle import compute_sha256, read_bundle
from components.package.requirements import list_serving_requirements
from components.package.server import SERVICE, build_store_env

SOURCE = Path(__file__).parents[2]
BUNDLE_ALIAS = "bundle"
"""The service's name for its model; the Bento maps it to a stored one."""
SERVED = (
    "bento/**/*.py",
    "components/__init__.py",
    "components/model/*.py",
    "components/model/*.json",
    "components/contracts.py",
    "components/events/**/*.py",
    "components/experiments/__init__.py",
    "components/experiments/experiment.py",
)
NOT_SERVED = "bento/workbench"
"""A process of its own."""


class PackagingError(RuntimeError):
    """BentoML failed; the message ends with its output."""


def build_bento(bundle_dir: Path, version: str, archive: Path) -> str:
    """Write the Bento as a tar.xz and return its tag. Raises BundleError for a damaged bundle."""
    manifest = read_bundle(bundle_dir).manifest
    labels = [
        f"model_version={version}",
        f"git_revision={manifest.git_revision or 'unknown'}",
        f"bundle_sha256={compute_sha256(Path(bundle_dir) / 'bundle.json')}",
    ]
    with tempfile.TemporaryDirectory(prefix="fbt-package-") as scratch:
        home, source, folder = (Path(scratch) / name for name in ("home", "source", "bento"))
        stage_source(source)
        tag = _run_in_store(home, build_in_store, source, bundle_dir, version, folder, *labels)
        with atomic_write(archive) as aside:
            _write_archive(folder, aside)
    return tag


def import_bento(archive: Path, bentoml_home: Path) -> str:
    """Import into the store in `bentoml_home`, and return the tag."""
    return _run_in_store(bentoml_home, import_into_store, archive)


def stage_source(target: Path) -> None:
    files = {file for pattern in SERVED for file in SOURCE.glob(pattern)}
    for file in sorted(file for file in files if SOURCE / NOT_SERVED not in file.parents):
        copy = target / file.relative_to(SOURCE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    (target / "requirements.txt").write_text(list_serving_requirements())


def build_in_store(source: str, bundle: str, version: str, folder: str, *labels: str) -> str:
    """For a child process: build in this process's store, and export to `folder`."""
    import bentoml

    # Named by content: the same bundle is stored once, under a name that no other gets.
    stored = f"fbt-bundle:{compute_sha256(Path(bundle) / 'bundle.json')[:16]}"
    with bentoml.models.create(stored) as model:
        shutil.copytree(bundle, model.path, dirs_exist_ok=True)
    built = bentoml.build(
        SERVICE,
        version=version,
        labels=dict(label.split("=", 1) for label in labels),
        description=f"Frequently bought together: model version {version}.",
        models=[{"tag": stored, "alias": BUNDLE_ALIAS}],
        python={"requirements_txt": "requirements.txt", "lock_packages": False},
        build_ctx=source,
    )
    bentoml.export_bento(built.tag, folder, output_format="folder")
    return str(built.tag)


def import_into_store(archive: str) -> str:
    """For a child process: import into this process's store."""
    import bentoml

    described = _read_bento_yaml(Path(archive))
    tag = f"{described['name']}:{described['version']}"
    try:
        present = bentoml.get(tag)
    except bentoml.exceptions.NotFound:
        present = None
    if present is None or present.info.labels != described["labels"]:
        if present is not None:
            bentoml.delete(tag)
        bentoml.import_bento(archive, input_format="bento")
    return tag


def _read_bento_yaml(archive: Path) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    with tarfile.open(archive, "r:xz") as tar:
        member = tar.extractfile("bento.yaml")
        described: dict[str, Any] = yaml.safe_load(member) if member else {}
    return described


def _write_archive(folder: Path, archive: Path) -> None:
    # BentoML's own export takes xz's default preset: four times the CPU for 2 % less, as vectors
    # hardly shrink.
    with tarfile.open(archive, "w:xz", preset=0) as tar:
        tar.add(folder / "bento.yaml", "bento.yaml")
        for path in sorted(set(folder.iterdir()) - {folder / "bento.yaml"}):
            tar.add(path, path.name)


def _run_in_store(home: Path, function: Any, *arguments: str | Path) -> str:
    """Call in a child process: BentoML reads its home on import, and a build changes folders."""
    home.mkdir(parents=True, exist_ok=True)
    code = (
        f"import sys; from {__name__} import {function.__name__} as function\n"
        "result = function(*sys.argv[1:]); print(); print(result)"
    )
    texts = [str(a.resolve()) if isinstance(a, Path) else a for a in arguments]
    done = subprocess.run(
        [sys.executable, "-c", code, *texts],
        env=build_store_env(home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = (done.stdout + done.stderr)[-2000:]
        raise PackagingError(f"package: {function.__name__} failed:\n{words}")
    return done.stdout.splitlines()[-1]
