"""`fbt serve` serves the champion, and goes where people move the alias."""

import os
import signal
import subprocess
import sys
import time

import httpx
import psutil
import pytest
from mlflow import MlflowClient

from components.experiments.experiment import read_experiment
from components.package.bento import build_bento
from components.package.server import find_free_port
from components.registry.promotion import promote
from components.registry.registry import CHAMPION, MODEL, VERDICT_TAG, attach_archive, register
from pipelines.home import Home
from pipelines.mlflow_server import mlflow_server
from tests.factories import make_bundle


@pytest.fixture(scope="module")
def registry_server(tmp_path_factory):
    """The address of a registry with two packaged versions that passed."""
    home = Home(tmp_path_factory.mktemp("serve") / "fbt")
    for folder in (home.logs, home.mlflow):
        folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as environment, mlflow_server(home) as server:
        environment.setenv("MLFLOW_TRACKING_URI", server.url)
        for _ in range(2):
            bundle = make_bundle(home.root / "bundle")
            version = register({"bundle": bundle}, {}, {}, {VERDICT_TAG: "passed"})
            archive = home.root / f"{version}.archive"
            attach_archive(version, archive, build_bento(bundle, version, archive))
        yield server.url


@pytest.fixture
def registry(registry_server, monkeypatch):
    """The same, whose versions have no alias before and after."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry_server)
    yield registry_server
    client = MlflowClient(registry_server)
    for alias in client.get_registered_model(MODEL).aliases:
        client.delete_registered_model_alias(MODEL, alias)


@pytest.mark.timeout(240)
def test_the_service_follows_the_alias_and_ends_on_ctrl_c(home, registry):
    promote("1", by="ann")
    port = find_free_port()
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--port", str(port)]
    env = {**os.environ, "FBT_HOME": str(home.root)}
    with subprocess.Popen(command, env=env) as service:
        try:
            assert version_served(port, expected="1") == "1"
            # What the MLflow UI does.
            MlflowClient(registry).set_registered_model_alias(MODEL, CHAMPION, "2")
            assert version_served(port, expected="2") == "2"
            family = psutil.Process(service.pid).children(recursive=True)
        finally:
            service.send_signal(signal.SIGINT)
            code = service.wait(60)
    assert code == 130
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def version_served(port, expected, within_s=60):
    """The version that answers, as soon as it is the one expected, or else the last."""
    found, until = None, time.monotonic() + within_s
    while found != expected and time.monotonic() < until:
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{port}/recommend", json={"items": ["tea"]}, timeout=5
            )
            found = answer.json()["model_version"]
        except httpx.TransportError:
            found = None
        time.sleep(0.5)
    return found


@pytest.mark.timeout(240)
def test_two_versions_are_served_behind_one_port(home, registry):
    MlflowClient(registry).set_registered_model_alias(MODEL, "newest", "2")
    arms = ["--arm", "old=1", "--arm", "new=newest", "--arm", "nobody=none", "--name", "spring"]
    assert find_arms(home, arms) == {("old", "1"), ("new", "2"), ("nobody", "1")}
    # What was served can be served again.
    plan = home.root / "experiments" / "spring.json"
    assert [arm.model_version for arm in read_experiment(plan).arms] == ["1", "2", ""]
    assert find_arms(home, ["--experiment", str(plan)]) == {
        ("old", "1"), ("new", "2"), ("nobody", "1")
    }  # fmt: skip
    assert not list((home.root / "downloads").iterdir())
    assert (home.root / "events.db").exists()


def find_arms(home, options):
    """Arms and versions that answer forty sessions."""
    port = find_free_port()
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--port", str(port), *options]
    env = {**os.environ, "FBT_HOME": str(home.root)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert "experiment spring: old (version 1)" in service.stdout.readline()
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                bodies = [{"items": ["tea"], "session_id": f"s{i}"} for i in range(40)]
                answers = [client.post("/recommend", json=body).json() for body in bodies]
        finally:
            service.send_signal(signal.SIGINT)
            service.wait(60)
    return {(answer["variant"], answer["model_version"]) for answer in answers}


def test_an_unknown_version_is_named(home, registry):
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--arm", "old=9"]
    env = {**os.environ, "FBT_HOME": str(home.root)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no version or alias '9' (versions: 2, 1)" in done.stderr


def test_without_a_champion_it_says_what_to_do(home, registry):
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--port", str(find_free_port())]
    env = {**os.environ, "FBT_HOME": str(home.root)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no version is champion" in done.stderr
