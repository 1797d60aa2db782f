"""Load by wrk, in short interleaved slots, so that noise hits all servers alike."""

import http.client
import json
import statistics
import subprocess
import urllib.parse
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.package.server import Server
from tests.bench.served import paced
from tests.bench.served.questions import read_questions
from tests.bench.served.servers import CLIENT_CORE, pin_to_core

LUA = Path(__file__).with_name("post.lua")

DISTURBED = 0.05
"""Share of the time that neighbours took from which a slot tells of them."""

TRIES = 3
"""Slots that are measured at most until one is undisturbed."""

CHECKED = 200
"""Questions whose answers are compared before anything is measured."""


@dataclass(frozen=True)
class Endpoint:
    """A server and its requests."""

    name: str
    server: Server
    questions: Path
    path: str = "/recommend"
    script: Path = LUA

    @property
    def url(self) -> str:
        """Where questions go."""
        return self.server.url + self.path


@dataclass(frozen=True)
class Slot:
    """What one slot of load measured."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU microseconds of the server and its children, per request."""
    cores: float
    """Cores that the server used: all of its one, where several always ask."""
    waited: float
    """Seconds, per second, that the server was ready to run and others had its core."""
    refused: int
    """Requests that were not answered 200; they count nowhere else."""


def by_turns(
    slots: Sequence[tuple[Endpoint, int]], rounds: int, seconds: int, tries: int = TRIES
) -> dict[tuple[str, int], list[Slot]]:
    """Slots by name and connections, one a round; each round goes the other way round."""
    found: dict[tuple[str, int], list[Slot]] = {(one.name, n): [] for one, n in slots}
    for asked, connections in slots:
        load(asked, connections, 1, first=0)
    for number in range(rounds):
        for asked, connections in slots if number % 2 else reversed(slots):
            slot = quietest(asked, connections, seconds, 997 * number, tries)
            found[asked.name, connections].append(slot)
    return found


def quietest(
    asked: Endpoint, connections: int, seconds: int, first: int, tries: int = TRIES
) -> Slot:
    """The first slot of load that nobody disturbed, or of `tries` the one disturbed least."""
    tried: list[Slot] = []
    while len(tried) < tries and (not tried or disturbance(tried[-1], connections) >= DISTURBED):
        tried.append(load(asked, connections, seconds, first))
    best = min(tried, key=lambda slot: disturbance(slot, connections))
    refuse_failures(asked, best.refused, best.waited)
    return best


def disturbance(slot: Slot, connections: int) -> float:
    """Share of the time that neighbours took: from the server, and where it can tell, the client.

    Asked by one connection, a server idles while the client has its turn; by many, never.
    """
    return slot.waited if connections == 1 else 1 - slot.cores


def refuse_failures(asked: Endpoint, n: int, waited: float) -> None:
    """Raises RuntimeError for requests that were not answered 200 though nobody disturbed.

    A service that is kept from its core for longer than it lets anybody wait turns them away.
    """
    if n and waited < DISTURBED:
        raise RuntimeError(
            f"bench: {n} requests to {asked.name} were not answered 200; see {asked.server.log}"
        )


