"""`fbt bench soak`: the service under steady load for long, while rules and products change.

Every second a rule comes or goes, and prices and stock of some products change, through the API.
"""

import contextlib
import http.client
import json
import random
import statistics
import subprocess
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from components.package.server import Server
from components.progress import log_progress
from tests.bench.served import load, paced
from tests.bench.served.bundles import category, product_id
from tests.bench.served.load import Endpoint
from tests.bench.served.questions import read_questions
from tests.bench.served.servers import CLIENT_CORE, Servers, pin_to_core
from tests.bench.served.workers import own_memory
from tests.bench.serving import Figures, Rows, Shop, make_shop, refuse_without_tools
from tests.bench.serving import format_rows as format_rows

N_PRODUCTS, QUICK_PRODUCTS = 100_000, 10_000

SHARE = 0.7
"""Share of the service's capacity."""

CARTS = 0.1
"""Share of the questions that are carts with filters."""

WARM = 0.2
"""Share of the time after which memory is to stay as it is."""

MOST_GROWTH = 0.02

FLAT = 1.5
"""How many times the p99 of the first third of the time that of the last may be."""

CHANGED_AT_ONCE = 20
CHANGING = 500
"""Products that change repeatedly: every changed product stays in memory."""

RULES_AT_ONCE = 30
TOKEN = "soak"
SETTINGS = {"FBT_ADMIN_TOKEN": TOKEN}

Row = dict[str, Any]


def bench(
    minutes: float = 30, work: Path | None = None, quick: bool = False
) -> tuple[Figures, Rows]:
    """Figures, and a row a minute, which are printed as they come."""
    refuse_without_tools("soak", ("bentoml", "uvloop"))
    n_products, rounds = (QUICK_PRODUCTS, 1) if quick else (N_PRODUCTS, 5)
    with tempfile.TemporaryDirectory(prefix="fbt-soak-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        shop = make_shop(work or folder, n_products)
        servers = Servers(folder / "servers", stack)
        asked = Endpoint(
            "ours",
            servers.ours(shop.bundle, env=SETTINGS),
            mix_questions(shop, folder / "mixed.jsonl"),
        )
        with apply_changes(asked.server, n_products) as changes:
            # With rules and changes, which cost: without them it can do several times as much.
            rate = SHARE * capacity(asked, rounds)
            log_progress(f"{rate:.0f} requests a second for {minutes:g} minutes")
            rows = list(watch(asked, rate, minutes, changes))
    return compute_figures(rows), rows


def mix_questions(shop: Shop, file: Path) -> Path:
    """Questions for products, and some for carts, in one file."""
    singles, carts = read_questions(shop.singles), read_questions(shop.carts)
    n_carts = round(len(singles) * CARTS)
    questions = singles[n_carts:] + carts[:n_carts]
    random.Random(0).shuffle(questions)
    file.write_bytes(b"\n".join(questions) + b"\n")
    return file


def capacity(asked: Endpoint, rounds: int) -> float:
    """Requests per second that the service can do."""
    load.load(asked, 16, 1, 0)
    tries = min(rounds, load.TRIES)
    slots = [load.quietest(asked, 16, 2, 997 * number, tries) for number in range(rounds)]
    return statistics.median(slot.rps for slot in slots)


class ChangeMaker:
    """Changes rules and products of a service by its API, and counts."""

    def __init__(self, server: Server, n_products: int) -> None:
        self._netloc = urllib.parse.urlsplit(server.url).netloc
        self._rng, self._n_products = random.Random(1), n_products
        self._rules: list[str] = []
        self.made = 0
        self.failed: list[str] = []

    def make(self) -> None:
        """Change the catalogue and the rules once; collect errors."""
        try:
            self._call(
                "POST", "/catalogue", {"upsert": [self._product() for _ in range(CHANGED_AT_ONCE)]}
            )
            if len(self._rules) < RULES_AT_ONCE:
                self._rules.append(self._call("POST", "/rules", self._rule())["rule_id"])
            else:
                self._call("DELETE", f"/rules/{self._rules.pop(0)}")
            self.made += 1
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            self.failed.append(str(error))

    def _product(self) -> dict[str, Any]:
        rng = self._rng
        row = rng.randrange(CHANGING)
        return {
            "product_id": product_id(row),
            "price": round(rng.uniform(2, 50), 2),
            "in_stock": rng.random() < 0.9,
        }

    def _rule(self) -> dict[str, Any]:
        rng = self._rng
        target = {"category": category(rng.randrange(200))}
        rule = {"action": rng.choice(["boost", "bury", "block"]), "target": target}
        when = {"product_id": product_id(rng.randrange(self._n_products))}
        return {**rule, "when": when} if rng.random() < 0.5 else rule

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        with closing(http.client.HTTPConnection(self._netloc, timeout=10)) as connection:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:200]!r}")
        return json.loads(content) if content else None


