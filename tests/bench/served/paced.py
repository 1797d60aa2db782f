"""A load of so many requests a second, whatever the server makes of them.

Arrivals are a Poisson process; one that finds no connection free waits, and its wait counts. Prints
a line of JSON for every interval: `python -m tests.bench.served.paced --help`.
"""

import argparse
import asyncio
import json
import random
import sys
import urllib.parse
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.served.questions import read_questions

CONNECTIONS = 64
TIMEOUT_S = 10.0
"""How long the last answers are waited for."""


class Results:
    """What came of the requests since the last report."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.errors: dict[str, int] = {}

    def add_error(self, why: str) -> None:
        """Note a request that got no answer, or no good one."""
        self.errors[why] = self.errors.get(why, 0) + 1

    def report(self, seconds: float) -> dict[str, Any]:
        """Rate, errors and quantiles; forgets them."""
        latencies, errors = self.latencies_s, self.errors
        self.latencies_s, self.errors = [], {}
        p50, p99 = np.quantile(latencies, (0.5, 0.99)) if latencies else (np.nan, np.nan)
        return {
            "requests": len(latencies), "rps": len(latencies) / seconds, "errors": errors,
            "p50_ms": 1e3 * p50, "p99_ms": 1e3 * p99, "max_ms": 1e3 * max(latencies, default=0),
        }  # fmt: skip


class Connection(asyncio.Protocol):
    """One request at a time; puts itself back among the `free` ones."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._buffer = b""
        self._asked_at: float | None = None

    def connection_made(self, transport: Any) -> None:
        """Be free."""
        self._transport = transport
        self._pool.release(self)

    def send(self, request: bytes, arrived_at: float) -> None:
        """Ask; the request arrived at that time of the loop's clock."""
        self._asked_at = arrived_at
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read the answer, which has a Content-Length."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lowered = head.lower()
        start = lowered.index(b"content-length:") + len(b"content-length:")
        if len(body) < int(lowered[start:].partition(b"\r\n")[0]):
            return
        self._buffer = b""
        results, asked_at = self._pool.results, self._asked_at
        assert asked_at is not None
        self._asked_at = None
        if head[9:10] == b"2":
            results.latencies_s.append(self._pool.loop.time() - asked_at)
        else:
            results.add_error(head[9:12].decode())
        self._pool.release(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Count a pending request as failed, and open another connection."""
        if self._asked_at is not None:
            self._pool.results.add_error("connection lost")
        self._pool.replace(self)


class Pool:
    """The connections, and who waits for one."""

    def __init__(self, url: str) -> None:
        where = urllib.parse.urlsplit(url)
        self.host, self.port = where.hostname or "", where.port or 80
        self.loop = asyncio.get_running_loop()
        self.results = Results()
        self.free: deque[Connection] = deque()
        self.waiting: deque[tuple[bytes, float]] = deque()
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self, n: int) -> None:
        """Open `n` connections."""
        for _ in range(n):
            await self.loop.create_connection(lambda: Connection(self), self.host, self.port)

    def ask(self, request: bytes) -> None:
        """Send a request, now or as soon as a connection is free."""
        if self.free:
            self.free.popleft().send(request, self.loop.time())
        else:
            self.waiting.append((request, self.loop.time()))

    def release(self, connection: Connection) -> None:
        """A connection is free."""
        if self.waiting:
            connection.send(*self.waiting.popleft())
        else:
            self.free.append(connection)

    def replace(self, lost: Connection) -> None:
        """Open another one for one that was lost."""
        if lost in self.free:
            self.free.remove(lost)
        if not self._closed:
            task = self.loop.create_task(self.open(1))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self, n: int) -> None:
        """Wait for the last answers; missing ones count as failed."""
        deadline = self.loop.time() + TIMEOUT_S
        while len(self.free) < n and self.loop.time() < deadline:
            await asyncio.sleep(0.01)
        self._closed = True
        for _ in range(n - len(self.free) + len(self.waiting)):
            self.results.add_error("no answer")


async def pace(
    url: str, bodies: Sequence[bytes], rate: float, seconds: float, interval_s: float, seed: int
) -> None:
    """Ask for so many seconds, and print a report for every interval."""
    rng, pool = random.Random(seed), Pool(url)
    await pool.open(CONNECTIONS)
    requests = [build_request(url, body) for body in bodies]
    rng.shuffle(requests)
    loop = pool.loop
    began = reported = due = loop.time()
    number = 0
    while (now := loop.time()) < began + seconds:
        while due <= now:
            pool.ask(requests[number % len(requests)])
            number, due = number + 1, due + rng.expovariate(rate)
        if now - reported >= interval_s:
            print(json.dumps(pool.results.report(now - reported)), flush=True)
            reported = now
        await asyncio.sleep(max(min(due, reported + interval_s) - loop.time(), 0))
    lasted = loop.time() - reported
    await pool.close(CONNECTIONS)
    if lasted > interval_s / 2 or pool.results.errors:
        print(json.dumps(pool.results.report(lasted)), flush=True)


def build_request(url: str, body: bytes) -> bytes:
    """The whole request as bytes."""
    where = urllib.parse.urlsplit(url)
    head = [f"POST {where.path} HTTP/1.1", f"Host: {where.netloc}"]
    head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def command(
    url: str, questions: Path, rate: float, seconds: float, interval_s: float, seed: int = 0
) -> list[str]:
    """The command that asks so."""
    numbers = {"rate": rate, "seconds": seconds, "interval": interval_s, "seed": seed}
    options = [f"--{name}={value}" for name, value in numbers.items()]
    return [sys.executable, "-m", "tests.bench.served.paced", url, str(questions), *options]


def main() -> None:
    parser = argparse.ArgumentParser(description="So many requests a second.")
    parser.add_argument("url")
    parser.add_argument("questions", type=Path, help="one JSON body a line")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--interval", type=float, required=True, help="seconds between reports")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    bodies = read_questions(given.questions)
    asyncio.run(pace(given.url, bodies, given.rate, given.seconds, given.interval, given.seed))


if __name__ == "__main__":
    main()