def load(asked: Endpoint, connections: int, seconds: int, first: int) -> Slot:
    """Load a server from `connections` kept alive, each asking again at once.

    Raises RuntimeError when connections broke or nothing was answered.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-s", str(asked.script), asked.url, "--", str(asked.questions), str(first)]
    before = read_cpu_times(asked.server)
    done = subprocess.run(
        pin_to_core(command, CLIENT_CORE), capture_output=True, text=True, check=False
    )
    cpu_s, waited_s = (
        after - b for after, b in zip(read_cpu_times(asked.server), before, strict=True)
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"bench: wrk failed: {(done.stderr or done.stdout)[-500:]}")
    result = json.loads(lines[-1])
    answered = result["requests"] - result["refused"]
    if result["broken"] or answered <= 0:
        raise RuntimeError(
            f"bench: {asked.name} answered {answered} of {result['requests']} requests, and "
            f"{result['broken']} connections broke; see {asked.server.log}"
        )
    return Slot(
        answered / result["seconds"], result["p50_ms"], result["p99_ms"],
        1e6 * cpu_s / answered, cpu_s / result["seconds"], waited_s / result["seconds"],
        result["refused"],
    )  # fmt: skip


def paced_load(
    asked: Endpoint, rate: float, seconds: float, seed: int, tries: int = TRIES
) -> dict[str, Any]:
    """The report of a constant request rate, with the server's time without its core.

    Disturbed ones are repeated, as in `quietest`. Raises RuntimeError as it does.
    """
    tried: list[dict[str, Any]] = []
    command = paced.command(asked.url, asked.questions, rate, seconds, seconds, seed)
    while len(tried) < tries and (not tried or tried[-1]["waited"] >= DISTURBED):
        before = read_cpu_times(asked.server)
        done = subprocess.run(
            pin_to_core(command, CLIENT_CORE), capture_output=True, text=True, check=True
        )
        waited = (read_cpu_times(asked.server)[1] - before[1]) / seconds
        report = json.loads(done.stdout.splitlines()[-1])
        tried.append({**report, "waited": waited, "failed": sum(report["errors"].values())})
    best = min(tried, key=lambda one: one["waited"])
    refuse_failures(asked, best["failed"], best["waited"])
    return best


def read_cpu_times(server: Server) -> tuple[float, float]:
    """CPU seconds of a server and all that it started and that runs, and seconds waited for CPU."""
    import psutil

    parent, total_ns = psutil.Process(server.process.pid), [0, 0]
    for process in (parent, *parent.children(recursive=True)):
        for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # a thread may end meanwhile
                ran, waited, _ = file.read_text().split()
                total_ns[0] += int(ran)
                total_ns[1] += int(waited)
    return total_ns[0] / 1e9, total_ns[1] / 1e9


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Median, least and largest of the ratios of each round."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def medians(slots: Sequence[Slot]) -> dict[str, float]:
    """The median of everything that slots measured, and the spread of requests per second."""
    found = {
        name: statistics.median(getattr(one, name) for one in slots) for name in vars(slots[0])
    }
    rates = [one.rps for one in slots]
    refused = sum(one.refused for one in slots)
    return {**found, "refused": refused, "rps_low": min(rates), "rps_high": max(rates)}


def check_same(every: Sequence[Endpoint], k: int) -> None:
    """Raises RuntimeError unless all answer a sample of questions with the same `k` products."""
    expected: list[list[str]] | None = None
    for asked in every:
        bodies = read_questions(asked.questions)
        found = [
            read_product_ids(answer) for answer in answers(asked, bodies[:: len(bodies) // CHECKED])
        ]
        if expected is None:
            expected = found
        for number, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            if mine != theirs or len(mine) != k:
                raise RuntimeError(
                    f"bench: question {number}: {asked.name} answers {mine}, expected the {k} of "
                    f"{every[0].name}: {theirs}"
                )


def answers(asked: Endpoint, bodies: Sequence[bytes]) -> list[Mapping[str, Any]]:
    """The answers to these bodies. Raises RuntimeError when one is not answered 200."""
    where = urllib.parse.urlsplit(asked.url)
    found = []
    with closing(http.client.HTTPConnection(where.netloc, timeout=30)) as connection:
        for body in bodies:
            connection.request("POST", where.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise RuntimeError(
                    f"bench: {asked.name} answers {answer.status}: {content[:500]!r}"
                )
            found.append(json.loads(content))
    return found


def read_product_ids(answer: Mapping[str, Any]) -> list[str]:
    """The products of an answer."""
    return [item["product_id"] for item in answer["items"]]


def send_at_least(n_requests: int, asked: Endpoint) -> None:
    """Load the server until so many requests were answered."""
    answered = 0.0
    while answered < n_requests:
        answered += load(asked, 16, 1, first=int(answered)).rps
