"""The MLflow experiment of all runs."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

EXPERIMENT = "fbt"


def find_or_create_experiment(client: "MlflowClient") -> "Experiment":
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return found
    # Without this tag MLflow's pages are about language models.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    try:
        client.create_experiment(EXPERIMENT, artifact_root(client.tracking_uri), tags)
    except MlflowException as error:
        # Another process may have been quicker.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return find_or_create_experiment(client)


def artifact_root(tracking_uri: str) -> str | None:
    """None leaves the location to the server."""
    return None if is_server(tracking_uri) else os.environ.get("MLFLOW_ARTIFACT_ROOT")


def is_server(tracking_uri: str) -> bool:
    return tracking_uri.startswith(("http://", "https://"))
