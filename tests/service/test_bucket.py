"""MLflow's bucket: the init container that makes it, and that only MLflow needs to reach it."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from components.package.server import find_free_port, run_server
from components.registry.registry import MLFLOW_DEFAULTS, fetch_artifact, register

SCRIPT = Path(__file__).parents[2] / "k8s" / "platform" / "stores" / "bucket.py"


@pytest.fixture
def store():
    """Address of a server that knows the keys of nobody until it is asked to."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@contextlib.contextmanager
def checked_signatures(store):
    """The server knows nobody's keys. All servers of this process share what they check."""
    let_requests_pass(store, b"0")
    try:
        yield
    finally:
        let_requests_pass(store, b"inf")


def let_requests_pass(store, number):
    """So many without a look at their signature."""
    asked = {"content": number, "headers": {"Content-Type": "text/plain"}}
    httpx.post(f"{store}/moto-api/reset-auth", **asked).raise_for_status()


def environment(endpoint):
    """Of MLflow's pod."""
    return {
        **os.environ,
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://fbt-mlflow",
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
        **{"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
        **{"AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"},
    }


def run(endpoint):
    env = environment(endpoint)
    done = subprocess.run([sys.executable, SCRIPT], env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_the_bucket_is_made_once(store):
    for _ in range(2):
        assert run(store) == (0, "bucket fbt-mlflow is there\n")


def test_a_store_that_is_not_up_is_said_in_one_line():
    code, said = run("http://127.0.0.1:1")
    assert code == 1
    assert said.startswith("bucket fbt-mlflow: http://127.0.0.1:1 is not up yet, or not there: ")
    assert len(said.splitlines()) == 1


def test_keys_that_the_store_refuses_are_named_with_their_secret(store):
    with checked_signatures(store):
        code, said = run(store)
    assert (code, "refuses the keys of the Secret fbt-object-store" in said) == (1, True), said


@pytest.fixture
def server(store, tmp_path):
    """MLflow before its bucket, as the image starts it."""
    assert run(store)[0] == 0
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    with run_server(
        command, url, ready="/health", env=environment(store), log=tmp_path / "log", cwd=tmp_path,
        timeout_s=120,
    ) as server:  # fmt: skip
        yield server


def test_files_come_and_go_through_mlflow(server, tmp_path, own_environment, monkeypatch):
    """From a desk the store, to which MLflow would send its clients, has no name."""
    for name in MLFLOW_DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    able = httpx.get(f"{server.url}/api/3.0/mlflow/server-info").json()
    assert able["multipart_downloads_enabled"] is True
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    version = register({"bundle": bundle}, {}, {}, {})
    assert fetch_artifact(version, "bundle", tmp_path / "fetched")
    assert (tmp_path / "fetched" / "bundle.json").read_text() == "{}"
    asked = server.log.read_text()
    assert "mlflow-artifacts/artifacts/" in asked
    assert "presigned" not in asked
