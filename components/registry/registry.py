"""Model versions in the MLflow registry.

A version's run has the artefacts `bundle/`, `bento/`, `report.html`, `checks/`, `profile/`,
`evaluation.json`, `verdict.json`; `judging/` once people judged it.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from components.experiment import find_or_create_experiment, tag_parent
from components.model.atomic import atomic_write

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

    from components.registry import rest_client

VersionClient: TypeAlias = "MlflowClient | rest_client.RestClient"
Connect = Callable[[], AbstractContextManager["VersionClient"]]
"""The promoter does without MLflow, whose import doubles its memory."""

MODEL = "fbt"
CHAMPION, CHALLENGER = "champion", "challenger"
VERDICT_TAG = "fbt.verdict"
BENTO_TAG = "fbt.bento"
BUNDLE_HASH_TAG = "fbt.bundle_sha256"
"""Of bundle.json, which has all other hashes."""
CHECKS_TAG = "fbt.checks_failed"
"""Failed warnings: `TABLE.CHECK`, separated by blanks."""
ROLLOUT_TAG = "fbt.rollout"
"""`registered`, `rolling out`, `live`, `replaced`, `superseded`, `refused: …`, `failed` or
`aborted by hand`."""
FAILED_TAG = "fbt.rollout_failed"
"""The reason; it prevents another rollout."""
FORCED_TAG = "fbt.forced_by"
"""Name of the person."""
KFP_RUN_TAG = "fbt.kfp_run"
"""Id of the run in Kubeflow Pipelines that made the version, if one did."""
JUDGED_AT_TAG = "fbt.judged_at"
"""Of the newest judgement that is recorded with the version, ISO 8601."""

MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""No telemetry, errors after seconds, and files through the server: MLflow would send us to its
object store instead, which from outside of the cluster has no name."""


class RegistryError(RuntimeError):
    """The message says what to do."""


@dataclass(frozen=True)
class Version:
    version: str
    created_at: str
    verdict: str
    """`passed`, or `failed` if registered by force."""
    aliases: list[str]
    tags: dict[str, str] = field(repr=False)
    run_id: str = field(repr=False, default="")


@contextmanager
def registry_client() -> "Iterator[MlflowClient]":
    """Raises RegistryError instead of MLflow's exceptions inside of the block."""
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
    uri = read_tracking_uri()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, RequestException) as error:
        raise RegistryError(describe_failure(uri, str(error))) from error


def read_tracking_uri() -> str:
    """Raises RegistryError."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI", ""):
        return uri
    raise RegistryError("registry: MLFLOW_TRACKING_URI is not set; name the MLflow server by it")


def describe_failure(uri: str, reason: str) -> str:
    first = (reason.splitlines() or [""])[0][:300]
    return hide_passwords(
        f"registry: MLflow at {uri} refused or cannot be reached ({first}); once it answers, run "
        "again: the steps that are done are not repeated"
    )


def hide_passwords(text: str) -> str:
    """Of URLs in it: messages come into logs and pages."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def get_champion_run_id() -> str:
    """May be empty. Unlike a version's number, it is unique among registries."""
    with registry_client() as client:
        version = read_aliases(client).get(CHAMPION, "")
        return get_run_id(client, version) if version else ""


def get_champion_reference() -> str:
    """`RUN`, or `RUN@TIME` where people judged it: caches must see that later ones did."""
    run_id = get_champion_run_id()
    if not run_id:
        return ""
    tags = next((one.tags for one in list_versions() if one.run_id == run_id), {})
    judged_at = tags.get(JUDGED_AT_TAG)
    return f"{run_id}@{judged_at}" if judged_at else run_id


def list_versions(connect: Connect = registry_client) -> list[Version]:
    """Newest first."""
    with connect() as client:
        aliases = read_aliases(client)
        found = client.search_model_versions(f"name = '{MODEL}'")
        versions = [_to_version(one, aliases) for one in found]
    return sorted(versions, key=lambda one: int(one.version), reverse=True)