@contextmanager
def apply_changes(server: Server, n_products: int) -> Iterator[ChangeMaker]:
    """A change every second, until the block ends; first of all, as many rules as there will be."""
    changes, stopped = ChangeMaker(server, n_products), threading.Event()
    for _ in range(RULES_AT_ONCE):
        changes.make()

    def run() -> None:
        while not stopped.wait(1.0):
            changes.make()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield changes
    finally:
        stopped.set()
        thread.join(30)


def watch(asked: Endpoint, rate: float, minutes: float, changes: ChangeMaker) -> Iterator[Row]:
    """A row a minute, or ten of them where it is shorter than that."""
    interval_s = min(60.0, 6 * minutes)
    command = paced.command(asked.url, asked.questions, rate, 60 * minutes, interval_s)
    before = load.read_cpu_times(asked.server)
    with subprocess.Popen(
        pin_to_core(command, CLIENT_CORE), stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout is not None
        for number, line in enumerate(client.stdout, 1):
            now = load.read_cpu_times(asked.server)
            cores, waited = ((n - b) / interval_s for n, b in zip(now, before, strict=True))
            row = {
                "part": "soak", "minute": round(number * interval_s / 60, 2),
                **build_row(json.loads(line), changes),
                "memory_mb": memory_mb(asked.server), "cores": cores, "waited": waited,
            }  # fmt: skip
            before = now
            log_progress(
                ", ".join(f"{name} {value:.6g}" for name, value in row.items() if name != "part")
            )
            yield row
    if client.returncode:
        raise RuntimeError(f"bench soak: the client ended with code {client.returncode}")


def build_row(report: Row, changes: ChangeMaker) -> Row:
    """A row of results and changes; errors are logged and cleared."""
    failures = [*report["errors"].items(), *changes.failed]
    changes.failed.clear()
    for failure in failures:
        log_progress(f"failed: {failure}")
    numbers = {name: report[name] for name in ("rps", "p50_ms", "p99_ms", "max_ms")}
    n_errors = sum(report["errors"].values()) + len(failures) - len(report["errors"])
    return {**numbers, "errors": n_errors, "changes": changes.made}


def memory_mb(server: Server) -> float:
    """What the service's processes wrote themselves; pages of the bundle are the kernel's."""
    import psutil

    total = 0.0
    parent = psutil.Process(server.process.pid)
    for process in (parent, *parent.children(recursive=True)):
        with contextlib.suppress(OSError, psutil.Error):
            total += own_memory(process.pid)["written"]
    return total / 1e6


def compute_figures(rows: Sequence[dict[str, Any]]) -> Figures:
    """Errors, growth of memory after warm-up, and the tail at the end to that at the beginning."""
    warm = rows[int(WARM * len(rows)) :]
    third = max(len(rows) // 3, 1)
    tails = [
        statistics.median(row["p99_ms"] for row in part) for part in (rows[:third], rows[-third:])
    ]
    return {
        "soak_minutes": rows[-1]["minute"],
        "soak_errors": sum(row["errors"] for row in rows),
        "soak_memory_growth": warm[-1]["memory_mb"] / warm[0]["memory_mb"] - 1,
        "soak_p99_last_vs_first": tails[1] / tails[0],
        "soak_p99_ms": statistics.median(row["p99_ms"] for row in rows),
    }


def check(figures: Figures) -> None:
    """Raises RuntimeError if a figure exceeds its bound."""
    bounds = {
        "soak_errors": 0,
        "soak_memory_growth": MOST_GROWTH,
        "soak_p99_last_vs_first": FLAT,
    }
    wrong = [
        f"{name} is {figures[name]:.3g}, expected at most {most:g}"
        for name, most in bounds.items()
        if figures[name] > most
    ]
    if wrong:
        raise RuntimeError(f"bench soak: {'; '.join(wrong)}")
