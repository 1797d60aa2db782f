"""The one MLflow experiment of all runs, and where its artefacts lie."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

EXPERIMENT = "fbt"


def find_or_create_experiment(client: "MlflowClient") -> "Experiment":
    """The experiment, whatever its state; MLflow returns one that was deleted, too."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return found
    # MLflow's pages are about language models unless an experiment says that it trains one.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    try:
        client.create_experiment(EXPERIMENT, artifact_root(client.tracking_uri), tags)
    except MlflowException as error:
        # Another process may have been quicker.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return find_or_create_experiment(client)


def artifact_root(tracking_uri: str) -> str | None:
    """Where a new experiment keeps its artefacts; None leaves that to MLflow.

    A server has a root of its own, which everybody can read. Without a server the client decides.
    """
    return None if is_server(tracking_uri) else os.environ.get("MLFLOW_ARTIFACT_ROOT")


def is_server(tracking_uri: str) -> bool:
    """Whether a server answers at the address; otherwise it is a database's."""
    return tracking_uri.startswith(("http://", "https://"))
