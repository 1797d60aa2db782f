"""`bentoml serve` as a child process, for as long as a `with` block lasts."""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict, Unpack

from components.signing.keys import SIGNING_KEY

HOST = "127.0.0.1"
SERVICE = "bento.service:Fbt"
SETTING_PREFIX = "FBT_"
NOT_THE_SERVICES = ("FBT_BUNDLE", "FBT_MODEL_VERSION", SIGNING_KEY, f"{SIGNING_KEY}_FILE")
"""Set by the caller, or the caller's secret."""
GRACE_S = 10.0


class Options(TypedDict, total=False):
    """Of `bentoml serve`, with their defaults as in `_run_service`."""

    port: int
    """0 takes any free one."""
    host: str
    log: Path | None
    timeout_s: float
    settings: Mapping[str, str]
    """Environment variables of the service."""


class ServerError(RuntimeError):
    """The server did not get ready; the message ends with the tail of its log."""


@dataclass(frozen=True)
class Server:
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def wait(self) -> int:
        return self.process.wait()


@contextmanager
def serve_bundle(
    bundle: Path, model_version: str = "candidate", **options: Unpack[Options]
) -> Iterator[Server]:
    """Serve a bundle by the service of this source tree, without a database. Raises ServerError."""
    env = {"FBT_BUNDLE": str(bundle.resolve()), "FBT_MODEL_VERSION": model_version}
    # Training on the same machine may delay the event loop.
    env |= {"FBT_DATABASE_URL": "off", "FBT_MAX_LAG_MS": "60000"}
    with create_temporary_home() as home, _run_service(SERVICE, home, env, **options) as server:
        yield server


@contextmanager
def serve_bento(tag: str, bentoml_home: Path, **options: Unpack[Options]) -> Iterator[Server]:
    """Serve a Bento of the store in `bentoml_home`, with the service's settings of this process.

    The server gets a home of its own that links to the store: servers with one home erase each
    other's metrics. Raises ServerError.
    """
    with create_temporary_home() as home:
        for part in ("bentos", "models"):
            (home / part).symlink_to((bentoml_home / part).resolve())
        with _run_service(tag, home, read_service_settings(), **options) as server:
            yield server


@contextmanager
def create_temporary_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fbt-serve-", ignore_cleanup_errors=True) as home:
        yield Path(home)


@contextmanager
def _run_service(
    target: str,
    home: Path,
    env: Mapping[str, str],
    *,
    port: int = 0,
    host: str = HOST,
    log: Path | None = None,
    timeout_s: float = 60.0,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    port = find_free_port(host, port)
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host", host]
    with run_server(
        [*command, "--port", str(port)],
        f"http://{HOST if host == '0.0.0.0' else host}:{port}",
        env={**build_store_env(home), **env, **settings},
        log=log or home / "server.log",
        cwd=home,
        timeout_s=timeout_s,
    ) as server:
        yield server


@contextmanager
def run_server(
    command: Sequence[str],
    url: str,
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path,
    ready: str = "/readyz",
    timeout_s: float = 60.0,
) -> Iterator[Server]:
    """Wait until `url` + `ready` answers 200. Raises ServerError."""
    with ExitStack() as stack:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stack.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal reaches a whole group; `stop_server` ends this one in order.
            start_new_session=True,
        )
        stack.callback(stop_server, process)
        server = Server(url, log, process)
        _await_ready(server, ready, timeout_s)
        yield server


def _await_ready(server: Server, ready: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not _is_ready(server, ready):
        if (code := server.process.poll()) is not None:
            problem = f"ended (code {code}) before it was ready"
        elif time.monotonic() > deadline:
            problem = f"was not ready after {timeout_s:g} s"
        else:
            time.sleep(0.05)
            continue
        raise ServerError(f"the server {problem}; its log ends with:\n{_read_log_tail(server)}")


def _is_ready(server: Server, ready: str) -> bool:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.url).netloc, timeout=2)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", ready)
        return connection.getresponse().status == 200
    return False


def _read_log_tail(server: Server, n_lines: int = 15) -> str:
    return "\n".join(server.log.read_text(errors="replace").splitlines()[-n_lines:])


def stop_server(process: subprocess.Popen[bytes]) -> None:
    """Terminate a server and all its descendants; kill them after GRACE_S or Ctrl-C.

    BentoML's workers have sessions of their own, which no signal to a process group reaches.
    """
    import psutil

    family = []
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
    try:
        process.terminate()
        psutil.wait_procs(family, timeout=GRACE_S)
    finally:
        for survivor in family:
            with suppress(psutil.NoSuchProcess):
                survivor.kill()
        process.wait()
        psutil.wait_procs(family, timeout=GRACE_S)


def build_store_env(home: Path) -> dict[str, str]:
    """This environment, without telemetry and settings of the service."""
    left_out = (SETTING_PREFIX, "PROMETHEUS_MULTIPROC_DIR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    ours = {"BENTOML_HOME": str(home), "TMPDIR": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    return {**kept, **ours}


def read_service_settings() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(SETTING_PREFIX) and name not in NOT_THE_SERVICES
    }


def find_free_port(host: str = HOST, port: int = 0) -> int:
    """Port 0 means any. Raises ServerError when the port is taken."""
    with socket.socket() as probe:
        # Connections of a server that just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        free: int = probe.getsockname()[1]
    return free
