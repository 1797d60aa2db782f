"""Runs the workbench: `python -m bento.workbench.server`, or `fbt workbench`."""

import argparse
from pathlib import Path

import uvicorn

from bento.client import AsyncClient
from bento.workbench.app import build_app
from bento.workbench.context import Workbench
from bento.workbench.database import WorkbenchDatabase
from bento.workbench.settings import WorkbenchSettings
from bento.workbench.versions import LoadedVersions


def build_workbench(settings: WorkbenchSettings, home: Path) -> Workbench:
    """`home` is where files lie that no setting places."""
    given = settings.database_url
    url = given.get_secret_value() if given else f"sqlite:///{home.resolve() / 'fbt.db'}"
    cache = settings.workbench_cache or home / "workbench"
    return Workbench(
        settings,
        AsyncClient(settings.service_url),
        WorkbenchDatabase(url),
        LoadedVersions(cache, url, settings.workbench_versions),
    )


def run_server(settings: WorkbenchSettings, home: Path, host: str, port: int) -> None:
    """Block until the process is told to end."""
    app = build_app(build_workbench(settings, home))
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3002)
    parser.add_argument("--home", type=Path, default=Path.cwd())
    given = parser.parse_args()
    run_server(WorkbenchSettings(), given.home, given.host, given.port)


if __name__ == "__main__":
    main()
