"""Real `bentoml serve` of the service with the endpoints of `probed`, set as a test wants it."""

import contextlib
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from components.package.server import build_store_env, find_free_port, run_server

TOKEN = "a-secret-of-the-shop"

ROOT = Path(__file__).parents[2]
PROBED = "tests.service.probed:Fbt"


@contextlib.contextmanager
def served(
    bundle, version="7", workers=1, overrides=None, root=ROOT, service=PROBED, **settings
):  # fmt: skip
    """A server of the source in `root`; `settings` are those of bento/settings.py."""
    # A busy machine is no failure of the service.
    settings = {"max_lag_ms": 60_000, **settings}
    variables = {f"FBT_{name.upper()}": str(value) for name, value in settings.items()}
    bentoml = {"services": {"fbt": {"workers": workers}}, **(overrides or {})}
    variables |= {
        "FBT_BUNDLE": str(bundle),
        "FBT_MODEL_VERSION": version,
        "BENTOML_CONFIG_OVERRIDES": json.dumps(bentoml),
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with tempfile.TemporaryDirectory(prefix="fbt-serve-", ignore_cleanup_errors=True) as home:
        port = find_free_port()
        command = [sys.executable, "-m", "bentoml", "serve", service]
        command += ["--working-dir", str(root), "--host", "127.0.0.1", "--port", str(port)]
        with run_server(
            command,
            f"http://127.0.0.1:{port}",
            env={**build_store_env(Path(home)), **variables},
            log=Path(home) / "log",
            cwd=Path(home),
        ) as server:
            yield server


def writable(folder):
    """Settings of a service that can be told of rules and changes."""
    return {
        "FBT_ADMIN_TOKEN": TOKEN,
        "FBT_DATABASE_URL": f"sqlite:///{folder / 'fbt.db'}",
    }


def connect(server):
    """A plain connection to a server."""
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def everything(connection):
    """What comes until the other side closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def metric(client, name, **labels):
    """The sum of all series of a metric that have these labels."""
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    lines = client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith(f"{name}{{")]
    return sum(float(line.split()[-1]) for line in found if all(w in line for w in wanted))


def log_lines(server, event):
    """The JSON lines of a server's log that tell of an event."""
    lines = (line for line in server.log.read_text().splitlines() if line.startswith("{"))
    return [line for line in map(json.loads, lines) if line["event"] == event]
