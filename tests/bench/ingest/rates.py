"""How fast events are taken, and what that costs those who ask for recommendations."""

import itertools
import json
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from components.package.server import Server
from tests.bench.ingest.bodies import BATCH, choose_batch, make_events, write_bodies
from tests.bench.ingest.stores import StoreServer, open_store
from tests.bench.served import load, paced
from tests.bench.served.load import Endpoint, Slot
from tests.bench.served.servers import CLIENT_CORE, Servers, pin_to_core

SCRIPT = Path(__file__).with_name("events.lua")

CONNECTIONS = 16
BODIES = 200

TARGET = 5_000
"""Events a second beside recommendations."""

ASKED = 100
"""Requests for recommendations a second, while events arrive or not."""

Rows = list[dict[str, Any]]
Figures = dict[str, float]

_numbers = itertools.count(time.time_ns() // 1000 % 10**12, 10**7)
"""A slot's first request: ids of slots do not meet."""


def measure_rate(folder: Path, name: str, rounds: int, seconds: int) -> tuple[Figures, Rows]:
    """Accepted events a second in batches of 50, by one worker that waits for the store.

    Raises Missing."""
    with open_store(name, folder) as store, ExitStack() as stack:
        server = Servers(folder / "servers", stack).ingest(store.url)
        bodies = write_bodies(folder / "bodies.jsonl", BODIES)
        asked = Endpoint(name, server, bodies, "/events", SCRIPT)
        warm_up(server)
        load.load(asked, CONNECTIONS, 2, next(_numbers))
        before, began = _store_cpu_s(store), time.monotonic()
        slots = [load.load(asked, CONNECTIONS, seconds, next(_numbers)) for _ in range(rounds)]
        store_cpu_s = _store_cpu_s(store) - before
        return _summarise(name, slots, store_cpu_s / (time.monotonic() - began))


def warm_up(server: Server) -> None:
    """A first batch: a store's first connection may take seconds. Raises httpx.HTTPError."""
    import httpx

    events = choose_batch(make_events(BATCH), 0, f"{next(_numbers):x}")
    httpx.post(f"{server.url}/events", json={"events": events}, timeout=60).raise_for_status()


def _summarise(name: str, slots: Sequence[Slot], store_cores: float) -> tuple[Figures, Rows]:
    rates = [BATCH * one.rps for one in slots]
    row: dict[str, Any] = {
        "part": "events, batches of 50", "sink": name, "events_per_s": statistics.median(rates),
        "low": min(rates), "high": max(rates),
        "cpu_us_per_event": statistics.median(one.cpu_us for one in slots) / BATCH,
        "store_cpu_us_per_event": 1e6 * store_cores / statistics.mean(rates),
        "p50_ms": statistics.median(one.p50_ms for one in slots),
        "p99_ms": statistics.median(one.p99_ms for one in slots),
        "waited": statistics.median(one.waited for one in slots),
        "refused": sum(one.refused for one in slots),
    }  # fmt: skip
    return {f"events_per_s_{name}": row["events_per_s"]}, [row]


def _store_cpu_s(store: StoreServer) -> float:
    """CPU seconds of the store's server and its children, ended ones included."""
    import psutil

    if store.pid is None:
        return 0.0
    total = 0.0
    process = psutil.Process(store.pid)
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            times = one.cpu_times()
            total += times.user + times.system
            if one is process:
                total += times.children_user + times.children_system
    return total


def measure_tail(
    folder: Path, bundle: Path, questions: Path, rounds: int, seconds: int
) -> tuple[Figures, Rows]:
    """p99 of recommendations while events arrive in another process and in the same, over that
    without events."""
    store = f"sqlite:///{folder / 'events.db'}"
    tails: dict[str, list[float]] = {"nobody": [], "ingest": [], "service": []}
    taken: dict[str, list[float]] = {who: [] for who in tails}
    with ExitStack() as stack:
        servers = Servers(folder / "servers", stack)
        # Threads of the log and of the sink are there in all of them.
        service = servers.ours(bundle, env={"FBT_EVENTS_URL": store})
        ingest = servers.ingest(store, core=CLIENT_CORE)
        asked = Endpoint("ours", service, questions)
        bodies = write_bodies(folder / "bodies.jsonl", TARGET // BATCH * (seconds + 3) * 2, True)
        load.paced_load(asked, ASKED, 1, 0, tries=1)
        for number in range(rounds):
            for who in sorted(tails, reverse=bool(number % 2)):
                target = {"nobody": None, "ingest": ingest, "service": service}[who]
                numbered = folder / f"bodies-{number}-{who}.jsonl"
                _renumber(bodies, numbered, f"{number}-{who}")
                with send_events(target, numbered, seconds + 2, taken[who]):
                    report = load.paced_load(asked, ASKED, seconds, number, tries=1)
                tails[who].append(report["p99_ms"])
    return _compare_tails(tails, taken)


def _renumber(bodies: Path, target: Path, mark: str) -> None:
    """The same events under other ids."""
    text = bodies.read_text().replace('"event_id": "', f'"event_id": "{mark}-')
    target.write_text(text)


@contextmanager
def send_events(
    target: Server | None, bodies: Path, seconds: int, taken: list[float]
) -> Iterator[None]:
    """TARGET events a second for about so long; the block begins once they flow. `taken` gets the
    accepted events a second."""
    if target is None:
        yield
        return
    url, rate = f"{target.url}/events", TARGET / BATCH
    command = paced.command(url, bodies, rate, seconds, seconds)
    client = subprocess.Popen(pin_to_core(command, CLIENT_CORE), stdout=subprocess.PIPE)
    time.sleep(1.5)
    try:
        yield
    finally:
        output, _ = client.communicate()
    taken.append(BATCH * json.loads(output.splitlines()[-1])["rps"])


def _compare_tails(
    tails: Mapping[str, Sequence[float]], taken: Mapping[str, Sequence[float]]
) -> tuple[Figures, Rows]:
    rows: Rows = []
    for who, found in tails.items():
        over = load.ratio(found, tails["nobody"])
        rows.append(
            {
                "part": f"recommendations beside {TARGET} events a second", "taken by": who,
                "events_per_s": min(taken[who], default=0.0),
                "p99_ms": statistics.median(found), "over_nobody": over["ratio"],
                "low": over["low"], "high": over["high"],
            }
        )  # fmt: skip
    return {
        "recommend_p99_under_ingest": rows[1]["over_nobody"],
        "recommend_p99_under_ingest_one_process": rows[2]["over_nobody"],
    }, rows


def measure_log_cost(
    folder: Path, bundle: Path, questions: Path, rounds: int, seconds: int
) -> tuple[Figures, Rows]:
    """Requests per second with all answers in the recommendation log, with a tenth, and without.

    The cost is 1 - the ratio to those without."""
    with ExitStack() as stack:
        servers = Servers(folder / "servers", stack)
        on = f"sqlite:///{folder / 'events.db'}"
        every = {
            "off": {"FBT_EVENTS_URL": "off"},
            "a tenth": {"FBT_EVENTS_URL": on, "FBT_LOG_SHARE": "0.1"},
            "all": {"FBT_EVENTS_URL": on, "FBT_LOG_SHARE": "1"},
        }
        asked = [
            Endpoint(name, servers.ours(bundle, env=env), questions) for name, env in every.items()
        ]
        turns, tries = [(one, CONNECTIONS) for one in asked], min(rounds, load.TRIES)
        found = load.by_turns(turns, rounds, seconds, tries)
    rows: Rows = []
    for name in every:
        slots, base = found[name, CONNECTIONS], found["off", CONNECTIONS]
        rps = load.ratio([one.rps for one in slots], [one.rps for one in base])
        cpu = load.ratio([one.cpu_us for one in slots], [one.cpu_us for one in base])
        rows.append(
            {
                "part": "recommendation log", "log": name, **load.medians(slots),
                "rps_vs_off": rps["ratio"], "low": rps["low"], "high": rps["high"],
                "cpu_vs_off": cpu["ratio"],
            }
        )  # fmt: skip
    return {"recommendation_log_rps_cost": 1 - rows[2]["rps_vs_off"]}, rows
