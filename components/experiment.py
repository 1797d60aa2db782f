"""The MLflow experiment of all runs, and their parent there."""

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

EXPERIMENT = "fbt"
# Without this tag MLflow's pages are about language models.
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"


def find_or_create_experiment(client: "MlflowClient") -> "Experiment":
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        # KFP's plug-in for MLflow may have made it.
        if KIND_TAG not in found.tags and found.lifecycle_stage == "active":
            client.set_experiment_tag(found.experiment_id, KIND_TAG, KIND)
        return found
    try:
        client.create_experiment(EXPERIMENT, artifact_root(client.tracking_uri), {KIND_TAG: KIND})
    except MlflowException as error:
        # Another process may have been quicker.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return find_or_create_experiment(client)


def tag_parent(client: "MlflowClient") -> dict[str, str]:
    """Makes a new run a child of the one that KFP's plug-in for MLflow opened, if it is on."""
    from mlflow.exceptions import MlflowException

    config = json.loads(os.environ.get("KFP_MLFLOW_CONFIG") or "{}")
    # The step's own run, where the plug-in tells it, else that of the whole pipeline.
    parent = config and (os.environ.get("MLFLOW_RUN_ID") or config.get("parentRunId"))
    if not parent:
        return {}
    try:
        client.get_run(parent)
    except MlflowException as error:
        # The plug-in may write to another server.
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {"mlflow.parentRunId": parent}


def artifact_root(tracking_uri: str) -> str | None:
    """None leaves the location to the server."""
    return None if is_server(tracking_uri) else os.environ.get("MLFLOW_ARTIFACT_ROOT")


def is_server(tracking_uri: str) -> bool:
    return tracking_uri.startswith(("http://", "https://"))
