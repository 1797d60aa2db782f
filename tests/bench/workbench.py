"""`fbt bench workbench`: the pages at a million products, in a browser and over HTTP.

Two made-up versions in a registry, two services as replicas, one workbench. A browser types and
opens views; then one person and ten of them at once do the same over HTTP, with pauses as people
make them.
"""

import os
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.model.bundle import BundleError
from components.model.verification import verify_bundle
from components.progress import log_progress
from pipelines.bench.processes import python_command
from tests.bench.served.bundles import N_WORDS, product_id
from tests.bench.serving import Figures, Rows
from tests.bench.serving import format_rows as format_rows

if TYPE_CHECKING:
    import httpx
    from playwright.sync_api import Page

    from components.package.server import Server

N_PRODUCTS, QUICK_PRODUCTS = 1_000_000, 2_000
N_QUERIES, N_VISITS, N_RULES = 20, 5, 10
"""Of the full bench; the quick one has a few of each."""

N_PEOPLE = 10
ROUNDS = 6
KEY_PAUSE_S, PAGE_PAUSE_S = 0.25, 2.0
"""Between a person's keys, and before the next product."""

PATIENCE_MS = 120_000
"""For the first opening of a version, whose files are fetched and checked."""

WATCH_KEYS = """
let pressed = 0;
window.answered = [];
addEventListener("input", () => { pressed = performance.now(); }, true);
new MutationObserver((changes) => {
  if (!pressed || !changes.some((one) => one.target.role === "listbox")) return;
  const since = pressed;
  pressed = 0;
  // After the frame in which the list is painted.
  requestAnimationFrame(() => setTimeout(() => answered.push(performance.now() - since)));
}).observe(document, { childList: true, subtree: true });
"""
UNDONE = "[data-pending], [data-retry], #fetched, [aria-busy=true]"
"""Parts of a page that are still being made."""

WARM_UP = "word"

STATIC = Path(__file__).parents[2] / "bento" / "workbench" / "static"


@dataclass(frozen=True)
class Parts:
    workbench: "Server"
    services: Sequence["Server"]


@dataclass
class Times:
    """Milliseconds."""

    keys: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)


