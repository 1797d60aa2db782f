"""Where artefacts of the experiment lie, against real MLflow servers.

`mlflow_url` is a server whose artefact root is a local path that it shares with its clients.
`team_url` serves artefacts itself, from a folder that no client knows.
"""

import json
import os
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.experiment import (
    EXPERIMENT,
    artifact_root,
    find_or_create_experiment,
    tag_parent,
)
from components.package.server import find_free_port, run_server
from components.registry.artifact_access import check_experiment
from components.registry.registry import RegistryError
from pipelines.home import Home
from pipelines.parameters import parse_parameters
from pipelines.start import inspect_inputs

OWN_FOLDER = "/proc/self/cwd/artifacts"
"""A path that means another folder in each process, as a laptop's path does on the server."""


@pytest.fixture(scope="module")
def team_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("team")


@pytest.fixture(scope="module")
def team_url(team_folder):
    """An MLflow server of its own, as a team runs it."""
    folder = team_folder
    port = find_free_port()
    command = [
        sys.executable, "-m", "mlflow", "server",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with run_server(
        command, f"http://127.0.0.1:{port}", ready="/health", env=dict(os.environ),
        log=folder / "log", cwd=folder, timeout_s=120,
    ) as server:  # fmt: skip
        yield server.url


@pytest.fixture
def laptop(team_url, tmp_path, monkeypatch):
    """The team's server, without the experiment before and after, and the environment of `fbt` on
    a laptop that names it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team_url)
    for name, value in Home(tmp_path / "laptop").environment().items():
        monkeypatch.setenv(name, value)
    client = MlflowClient(team_url)
    yield client
    found = client.get_experiment_by_name(EXPERIMENT)
    client.rename_experiment(found.experiment_id, f"{EXPERIMENT} {found.experiment_id}")


@pytest.fixture
def parameters(tmp_path):
    orders = tmp_path / "orders.csv"
    orders.write_text("order_id,product_id")
    return parse_parameters({"orders": str(orders)})


def test_a_laptops_run_keeps_its_artefacts_on_the_teams_server(
    laptop, team_folder, tmp_path, monkeypatch
):
    # As `fbt demo` leaves it: the own root stands in the environment, and a server is named.
    monkeypatch.setenv("MLFLOW_ARTIFACT_ROOT", str(tmp_path / "laptop" / "artifacts"))
    check_experiment()
    experiment = laptop.get_experiment_by_name(EXPERIMENT)
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    run = laptop.create_run(experiment.experiment_id).info.run_id
    laptop.log_text(run, "here", "bundle/bundle.json")
    assert [path.name for path in team_folder.rglob("bundle.json")] == ["bundle.json"]
    assert not (tmp_path / "laptop" / "artifacts").exists()


def test_an_experiment_on_a_laptop_is_named_before_training(laptop, parameters, monkeypatch):
    monkeypatch.chdir(Path(parameters.orders).parent)
    wrong = laptop.create_experiment(EXPERIMENT, artifact_location=OWN_FOLDER)
    with pytest.raises(RegistryError, match=rf"in {OWN_FOLDER}, .* --experiment-id {wrong} "):
        inspect_inputs(parameters)
    laptop.rename_experiment(wrong, "fbt-unreadable")
    assert inspect_inputs(parameters).champion == ""
    right = laptop.get_experiment_by_name(EXPERIMENT)
    assert right.artifact_location.startswith("mlflow-artifacts:")


def test_a_location_that_cannot_be_made_here_is_named_too(laptop):
    laptop.create_experiment(EXPERIMENT, artifact_location="/proc/laptop/artifacts")
    with pytest.raises(RegistryError, match="in /proc/laptop/artifacts, where the server"):
        check_experiment()


def test_a_deleted_experiment_is_restored_by_people(laptop):
    check_experiment()
    made = laptop.get_experiment_by_name(EXPERIMENT).experiment_id
    laptop.delete_experiment(made)
    with pytest.raises(RegistryError, match=f"restore --experiment-id {made}`"):
        check_experiment()
    laptop.restore_experiment(made)
    check_experiment()


def test_a_path_that_server_and_client_share_is_right(mlflow_url, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    check_experiment()
    client = MlflowClient(mlflow_url)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment.artifact_location.startswith("/")
    names = [one.info.run_name for one in client.search_runs([experiment.experiment_id])]
    assert "artefact check" not in names


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ({}, "own"),
        ({"MLFLOW_ARTIFACT_ROOT": "s3://fbt/mlflow"}, "own"),
        ({"MLFLOW_TRACKING_URI": "http://mlflow:5000"}, None),
        ({"MLFLOW_TRACKING_URI": "http://mlflow:5000", "MLFLOW_ARTIFACT_ROOT": "/mine"}, None),
        ({"MLFLOW_TRACKING_URI": "sqlite:///theirs.db"}, None),
        ({"MLFLOW_TRACKING_URI": "sqlite:///theirs.db", "MLFLOW_ARTIFACT_ROOT": "/x"}, "/x"),
    ],
)
def test_our_artefact_root_is_our_databases(given, root, home, monkeypatch):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for name, value in home.environment().items():
        monkeypatch.setenv(name, value)
    expected = home.artifact_root if root == "own" else root
    assert artifact_root(os.environ["MLFLOW_TRACKING_URI"]) == expected


def test_a_database_keeps_artefacts_where_its_client_says(home, monkeypatch):
    for name, value in home.environment().items():
        monkeypatch.setenv(name, value)
    experiment = find_or_create_experiment(MlflowClient(home.database_uri))
    assert experiment.artifact_location == home.artifact_root


def test_an_experiment_that_kfp_made_gets_its_kind(home):
    client = MlflowClient(home.database_uri)
    client.create_experiment(EXPERIMENT)
    find_or_create_experiment(client)
    tags = find_or_create_experiment(client).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_runs_are_children_of_the_one_that_kfp_opened(home, monkeypatch):
    client = MlflowClient(home.database_uri)
    assert tag_parent(client) == {}
    experiment = find_or_create_experiment(client).experiment_id
    pipeline, step = (client.create_run(experiment).info.run_id for _ in range(2))
    monkeypatch.setenv("MLFLOW_RUN_ID", step)
    assert tag_parent(client) == {}, "a person's own variable"
    monkeypatch.setenv("KFP_MLFLOW_CONFIG", json.dumps({"parentRunId": pipeline}))
    assert tag_parent(client) == {"mlflow.parentRunId": step}
    monkeypatch.delenv("MLFLOW_RUN_ID")
    assert tag_parent(client) == {"mlflow.parentRunId": pipeline}
    monkeypatch.setenv("KFP_MLFLOW_CONFIG", json.dumps({"parentRunId": "0" * 32}))
    assert tag_parent(client) == {}, "the plug-in writes to another server"
