"""Ingest that is killed under load: whether all that it accepted is stored, and once."""

import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from components.package.server import HOST, find_free_port
from tests.bench.ingest.bodies import BATCH, choose_batch, make_events
from tests.bench.ingest.stores import StoreServer
from tests.bench.served.servers import environment

CLIENTS = 4
LIFE_S = (0.2, 3.0)
"""Of an ingest under load until it is killed, uniform between."""

RESTART_EVERY = 5
"""Kills from one restart of the store to the next."""

READY_S = 60.0
ANSWER_S = 180.0
"""Clients send again for so long."""


class Outcome(NamedTuple):
    accepted: int
    """Events that a client was told of."""
    lost: int
    """Of these, not stored."""
    doubled: int
    """Stored more than once, or in part."""
    unknown: int
    """Stored, though no client was told: the answer was lost."""
    refused: int
    """Requests that were answered, but not 202; they were sent again."""
    kills: int
    restarts: int
    full_s: float
    """Seconds without a byte left on the disk, for SQLite alone."""
    recovery_s: float
    """From a kill to readiness, on average."""


class Ingest:
    """`python -m bento.ingest`, on one port again and again."""

    def __init__(self, folder: Path, store: StoreServer) -> None:
        self._folder, self._port = folder, find_free_port()
        folder.mkdir(parents=True)
        self._env = {**environment(folder), "FBT_EVENTS_URL": store.url}
        self.netloc = f"{HOST}:{self._port}"

    def start(self) -> None:
        """Raises RuntimeError if it does not get ready."""
        command = [sys.executable, "-m", "bento.ingest", "--host", HOST, "--port", str(self._port)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._env, stdout=log, stderr=log, cwd=self._folder
            )
        deadline = time.monotonic() + READY_S
        while self._ask() != 200:
            if time.monotonic() > deadline or self._process.poll() is not None:
                tail = (self._folder / "log").read_text()[-2000:]
                raise RuntimeError(f"bench: the ingest is not ready; its log ends with:\n{tail}")
            time.sleep(0.02)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @contextmanager
    def without_disk(self) -> Iterator[None]:
        """No file of the process may be written, as on a full disk."""
        import psutil

        process = psutil.Process(self._process.pid)
        _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (1, hard))
        try:
            yield
        finally:
            process.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))

    def _ask(self) -> int:
        connection = http.client.HTTPConnection(self.netloc, timeout=2)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        return 0


class Clients:
    """Threads that send batches until each is accepted, and remember which were."""

    def __init__(self, netloc: str, events: list[dict[str, Any]]) -> None:
        self._netloc, self._events = netloc, events
        self._stopped = threading.Event()
        self._numbers = iter(range(1 << 60))
        self._lock = threading.Lock()
        self.accepted: list[int] = []
        self.refused = 0
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """After the batches in flight are accepted."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._lock:
                number = next(self._numbers)
            body = json.dumps({"events": choose_batch(self._events, number, f"{number:x}")})
            deadline = time.monotonic() + ANSWER_S
            while not self._send(body):
                if time.monotonic() > deadline:
                    self.errors.append(f"batch {number} is not accepted for {ANSWER_S:.0f} s")
                    return
                time.sleep(0.02)
            self.accepted.append(number)

    def _send(self, body: str) -> bool:
        """Whether all of it was accepted, now or before."""
        connection = http.client.HTTPConnection(self._netloc, timeout=10)
        try:
            connection.request("POST", "/events", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if answer.status != 202:
            with self._lock:
                self.refused += 1
            return False
        found = json.loads(content)
        return bool(found["accepted"] + found["duplicates"] == BATCH)


def count_lost(
    folder: Path, store: StoreServer, n_kills: int, full_s: float = 0, seed: int = 0
) -> Outcome:
    """The ingest is killed so often, and has a full disk for so long. Raises RuntimeError if it
    does not come back."""
    rng, events = random.Random(seed), make_events(BATCH * 40)
    ingest = Ingest(folder / "ingest", store)
    ingest.start()
    waits, restarts = [], 0
    with run_clients(ingest.netloc, events) as clients:
        for number in range(n_kills):
            time.sleep(rng.uniform(*LIFE_S))
            ingest.kill()
            began = time.monotonic()
            if store.restart is not None and number % RESTART_EVERY == RESTART_EVERY - 1:
                store.restart()
                restarts += 1
            ingest.start()
            waits.append(time.monotonic() - began)
        if full_s:
            with ingest.without_disk():
                time.sleep(full_s)
        if store.restart is not None:
            # The ingest lives on while its store is away.
            store.restart()
            restarts += 1
    ingest.kill()
    if clients.errors:
        raise RuntimeError(f"bench: {clients.errors[0]}; see {folder / 'ingest' / 'log'}")
    found = compare(events, clients.accepted, read_stored(store.url, folder / "archive"))
    recovery_s = sum(waits) / max(len(waits), 1)
    return Outcome(*found, clients.refused, n_kills, restarts, full_s, recovery_s)


@contextmanager
def run_clients(netloc: str, events: list[dict[str, Any]]) -> Iterator[Clients]:
    clients = Clients(netloc, events)
    try:
        yield clients
    finally:
        clients.stop()


def read_stored(url: str, archive: Path) -> dict[str, int]:
    """Rows by event id, after compaction to Parquet."""
    import pyarrow.compute as pc

    from components.contracts import EVENTS, read_table
    from components.events.archive import Archive
    from components.events.compact import compact
    from components.events.open import open_sink

    sink = open_sink(url)
    compact(sink, Archive(str(archive)))
    sink.close()
    counts = pc.value_counts(read_table(archive / "events", EVENTS, ["event_id"])["event_id"])
    return dict(
        zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    )


def compare(
    events: list[dict[str, Any]], accepted: Sequence[int], stored: dict[str, int]
) -> tuple[int, int, int, int]:
    """`accepted` (events), `lost`, `doubled` and `unknown` of Outcome."""
    lost = doubled = 0
    told: set[str] = set()
    for number in accepted:
        for one in choose_batch(events, number, f"{number:x}"):
            told.add(one["event_id"])
            found = stored.get(one["event_id"], 0)
            lost += found == 0
            doubled += found not in (0, len(one["items"]))
    return len(told), lost, doubled, len(stored.keys() - told)
