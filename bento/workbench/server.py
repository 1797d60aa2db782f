"""Runs the workbench: `python -m bento.workbench.server`, or `fbt workbench`."""

import argparse
import sys
from pathlib import Path

import uvicorn

from bento.client import AsyncClient
from bento.retry import RetryPolicy
from bento.settings import SettingsError
from bento.workbench.access.policy import decide_access
from bento.workbench.app import build_app
from bento.workbench.context import Workbench
from bento.workbench.database import WorkbenchDatabase
from bento.workbench.mapping.maps import Maps
from bento.workbench.settings import WorkbenchSettings, read_workbench_settings
from bento.workbench.versions import LoadedVersions

IMPATIENT = RetryPolicy(connect_s=0.5, read_s=1.5, deadline_s=1.8, bulk_s=5, attempts=2)
"""A page says within two seconds that the service does not answer."""

GRACE_S = 3
"""Open requests are awaited so long when the process is told to end."""

RANDOM_KEY = (
    "workbench: sessions are signed with a key of this process: they end with it, and replicas do "
    "not share them; FBT_WORKBENCH_SESSION_KEY or …_KEY_FILE gives one"
)


def build_workbench(settings: WorkbenchSettings, home: Path) -> Workbench:
    """`home` is where files lie that no setting places."""
    given = settings.database_url
    url = given.get_secret_value() if given else f"sqlite:///{home.resolve() / 'fbt.db'}"
    cache = settings.workbench_cache or home / "workbench"
    places = {
        "workbench_online": settings.workbench_online or home / "online",
        "workbench_experiments": settings.workbench_experiments or home / "experiments",
    }
    settings = settings.model_copy(update=places)
    return Workbench(
        settings,
        AsyncClient(settings.service_url, preview=True, retry_policy=IMPATIENT),
        WorkbenchDatabase(url),
        LoadedVersions(cache, url, settings.workbench_versions),
        Maps(cache / "maps"),
    )


def run_server(settings: WorkbenchSettings, home: Path, host: str, port: int) -> None:
    """Block until the process is told to end. Raises SettingsError if strangers could come in."""
    policy = decide_access(settings, host)
    import mlflow  # noqa: F401  # takes seconds, which the first page should not wait for

    if policy.everybody is None and policy.has_random_key:
        print(RANDOM_KEY, file=sys.stderr, flush=True)
    print(f"workbench: {settings.workbench_url or f'http://{host}:{port}'}", flush=True)
    app = build_app(build_workbench(settings, home), policy)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        proxy_headers=False,  # ForwardedHeaders reads them, from trusted proxies alone
        server_header=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3002)
    parser.add_argument("--home", type=Path, default=Path.cwd())
    given = parser.parse_args()
    try:
        run_server(read_workbench_settings(), given.home, given.host, given.port)
    except SettingsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
