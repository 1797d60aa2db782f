"""`fbt workbench`: the pages where people look, judge and correct."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from components.package.server import Server, find_free_port, run_server
from pipelines.home import Home
from pipelines.serve import build_store_settings, find_events_url

READY = "/static/icon.svg"


def run_workbench(home: Home, service: str, host: str, port: int) -> None:
    """Block until Ctrl-C. `service` is the URL of the recommendation service."""
    from bento.workbench.server import run_server as run_pages
    from bento.workbench.settings import read_workbench_settings

    settings = read_workbench_settings()
    if service:
        settings = settings.model_copy(update={"service_url": service})
    if settings.events_url is None:
        events = SecretStr(find_events_url(home))
        settings = settings.model_copy(update={"events_url": events})
    find_free_port(host, port)
    run_pages(settings, Path(home.root), host, port)


@contextmanager
def serve_workbench(home: Home, service: str, port: int) -> Iterator[Server]:
    """As a process of its own, on loopback, for as long as the block lasts."""
    command = [sys.executable, "-m", "bento.workbench.server", "--port", str(port)]
    with run_server(
        [*command, "--home", str(home.root)],
        f"http://127.0.0.1:{port}",
        ready=READY,
        env={**os.environ, **build_store_settings(home), "FBT_SERVICE_URL": service},
        log=home.logs / "workbench.log",
        cwd=home.root,
    ) as server:
        yield server
