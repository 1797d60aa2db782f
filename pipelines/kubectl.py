"""kubectl: the way to a cluster, by whatever login it has."""

import json
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

TIMEOUT_S = 20
"""Of one question by `read`."""


class ClusterError(RuntimeError):
    """The message contains the remedy."""


@dataclass(frozen=True)
class Kubectl:
    context: str = ""
    """Empty = the current one."""
    proxy: str = ""
    """Socket of a `kubectl proxy`; empty = every `read` starts a kubectl."""

    @contextmanager
    def connected(self) -> "Iterator[Kubectl]":
        """With a proxy, by which reading costs a hundredth; without one where none starts.

        A socket in a private folder, for a port would let every user of this machine in.
        """
        with tempfile.TemporaryDirectory(prefix="fbt-") as folder:
            path = str(Path(folder) / "api")
            command = ["kubectl", *self._context(), "proxy", f"--unix-socket={path}",
                       "--reject-methods=^(POST|PUT|PATCH|DELETE)$"]  # fmt: skip
            if not shutil.which("kubectl"):
                yield self
                return
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            try:
                assert process.stdout is not None
                # It tells when it serves, or ends.
                yield replace(self, proxy=path) if process.stdout.readline() else self
            finally:
                process.terminate()
                process.wait()

    def run(self, *words: str, stdin: str = "") -> str:
        """Standard output. Raises ClusterError."""
        done = self._call(words, stdin)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip()[-1500:]
            raise ClusterError(f"cluster: `{self.format_command(words)}` failed: {reason}")
        return done.stdout

    def exists(self, *words: str) -> bool:
        """Raises ClusterError if no cluster answers."""
        done = self._call(("get", *words), "")
        absent = "NotFound" in done.stderr or "doesn't have a resource type" in done.stderr
        if done.returncode and not absent:
            command = self.format_command(("get", *words))
            raise ClusterError(f"cluster: `{command}` failed: {done.stderr.strip()}")
        return done.returncode == 0

    def read(self, path: str) -> str | None:
        """What the API server answers to a path; None where nothing is. Raises ClusterError."""
        if self.proxy:
            return _read_by_socket(self.proxy, path)
        words = ("get", "--raw", path, f"--request-timeout={TIMEOUT_S}s")
        done = self._call(words, "")
        if done.returncode == 0:
            return done.stdout
        if "(NotFound)" in done.stderr:
            return None
        reason = done.stderr.strip()[-500:]
        raise ClusterError(f"cluster: `{self.format_command(words[:3])}` failed: {reason}")

    def read_object(self, path: str) -> dict[str, Any] | None:
        """As `read`. Raises ClusterError also for an answer that is no JSON object."""
        text = self.read(path)
        if text is None:
            return None
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ClusterError(f"cluster: {path} answered {text[:80]!r}, expected a JSON object")
        return found

    def list_objects(self, path: str) -> list[dict[str, Any]]:
        """The items of a list; none where the kind is unknown. Raises ClusterError."""
        return list((self.read_object(path) or {}).get("items") or [])

    def format_command(self, words: tuple[str, ...]) -> str:
        return shlex.join(["kubectl", *self._context(), *words])

    def _context(self) -> list[str]:
        return ["--context", self.context] if self.context else []

    def _call(self, words: tuple[str, ...], stdin: str) -> "subprocess.CompletedProcess[str]":
        if not shutil.which("kubectl"):
            raise ClusterError("cluster: kubectl is not installed; see kubernetes.io/docs/tasks")
        return subprocess.run(
            ["kubectl", *self._context(), *words],
            input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip


class UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def _read_by_socket(proxy: str, path: str) -> str | None:
    connection = UnixConnection(proxy)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, HTTPException) as error:
        raise ClusterError(f"cluster: `kubectl get --raw {path}` failed: {error}") from None
    finally:
        connection.close()
    if response.status == 404:
        return None
    if response.status != 200:
        raise ClusterError(f"cluster: `kubectl get --raw {path}` failed: {_explain(text)}")
    return text


def _explain(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[-500:]
