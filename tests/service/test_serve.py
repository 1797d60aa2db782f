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

from components.package.bento import build_bento
from components.package.server import find_free_port
from components.registry.promotion import promote
from components.registry.registry import CHAMPION, MODEL, VERDICT_TAG, attach_archive, register
from pipelines.mlflow_server import mlflow_server
from tests.factories import make_bundle


@pytest.fixture
def registry(home, monkeypatch):
    """The address of a registry with two packaged versions that passed."""
    with mlflow_server(home) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        for _ in range(2):
            bundle = make_bundle(home.root / "bundle")
            version = register({"bundle": bundle}, {}, {}, {VERDICT_TAG: "passed"})
            archive = home.root / f"{version}.archive"
            attach_archive(version, archive, build_bento(bundle, version, archive))
        yield server.url


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


def test_without_a_champion_it_says_what_to_do(home, registry):
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--port", str(find_free_port())]
    env = {**os.environ, "FBT_HOME": str(home.root)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no version is champion" in done.stderr