def bench(work: Path | None = None, quick: bool = False) -> tuple[Figures, Rows]:
    """Figures and rows. `work` keeps the made-up bundles."""
    refuse_without_browser()
    n_products = QUICK_PRODUCTS if quick else N_PRODUCTS
    few = 5 if quick else 1
    with tempfile.TemporaryDirectory(prefix="fbt-workbench-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        bundles = [ensure_bundle((work or folder).absolute(), n_products, seed) for seed in (1, 2)]
        parts = start_parts(stack, folder, bundles)
        found: list[tuple[Figures, Rows]] = [count_bytes()]
        with open_page(parts.workbench.url) as page:
            found += [measure_keys(page, N_QUERIES // few), measure_pages(page, N_VISITS // few)]
        found += [
            measure_memory(parts.workbench),
            measure_people(parts.workbench.url, n_products, ROUNDS // few),
            measure_rules(parts, N_RULES // few),
        ]
    rows = [row for _, part in found for row in part]
    load = {"part": "machine", "what": "processes that want a core", "mean": os.getloadavg()[2]}
    return {name: value for figures, _ in found for name, value in figures.items()}, [*rows, load]


def refuse_without_browser() -> None:
    """Raises ValueError."""
    if shutil.which("chromium") is None:
        raise ValueError("bench workbench: chromium not found, which opens the pages; install it")


def ensure_bundle(work: Path, n_items: int, seed: int) -> Path:
    """A made-up bundle below `work`, made where it is not whole, by a process of its own."""
    target = work / f"bundle-{n_items}-{seed}"
    try:
        verify_bundle(target)
    except BundleError:
        log_progress(f"making version {seed} of {n_items:,} products")
        call = (
            "from pathlib import Path; from tests.bench.served.bundles import make_bundle; "
            f"make_bundle(Path({str(target)!r}), {n_items}, {seed})"
        )
        subprocess.run(python_command(call), check=True)
    return target


def start_parts(stack: ExitStack, folder: Path, bundles: Sequence[Path]) -> Parts:
    from tests.browser.environment import (
        register_versions,
        run_registry,
        run_service,
        run_workbench,
    )

    log_progress("starting the registry, two services and the workbench")
    start, database = stack.enter_context, f"sqlite:///{folder / 'fbt.db'}"
    registry = start(run_registry(folder / "registry"))
    register_versions(registry.url, bundles)
    services = [start(run_service(bundles[0], "1", database)) for _ in range(2)]
    workbench = run_workbench(folder / "workbench", services[0].url, database, registry.url)
    return Parts(start(workbench), services)


def count_bytes() -> tuple[Figures, Rows]:
    """Of our own scripts and styles, as they are sent."""
    sizes = {
        kind: sum(file.stat().st_size for file in STATIC.glob(f"*.{kind}")) / 1000
        for kind in ("js", "css")
    }
    rows = [{"part": "bytes", "what": kind, "kb": size} for kind, size in sizes.items()]
    return {"javascript_kb": sizes["js"]}, rows


@contextmanager
def open_page(url: str) -> Iterator["Page"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 800})
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(WATCH_KEYS)
        yield context.new_page()
        browser.close()


def list_queries(n: int) -> list[str]:
    """Two words of a product's name each, of common and rare ones."""
    ranks = (N_WORDS ** np.random.default_rng(1).random((n, 2))).astype(int) - 1
    return [f"word{one} word{other}" for one, other in ranks]


def measure_keys(page: "Page", n_queries: int) -> tuple[Figures, Rows]:
    """From every key to the list that shows its results, one after the other."""
    log_progress("key press to results")
    page.goto("/")
    for query in [WARM_UP, *list_queries(n_queries)]:
        page.fill("#search", "")
        for key in query:
            n_before = page.evaluate("answered.length")
            page.keyboard.type(key)
            page.wait_for_function("(n) => answered.length > n", arg=n_before)
    times_ms = page.evaluate("answered")[len(WARM_UP) :]
    return {"key_to_results_p95_ms": p95(times_ms)}, [describe("keys", "browser", times_ms)]


def measure_pages(page: "Page", n_visits: int) -> tuple[Figures, Rows]:
    """From the address to the page with all its parts; the first visit of a view is told apart."""
    rows: Rows = []
    every: list[float] = []
    for name, paths in list_views(n_visits + 1).items():
        log_progress(f"page ready: {name}")
        first_ms, *times_ms = [open_view(page, path) for path in paths]
        rows.append({**describe("pages", name, times_ms), "first_ms": first_ms})
        log_progress(f"{name}: {rows[-1]['p50_ms']:.0f} ms, at first {first_ms:.0f} ms")
        every += times_ms
    return {"page_ready_p95_ms": p95(every)}, rows


def list_views(n: int) -> dict[str, list[str]]:
    rows = np.random.default_rng(2).integers(QUICK_PRODUCTS, size=(n, 3))
    ids = [[product_id(row) for row in three] for three in rows.tolist()]
    carts = ["&".join(f"items={one}" for one in three) for three in ids]
    return {
        "start": ["/"] * n,
        "search": [f"/search?q=word{row}" for row in rows[:, 0]],
        "product": [f"/product/{one}" for one, *_ in ids],
        "cart": [f"/cart?{cart}" for cart in carts],
        "compare, overall": ["/compare?a=1&b=2"] * n,
        "compare, product": [f"/compare?a=1&b=2&product={one}" for one, *_ in ids],
        "judge": ["/judge"] * n,
        "judge, queue": ["/judge/queue"] * n,
        "rules": ["/rules"] * n,
        "rule": [f"/rules/new?action=pin&target={one}&when={other}" for one, other, _ in ids],
        "tune": [f"/tune?product={one}" for one, *_ in ids],
        "map": ["/map"] * n,
        "health": ["/health"] * n,
    }


def open_view(page: "Page", path: str) -> float:
    """Milliseconds until nothing is being made any more, even where the page loads itself again."""
    began = time.perf_counter()
    page.goto(path, wait_until="load")
    done = "(undone) => !document.querySelector(undone)"
    page.wait_for_function(done, arg=UNDONE, timeout=PATIENCE_MS)
    return 1000 * (time.perf_counter() - began)


def measure_memory(workbench: "Server") -> tuple[Figures, Rows]:
    """Of the workbench with two versions open: resident, which counts pages of the bundles' files
    that the kernel may drop; proportional, which shares those with the services; written."""
    import psutil

    family = [workbench.process.pid]
    family += [one.pid for one in psutil.Process(family[0]).children(recursive=True)]
    kinds = {"resident": "Rss", "proportional": "Pss", "written": "Anonymous"}
    sizes = dict.fromkeys(kinds.values(), 0.0)
    for pid in family:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        for name, size in (line.split(":") for line in lines):
            if name in sizes:
                sizes[name] += 1024 * int(size.split()[0]) / 1e6
    rows = [{"part": "memory", "what": what, "mb": sizes[name]} for what, name in kinds.items()]
    return {"memory_mb": sizes["Rss"]}, rows


def measure_people(url: str, n_products: int, rounds: int) -> tuple[Figures, Rows]:
    """What happens to keys and pages when ten people look up products instead of one."""
    rows: Rows = []
    found: dict[int, Times] = {}
    for n_people in (1, N_PEOPLE):
        log_progress(f"people at once: {n_people}")
        found[n_people] = look_up_together(url, n_people, n_products, rounds * N_PEOPLE // n_people)
        rows.append(describe("keys", f"HTTP, {n_people} at once", found[n_people].keys))
        rows.append(describe("pages", f"HTTP, {n_people} at once", found[n_people].pages))
    one, ten = found[1], found[N_PEOPLE]
    ratio = max(p95(ten.keys) / p95(one.keys), p95(ten.pages) / p95(one.pages))
    return {"ten_people_ratio": ratio}, rows


def look_up_together(url: str, n_people: int, n_products: int, rounds: int) -> Times:
    """`rounds` products a person."""
    times, together = Times(), threading.Barrier(n_people)

    def look_up(person: int) -> None:
        import httpx

        rng = np.random.default_rng(person)
        with httpx.Client(base_url=url, timeout=60) as client:
            together.wait()
            time.sleep(rng.uniform(0, PAGE_PAUSE_S))
            for query in list_queries(rounds):
                for end in range(1, len(query) + 1):
                    times.keys.append(time_get(client, "/search/options", q=query[:end]))
                    time.sleep(KEY_PAUSE_S)
                asked = product_id(int(rng.integers(n_products)))
                path = ("/product/{}", "/compare?a=1&b=2&product={}")[int(rng.integers(2))]
                times.pages.append(time_get(client, path.format(asked)))
                time.sleep(PAGE_PAUSE_S)

    with ThreadPoolExecutor(n_people) as pool:
        list(pool.map(look_up, range(n_people)))
    return times


def time_get(client: "httpx.Client", path: str, **query: str) -> float:
    """Milliseconds. Raises RuntimeError for an error."""
    began = time.perf_counter()
    answer = client.get(path, params=query or None)
    if not answer.is_success:
        raise RuntimeError(f"bench workbench: {path} was answered {answer.status_code}")
    return 1000 * (time.perf_counter() - began)


def measure_rules(parts: Parts, n_rules: int) -> tuple[Figures, Rows]:
    """From the click that blocks a product to the first answers of both services without it."""
    import httpx

    from bento.client import Client

    log_progress("a rule on two services")
    asked, times_s = product_id(0), []
    services = [Client(one.url) for one in parts.services]
    with httpx.Client(base_url=parts.workbench.url, timeout=60) as browser:
        for _ in range(n_rules):
            blocked = services[0].recommend(asked, k=5).items[0].product_id
            began = time.perf_counter()
            block(browser, asked, blocked)
            for service in services:
                while blocked in [one.product_id for one in service.recommend(asked, k=5).items]:
                    time.sleep(0.02)
            times_s.append(time.perf_counter() - began)
    for service in services:
        service.close()
    row = {
        "part": "rules",
        "what": "a block on two services",
        "median_s": statistics.median(times_s),
    }
    return {"rule_effective_s": max(times_s)}, [{**row, "most_s": max(times_s)}]


def block(browser: "httpx.Client", asked: str, blocked: str) -> None:
    page = f"/product/{urllib.parse.quote(asked)}"
    token = re.search('name="csrf" content="([^"]+)"', browser.get(page).text)
    assert token is not None
    form = {"csrf": token[1], "target": blocked, "when": asked, "back": page}
    answer = browser.post("/rules/block", data=form)
    if answer.status_code != 303:
        raise RuntimeError(f"bench workbench: a block was answered {answer.status_code}")


def describe(part: str, what: str, times_ms: Sequence[float]) -> dict[str, Any]:
    return {
        "part": part, "what": what, "n": len(times_ms), "p50_ms": statistics.median(times_ms),
        "p95_ms": p95(times_ms), "most_ms": max(times_ms),
    }  # fmt: skip


def p95(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.95))
