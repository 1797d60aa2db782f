"""The parts around a workbench as processes of their own: registry, services, the workbench."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from components.package.server import HOST, Server, find_free_port, run_server, serve_bundle
from components.registry.promotion import promote
from components.registry.version import register_run
from pipelines.home import OFFLINE, Home
from pipelines.mlflow_server import mlflow_server

TOKEN = "a-secret-of-the-shop"
START_S = 120.0
EFFECTIVE_S = 5.0
"""Within so many seconds a rule counts on every replica."""


@dataclass(frozen=True)
class Environment:
    """Everything that a test of the pages touches."""

    workbench: str
    """URL, as those below."""
    services: Sequence[str]
    database: str
    registry: str


@contextlib.contextmanager
def run_registry(folder: Path, port: int = 0) -> Iterator[Server]:
    """An MLflow server with all files in `folder`, which may have run before."""
    home = Home(folder)
    for part in (home.logs, home.mlflow):
        part.mkdir(parents=True, exist_ok=True)
    with mlflow_server(home, port) as server:
        yield server


@contextlib.contextmanager
def run_service(bundle: Path, version: str, database: str, port: int = 0) -> Iterator[Server]:
    settings = {
        "FBT_DATABASE_URL": database, "FBT_ADMIN_TOKEN": TOKEN, "FBT_EVENTS_URL": "off",
    }  # fmt: skip
    with serve_bundle(bundle, version, port=port, settings=settings, timeout_s=START_S) as server:
        yield server


@contextlib.contextmanager
def run_workbench(
    folder: Path, service: str, database: str, registry: str, port: int = 0,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:  # fmt: skip
    """`python -m bento.workbench.server`; its files lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = find_free_port(port=port)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FBT_")}
    command = [sys.executable, "-m", "bento.workbench.server", "--home", str(folder)]
    with run_server(
        [*command, "--port", str(port)],
        f"http://{HOST}:{port}",
        env={
            **kept, **OFFLINE, "FBT_SERVICE_URL": service, "FBT_DATABASE_URL": database,
            "FBT_ADMIN_TOKEN": TOKEN, "MLFLOW_TRACKING_URI": registry, **(settings or {}),
        },
        log=folder / "workbench.log",
        cwd=folder,
        ready="/static/workbench.css",
        timeout_s=START_S,
    ) as server:  # fmt: skip
        yield server


def wait_for_page(workbench: str, path: str) -> None:
    """Until the versions that it shows are fetched, or an empty registry is made."""
    end = time.monotonic() + START_S
    while (answer := httpx.get(workbench + path, timeout=START_S)).status_code == 202:
        assert time.monotonic() < end, answer.text
        time.sleep(0.2)
    assert answer.status_code == 200, answer.text


def register_versions(registry: str, bundles: Sequence[Path]) -> None:
    """Register all, and promote the first."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", registry)
        for number, bundle in enumerate(bundles):
            register_run(write_results(bundle, number), {"seed": number}, f"run {number}")
        promote("1", by="ann")


def write_results(bundle: Path, number: int) -> dict[str, Path]:
    """What a run leaves beside its bundle; the second version is better in baskets it judged."""
    measure = {"ndcg": {"mean": 0.10 + 0.01 * number}, "excess": {"mean": 0.05 + 0.01 * number}}
    task = {"model": {**measure, "coverage": 0.5}}
    tasks = {"item": task, "cart": task}
    check = {
        "name": "n_lines", "title": "Number of order lines", "observed": "16,000",
        "expected": "1,000 or more", "passed": True, "severity": "critical", "remedy": "",
        "examples": [],
    }  # fmt: skip
    content = {
        "evaluation.json": {"tasks": tasks, "paired": {}, "paired_excess": {}},
        "verdict.json": {"passed": True, "rules": []},
        "checks/order_lines.json": {"table": "order_lines", "checks": [check], "first_run": True},
        "checks/baskets.json": {"table": "baskets", "checks": [check], "first_run": True},
        "reading.json": {},
    }
    paths = {"bundle": bundle}
    for name, text in content.items():
        paths[name] = bundle.parent / "results" / name
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_text(json.dumps(text))
    return paths