def get_version(version: str, connect: Connect = registry_client) -> Version:
    """By number or alias. Raises RegistryError."""
    versions = list_versions(connect)
    for found in versions:
        if version == found.version or version in found.aliases:
            return found
    known = ", ".join(found.version for found in versions) or "none"
    raise RegistryError(
        f"registry: model {MODEL!r} has no version or alias {version!r} (versions: {known}); "
        "train one with `fbt run`, or name one that `fbt models` lists"
    )


def fetch_artifact(version: str, artefact: str, target: Path) -> bool:
    """False when the version has no such file or folder."""
    with registry_client() as client:
        return _download(client, get_run_id(client, version), artefact, target)


def fetch_champion(reference: str, target: Path) -> None:
    """Download `bundle/`, and `profile/` and `judging/` as far as there are, if there is a
    champion; see `get_champion_reference`. Raises RegistryError for one without a bundle."""
    target.mkdir(parents=True, exist_ok=True)
    run_id = reference.partition("@")[0]
    if not run_id:
        return
    with registry_client() as client:
        for artefact in ("bundle", "profile", "judging"):
            _download(client, run_id, artefact, target / artefact)
    if not (target / "bundle" / "bundle.json").is_file():
        # Without it the new model would be judged as if nothing served.
        raise RegistryError(
            f"registry: run {run_id} of the champion has no bundle/bundle.json, expected the bundle"
            " to compare with; promote a version that has one by `fbt promote VERSION`, or "
            "delete the alias `champion` in MLflow to go on without a comparison"
        )


def register(
    artefacts: Mapping[str, Path],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> str:
    """Log a run, make a version of it and the version challenger.

    `artefacts` are files or folders by name below the run. The version comes last, so that every
    version is complete.
    """
    with registry_client() as client:
        experiment = find_or_create_experiment(client).experiment_id
        tags_of_run = {"mlflow.runName": "training", **tag_parent(client)}
        run = client.create_run(experiment, tags=tags_of_run)
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
    with registry_client() as client:
        client.set_registered_model_alias(MODEL, CHALLENGER, version)


def attach_archive(version: str, archive: Path, bento_tag: str) -> None:
    with registry_client() as client:
        run_id = get_run_id(client, version)
        with _symlink_as(archive, name_archive(bento_tag)) as file:
            client.log_artifact(run_id, str(file), "bento")
        client.set_model_version_tag(MODEL, version, BENTO_TAG, bento_tag)


def name_archive(bento_tag: str) -> str:
    """Of the file below `bento/`."""
    return f"{bento_tag.replace(':', '-')}.bento"


def find_model(client: "VersionClient") -> "RegisteredModel | rest_client.RegisteredModel | None":
    """None when nothing has been registered yet."""
    found = client.search_registered_models(filter_string=f"name = '{MODEL}'")
    return found[0] if found else None


def read_aliases(client: "VersionClient") -> dict[str, str]:
    """Version by alias."""
    model = find_model(client)
    return {alias: str(version) for alias, version in model.aliases.items()} if model else {}


def _download(client: "MlflowClient", run_id: str, artefact: str, target: Path) -> bool:
    if not any(one.path == artefact for one in client.list_artifacts(run_id)):
        return False
    with atomic_write(target) as aside:
        aside.mkdir(parents=True)
        found = Path(client.download_artifacts(run_id, artefact, str(aside)))
        if found.is_dir() and found != aside:
            # MLflow nests the folder in the one it is given.
            nested = aside.with_suffix(".nested")
            found.rename(nested)
            aside.rmdir()
            nested.rename(aside)
    return True


def get_run_id(client: "MlflowClient", version: str) -> str:
    run_id = client.get_model_version(MODEL, version).run_id
    if not run_id:
        raise RegistryError(
            f"registry: version {version} of {MODEL!r} was not made by a run, so it has no files; "
            "register versions by `fbt run`"
        )
    return run_id


def _to_version(
    found: "ModelVersion | rest_client.ModelVersion", aliases: dict[str, str]
) -> Version:
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
    """MLflow keeps file names, and KFP's differ."""
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
