"""The MLflow registry, as the place where model versions live and where people decide.

One registered model, `fbt`. A version that passed the gate gets the alias `challenger`; people move
the alias `champion`. Everything a version needs lies with the run that made it, below:
`bundle/`, `bento/`, `report.html`, `checks/`, `profile/`, `evaluation.json`, `verdict.json`.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.experiment import find_or_create_experiment
from components.model.atomic import atomic_write

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MODEL = "fbt"
CHAMPION, CHALLENGER = "champion", "challenger"
VERDICT_TAG = "fbt.verdict"
BENTO_TAG = "fbt.bento"
BUNDLE_HASH_TAG = "fbt.bundle_sha256"
"""Of bundle.json, which holds the hashes of everything else."""
CHECKS_TAG = "fbt.checks_failed"
"""Data checks of its run that failed as warnings: `TABLE.CHECK`, with blanks between."""
ROLLOUT_TAG = "fbt.rollout"
"""`registered`, `rolling out`, `live`, `replaced`, `superseded`, `refused: …` or `failed`."""
FAILED_TAG = "fbt.rollout_failed"
"""Why the version's rollout was given up; it is not tried again while the tag is there."""
FORCED_TAG = "fbt.forced_by"
"""Who promoted the version although its gate said no."""

MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""MLflow phones nobody and gives up in seconds rather than minutes."""


class RegistryError(RuntimeError):
    """The registry cannot be reached or says no; the message says what to do."""


@dataclass(frozen=True)
class Version:
    """One registered version, as `fbt models` shows it."""

    version: str
    created_at: str
    verdict: str
    """`passed`, or `failed` for a version that was registered by force."""
    aliases: list[str]
    tags: dict[str, str] = field(repr=False)
    run_id: str = field(repr=False, default="")


@contextmanager
def registry_client() -> "Iterator[MlflowClient]":
    """A client of the MLflow server that MLFLOW_TRACKING_URI names.

    Raises RegistryError instead of whatever MLflow raises inside of the block.
    """
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise RegistryError(
            "registry: MLFLOW_TRACKING_URI is not set; name the MLflow server by it"
        )
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, RequestException) as error:
        reason = str(error).splitlines()[0][:300]
        raise RegistryError(
            f"registry: MLflow at {uri} refused or cannot be reached ({reason}); once it answers, "
            "run again: the steps that are done are not repeated"
        ) from error


def get_champion_run_id() -> str:
    """The id of the run that made the champion, or an empty text.

    Unlike a version's number, it is the same model's in every registry.
    """
    with registry_client() as client:
        version = read_aliases(client).get(CHAMPION, "")
        return _get_run_id(client, version) if version else ""


def list_versions() -> list[Version]:
    """All versions, newest first."""
    with registry_client() as client:
        aliases = read_aliases(client)
        found = client.search_model_versions(f"name = '{MODEL}'")
        versions = [_to_version(one, aliases) for one in found]
    return sorted(versions, key=lambda one: int(one.version), reverse=True)


def get_version(version: str) -> Version:
    """One version by number or alias. Raises RegistryError when there is none."""
    versions = list_versions()
    for one in versions:
        if version == one.version or version in one.aliases:
            return one
    known = ", ".join(one.version for one in versions) or "none"
    raise RegistryError(
        f"registry: model {MODEL!r} has no version or alias {version!r} (versions: {known}); "
        "train one with `fbt run`, or name one that `fbt models` lists"
    )


def fetch_artifact(version: str, artefact: str, target: Path) -> bool:
    """Download a file or folder of the version to `target`; False when it has none of that name."""
    with registry_client() as client:
        return _download(client, _get_run_id(client, version), artefact, target)


def fetch_champion(run_id: str, target: Path) -> None:
    """The `bundle/` and `profile/` of the champion's run in the folder `target`.

    The folder stays empty without a run id: there is no champion.
    """
    target.mkdir(parents=True, exist_ok=True)
    if run_id:
        with registry_client() as client:
            for artefact in ("bundle", "profile"):
                _download(client, run_id, artefact, target / artefact)


def register(
    artefacts: Mapping[str, Path],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> str:
    """Log one run with all its artefacts, make a version of it, call it challenger.

    `artefacts` maps names below the run to files or folders. The version comes last, so that a
    version always has everything. Returns its number.
    """
    with registry_client() as client:
        experiment = find_or_create_experiment(client).experiment_id
        run = client.create_run(experiment, tags={"mlflow.runName": "training"})
        run_id = run.info.run_id
        try:
            _log_run(client, run_id, artefacts, params, metrics)
            version = _create_version(client, run_id, tags)
        except BaseException:
            client.set_terminated(run_id, status="FAILED")
            raise
        client.set_terminated(run_id)
    return version


def set_challenger(version: str) -> None:
    """Move the alias `challenger` to the version."""
    with registry_client() as client:
        client.set_registered_model_alias(MODEL, CHALLENGER, version)


def attach_archive(version: str, archive: Path, bento_tag: str) -> None:
    """Keep the Bento archive with the version, and name the Bento in the version's tags."""
    with registry_client() as client:
        run_id = _get_run_id(client, version)
        with _symlink_as(archive, f"{bento_tag.replace(':', '-')}.bento") as file:
            client.log_artifact(run_id, str(file), "bento")
        client.set_model_version_tag(MODEL, version, BENTO_TAG, bento_tag)


