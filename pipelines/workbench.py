"""`fbt workbench`: the pages where people look, judge and correct."""

from pathlib import Path

from pipelines.home import Home


def run_workbench(home: Home, service: str, host: str, port: int) -> None:
    """Block until Ctrl-C. `service` is the URL of the recommendation service."""
    from bento.workbench.server import run_server
    from bento.workbench.settings import WorkbenchSettings

    settings = WorkbenchSettings()
    if service:
        settings = settings.model_copy(update={"service_url": service})
    print(f"workbench: http://{host}:{port}", flush=True)
    run_server(settings, Path(home.root), host, port)
