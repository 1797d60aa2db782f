"""A real `bentoml serve` as a child process, for as long as a `with` block lasts."""

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

HOST = "127.0.0.1"
SERVICE = "bento.service:Fbt"
SETTING_PREFIX = "FBT_"
SET_BY_CALLER = ("FBT_BUNDLE", "FBT_MODEL_VERSION")
NO_SETTINGS: Mapping[str, str] = {}
GRACE_S = 10.0


class ServerError(RuntimeError):
    """The server did not get ready; the message ends with the end of its log."""


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    url: str
    """Without a slash at the end."""
    log: Path
    process: subprocess.Popen[bytes]

    def wait(self) -> int:
        """Block until the server ends by itself, and return its exit code."""
        return self.process.wait()


@contextmanager
def serve_bundle(
    bundle: Path,
    model_version: str = "candidate",
    *,
    port: int = 0,
    host: str = HOST,
    log: Path | None = None,
    timeout_s: float = 60.0,
    settings: Mapping[str, str] = NO_SETTINGS,
) -> Iterator[Server]:
    """Serve a bundle directory by the service of this source tree, without a database.

    Port 0 takes a free one. `log` is kept when given. `settings` are environment variables of the
    service; none are inherited. Raises ServerError.
    """
    own = {"FBT_BUNDLE": str(bundle.resolve()), "FBT_MODEL_VERSION": model_version}
    # A machine that is busy with training is no fault of the service.
    env = {"FBT_DATABASE_URL": "off", "FBT_MAX_LAG_MS": "60000", **own, **settings}
    with (
        _private_home() as home,
        _run_service(SERVICE, Path(home), env, port, host, log, timeout_s) as server,
    ):
        yield server


@contextmanager
def serve_bento(
    tag: str,
    bentoml_home: Path,
    *,
    port: int = 0,
    host: str = HOST,
    log: Path | None = None,
    timeout_s: float = 60.0,
    settings: Mapping[str, str] = NO_SETTINGS,
) -> Iterator[Server]:
    """Serve a Bento from the store in `bentoml_home`, by the code that the Bento carries.

    The server gets a home of its own that links to the store: servers that share a home erase each
    other's metrics. The service's settings are those of this process, and `settings`. Otherwise as
    `serve_bundle`.
    """
    with _private_home() as home:
        for part in ("bentos", "models"):
            (Path(home) / part).symlink_to((bentoml_home / part).resolve())
        env = {**read_service_settings(), **settings}
        with _run_service(tag, Path(home), env, port, host, log, timeout_s) as server:
            yield server


def _private_home() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fbt-serve-", ignore_cleanup_errors=True)


@contextmanager
def _run_service(
    target: str,
    home: Path,
    env: Mapping[str, str],
    port: int,
    host: str,
    log: Path | None,
    timeout_s: float,
) -> Iterator[Server]:
    port = find_free_port(host, port)
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host", host]
    with run_server(
        [*command, "--port", str(port)],
        f"http://{_to_reachable_host(host)}:{port}",
        env={**build_store_env(home), **env},
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
    """Any server that says at `url` + `ready` when it is ready. Raises ServerError."""
    with ExitStack() as stack:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stack.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal reaches a whole group: this one is ended by us, in order.
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
            raise ServerError(
                f"the server ended (code {code}) before it was ready{_read_log_tail(server)}"
            )
        if time.monotonic() > deadline:
            raise ServerError(
                f"the server was not ready after {timeout_s:g} s{_read_log_tail(server)}"
            )
        time.sleep(0.05)


def _is_ready(server: Server, ready: str) -> bool:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.url).netloc, timeout=2)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", ready)
        return connection.getresponse().status == 200
    return False


def _read_log_tail(server: Server, n_lines: int = 15) -> str:
    lines = server.log.read_text(errors="replace").splitlines()[-n_lines:]
    return "; its log ends with:\n" + "\n".join(lines)


def stop_server(process: subprocess.Popen[bytes]) -> None:
    """End a server and every process it started: politely, and after GRACE_S or Ctrl-C by force.

    BentoML starts its workers in sessions of their own, where no signal to the server's process
    group would reach them: they are found as its descendants.
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
        # A killed process is gone only when the system has got round to it.
        psutil.wait_procs(family, timeout=GRACE_S)


def build_store_env(home: Path) -> dict[str, str]:
    """This environment for a child whose BentoML store lies in `home` and which phones nobody.

    Without settings of the service: what to serve, and how, is said by the caller.
    """
    left_out = (SETTING_PREFIX, "PROMETHEUS_MULTIPROC_DIR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    ours = {"BENTOML_HOME": str(home), "TMPDIR": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    return {**kept, **ours}


def read_service_settings() -> dict[str, str]:
    """The service's settings in this environment, but for what to serve."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(SETTING_PREFIX) and name not in SET_BY_CALLER
    }


def find_free_port(host: str = HOST, port: int = 0) -> int:
    """That port, or for 0 any, that nobody listens on. Raises ServerError when it is taken."""
    with socket.socket() as probe:
        # What a server that just ended leaves behind does not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        free: int = probe.getsockname()[1]
    return free


def _to_reachable_host(host: str) -> str:
    return HOST if host == "0.0.0.0" else host