def read_aliases(client: "MlflowClient") -> dict[str, str]:
    """{alias: version}; empty when nothing has been registered yet."""
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
    return {alias: str(version) for alias, version in model.aliases.items()}


def _download(client: "MlflowClient", run_id: str, artefact: str, target: Path) -> bool:
    if not any(one.path == artefact for one in client.list_artifacts(run_id)):
        return False
    with atomic_write(target) as aside:
        aside.mkdir(parents=True)
        found = Path(client.download_artifacts(run_id, artefact, str(aside)))
        if found.is_dir() and found != aside:
            # MLflow nests the folder in the one it is given; the caller asked for the thing.
            nested = aside.with_suffix(".nested")
            found.rename(nested)
            aside.rmdir()
            nested.rename(aside)
    return True


def _get_run_id(client: "MlflowClient", version: str) -> str:
    run_id = client.get_model_version(MODEL, version).run_id
    if not run_id:
        raise RegistryError(
            f"registry: version {version} of {MODEL!r} was not made by a run, so it has no files; "
            "register versions by `fbt run`"
        )
    return run_id


def _to_version(found: "ModelVersion", aliases: dict[str, str]) -> Version:
    from datetime import UTC, datetime

    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    version = str(found.version)
    return Version(
        version=version,
        created_at=created.isoformat(timespec="seconds"),
        verdict=found.tags.get(VERDICT_TAG, "unknown"),
        aliases=sorted(alias for alias, target in aliases.items() if target == version),
        tags=dict(found.tags),
        run_id=found.run_id or "",
    )


def _log_run(
    client: "MlflowClient", run_id: str,
    artefacts: Mapping[str, Path], params: Mapping[str, Any], metrics: Mapping[str, float],
) -> None:  # fmt: skip
    for key, value in params.items():
        client.log_param(run_id, key, value if isinstance(value, str) else json.dumps(value))
    for key, number in metrics.items():
        client.log_metric(run_id, key, float(number))
    for name, path in artefacts.items():
        folder, _, _ = name.rpartition("/")
        if path.is_dir():
            client.log_artifacts(run_id, str(path), name)
            continue
        with _symlink_as(path, Path(name).name) as file:
            client.log_artifact(run_id, str(file), folder or None)


@contextmanager
def _symlink_as(path: Path, name: str) -> Iterator[Path]:
    """The file under its proper name: MLflow keeps names, and KFP's are `page` and `checks`."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / name
        link.symlink_to(path.resolve())
        yield link


def _create_version(client: "MlflowClient", run_id: str, tags: Mapping[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(MODEL, description="Frequently bought together")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    uri = client.get_run(run_id).info.artifact_uri
    made = client.create_model_version(MODEL, f"{uri}/bundle", run_id, tags=dict(tags))
    client.set_registered_model_alias(MODEL, CHALLENGER, made.version)
    return str(made.version)
