"""What a worker costs: memory of one more, the time to be ready, the way from an archive."""

import http.client
import json
import mmap
import os
import statistics
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.package.bento import build_bento, import_bento
from components.package.server import SERVICE, Server, serve_bento, stop_server
from tests.bench.served import load
from tests.bench.served.load import Endpoint
from tests.bench.served.questions import read_questions
from tests.bench.served.servers import (
    EMPTY,
    READY_S,
    SERVER_CORE,
    Servers,
    bento_command,
    environment,
    pin_to_core,
    settings,
)

POLL_S = 0.005


def measure_worker_memory(
    servers: Servers, bundle: Path, questions: Path, n_requests: int
) -> dict[str, Any]:
    """MB that one more worker has for itself alone: ours, and of an empty service.

    The bundle's pages are the kernel's, whoever maps them: this process maps them all meanwhile, so
    that those which only one worker happened to touch do not pass for its own.
    """
    config = servers.home("settings") / "two-workers.yaml"
    workers = {name: {"workers": 2} for name in ("fbt", "empty")}
    config.write_text(json.dumps({"services": workers}))  # which is YAML, too
    own: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack, map_files(bundle):
        two = Servers(servers.folder / "two", stack)
        env = {"BENTOML_CONFIG": str(config)}
        started = {
            "ours": two.ours(bundle, env=env),
            "empty": two.bento(EMPTY, two.home("empty"), env),
        }
        for name, server in started.items():
            asked = Endpoint(name, server, questions)
            load.send_at_least(2 * n_requests, asked)
            own[name] = [own_memory(pid) for pid in worker_pids(server)]
    return {
        name: {key: statistics.mean(one[key] for one in found) / 1e6 for key in found[0]}
        for name, found in own.items()
    }


@contextmanager
def map_files(folder: Path) -> Iterator[None]:
    """Every file of a folder in this process's memory map, every page of it."""
    with ExitStack() as stack:
        for file in folder.iterdir():
            if file.stat().st_size:
                descriptor = os.open(file, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
                stack.enter_context(
                    closing(mmap.mmap(descriptor, 0, flags=flags, prot=mmap.PROT_READ))
                )
        yield


def worker_pids(server: Server) -> list[int]:
    """The processes of a `bentoml serve` that answer. Raises RuntimeError unless there are two."""
    import psutil

    children = psutil.Process(server.process.pid).children(recursive=True)
    found = [one.pid for one in children if any("worker" in part for part in one.cmdline())]
    if len(found) != 2:
        raise RuntimeError(f"bench: {len(found)} workers, expected 2; see {server.log}")
    return found


def own_memory(pid: int) -> dict[str, float]:
    """Bytes of a process that no other one shares, and those of them that it wrote itself."""
    kinds: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size = line.split(":")
        kinds[name] = 1024.0 * int(size.split()[0])
    return {
        "own": kinds["Private_Clean"] + kinds["Private_Dirty"],
        "written": kinds["Private_Dirty"],
        "resident": kinds["Rss"],
    }


@dataclass(frozen=True)
class Start:
    """From the start of the process to the first 200 of /readyz."""

    seconds: float
    cpu_s: float


def measure_starts(folder: Path, bundle: Path, rounds: int) -> dict[str, list[Start]]:
    """Starts by turns: ours, and an empty service's."""
    found: dict[str, list[Start]] = {"ours": [], "empty": []}
    for number in range(rounds):
        home = folder / f"ready-{number}"
        (home / "empty").mkdir(parents=True)
        (home / "ours").mkdir()
        found["empty"].append(_start(EMPTY, home / "empty", {}))
        found["ours"].append(_start(SERVICE, home / "ours", settings(bundle, home)))
    return found


def _start(target: str, home: Path, env: Mapping[str, str]) -> Start:
    command, url = bento_command(target)
    file = home / "server.log"
    with file.open("wb") as log:
        began = time.monotonic()
        process = subprocess.Popen(
            pin_to_core(command, SERVER_CORE), env={**environment(home), **env}, cwd=home,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            seconds = _wait(lambda: _status(f"{url}/readyz") == 200, began, process, file)
            return Start(seconds, load.read_cpu_times(Server(url, file, process))[0])
        finally:
            stop_server(process)


def _wait(
    ready: Callable[[], bool], began: float, process: subprocess.Popen[bytes], log: Path
) -> float:
    while not ready():
        if process.poll() is not None or time.monotonic() - began > READY_S:
            raise RuntimeError(f"bench: a server did not get ready; see {log}")
        time.sleep(POLL_S)
    return time.monotonic() - began


def _status(url: str) -> int:
    where = urllib.parse.urlsplit(url)
    with (
        closing(http.client.HTTPConnection(where.netloc, timeout=2)) as connection,
        suppress(OSError, http.client.HTTPException),
    ):
        connection.request("GET", where.path)
        return connection.getresponse().status
    return 0


def cold_start(folder: Path, bundle: Path, questions: Path) -> float:
    """Seconds from an archive, in an empty store, to the first answer."""
    archive = folder / "cold.bento"
    tag = build_bento(bundle, "1", archive)
    began = time.monotonic()
    home = folder / "cold-home"
    import_bento(archive, home)
    with serve_bento(tag, home, log=folder / "cold.log") as server:
        load.answers(Endpoint("the archive", server, questions), read_questions(questions)[:1])
        return time.monotonic() - began
