"""The workbench on a real socket, in this process."""

import contextlib
import threading
import time

import uvicorn

from bento.workbench.access.policy import decide_access
from bento.workbench.app import build_app
from bento.workbench.server import build_workbench
from bento.workbench.settings import WorkbenchSettings
from components.package.server import find_free_port


@contextlib.contextmanager
def workbench(folder, host="127.0.0.1", **settings):
    """Its URL. Unless the settings name a service, there is none."""
    settings.setdefault("service_url", "http://127.0.0.1:9")
    made = WorkbenchSettings(**settings)
    with run_app(build_app(build_workbench(made, folder), decide_access(made, host))) as url:
        yield url


@contextlib.contextmanager
def run_app(app, log_level="error"):
    port = find_free_port()
    config = uvicorn.Config(app, port=port, log_level=log_level, proxy_headers=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://localhost:{port}"
    finally:
        server.should_exit = True
        thread.join()


def csrf_of(browser):
    """Of a page that needs no neighbour."""
    return browser.get("/no-such-page").text.partition('name="csrf" content="')[2].partition('"')[0]
