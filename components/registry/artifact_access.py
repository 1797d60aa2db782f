"""Checks that the MLflow server can read the artefacts of the experiment's runs.

A local path that a client chose as location hides every bundle from the server and from other
machines, and a location never changes.
"""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.experiment import EXPERIMENT, find_or_create_experiment, is_server
from components.registry.registry import RegistryError, registry_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


def check_experiment() -> None:
    """Raises RegistryError for a deleted experiment or an unreadable location."""
    with registry_client() as client:
        experiment = find_or_create_experiment(client)
        if experiment.lifecycle_stage != "active":
            raise RegistryError(
                f"registry: experiment {EXPERIMENT!r} was deleted in MLflow; restore it with "
                f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, and "
                "run again"
            )
        if _is_suspect(client, experiment) and not _server_reads(client, experiment):
            raise RegistryError(_describe_unreadable(client, experiment))


def _is_suspect(client: "MlflowClient", experiment: "Experiment") -> bool:
    local = urlsplit(experiment.artifact_location).scheme in ("", "file")
    return local and is_server(client.tracking_uri)


def _server_reads(client: "MlflowClient", experiment: "Experiment") -> bool:
    """Write a file to a run, which is deleted then, and have the server list it."""
    run = client.create_run(experiment.experiment_id, tags={"mlflow.runName": "artefact check"})
    try:
        client.log_text(run.info.run_id, "read by the server?\n", "check.txt")
        return "check.txt" in _list_artifacts(client, run.info.run_id)
    except OSError:
        # Often another machine's path cannot be created here.
        return False
    finally:
        client.delete_run(run.info.run_id)


def _list_artifacts(client: "MlflowClient", run_id: str) -> set[str]:
    """By the server; MlflowClient would read local paths itself."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request_safe

    answer = http_request_safe(  # type: ignore[no-untyped-call]
        get_default_host_creds(client.tracking_uri),  # type: ignore[no-untyped-call]
        "/api/2.0/mlflow/artifacts/list",
        "GET",
        params={"run_id": run_id},
    )
    return {file["path"] for file in answer.json().get("files", [])}


def _describe_unreadable(client: "MlflowClient", experiment: "Experiment") -> str:
    return (
        f"registry: experiment {EXPERIMENT!r} of {client.tracking_uri} keeps its artefacts in "
        f"{experiment.artifact_location}, where the server does not find what this machine "
        "writes; expected a location of the server's own. An experiment's location cannot be "
        "changed: rename it with `mlflow experiments rename --experiment-id "
        f"{experiment.experiment_id} --new-name {EXPERIMENT}-unreadable`, and run again, which "
        "makes a new one. Versions registered from it have no bundle: train them again"
    )
