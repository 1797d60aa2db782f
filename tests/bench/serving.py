"""`fbt bench serving`: the service under load, by turns with others that answer the same.

Every server has one worker on one core, the client another. `bare` is ASGI by hand on uvicorn,
with the same look-up or search and the same rendering; `stock` a BentoML service as its
documentation has it; `fastapi` the same with FastAPI; `diy` a tuned item-item model of implicit
behind FastAPI. All get the same questions, and a sample of the answers is compared first.
"""

import importlib.util
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from components.model.bundle import read_manifest
from components.progress import log_progress
from pipelines.tables import table
from tests.bench.served import load, workers
from tests.bench.served.load import Endpoint, Slot, by_turns, check_same, medians, ratio
from tests.bench.served.questions import (
    K,
    carts,
    many_rules,
    product_questions,
    rules,
    singles,
    write_questions,
)
from tests.bench.served.servers import Servers, missing_tools
from tests.bench.served.shops import ensure_bundle

SHARE = 0.6
"""Share of the service's capacity at which the tail of carts is measured."""

Rows = list[dict[str, Any]]
Figures = dict[str, float]
Found = Mapping[tuple[str, int], list[Slot]]


@dataclass(frozen=True)
class Effort:
    """How large and how long."""

    small: int
    middle: int
    large: int
    cold: int
    """Products: of the comparisons, in this order, and of the archive."""
    rounds: int
    seconds: int
    """Of a slot of load."""
    starts: int
    """Of the service, to measure how long it takes to be ready."""
    tries: int = load.TRIES
    warm: int = 5_000
    """Requests to each worker whose memory is measured."""


FULL = Effort(10_000, 100_000, 1_000_000, 24_000, rounds=7, seconds=3, starts=5)
QUICK = Effort(10_000, 10_000, 10_000, 10_000, rounds=1, seconds=1, starts=1, tries=1, warm=100)


@dataclass(frozen=True)
class Shop:
    """A synthetic bundle and its requests."""

    bundle: Path
    singles: Path
    carts: Path


def bench(
    work: Path | None = None,
    quick: bool = False,
    orders: str = "",
    products: str = "",
    columns: str = "",
) -> tuple[Figures, Rows]:
    """Figures and rows. Raises ValueError where the set-up allows no measurement."""
    refuse_without_tools("serving", ("bentoml", "fastapi", "implicit", "uvloop"))
    effort = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="fbt-serving-") as scratch:
        folder = Path(scratch)
        kept = work or folder
        shops = {
            n: make_shop(kept, n) for n in (effort.small, effort.middle, effort.large, effort.cold)
        }
        small, middle, large, cold = (
            shops[n] for n in (effort.small, effort.middle, effort.large, effort.cold)
        )
        return gather(
            partial(compare_singles, folder, middle, effort),
            partial(compare_carts, folder, large, effort),
            partial(compare_rules, folder, large, effort),
            partial(compare_sizes, folder, small, large, effort),
            partial(compare_memory, folder, large, effort),
            partial(compare_starts, folder, large, effort),
            partial(compare_cold, folder, cold),
            partial(compare_diy, folder, effort, quick, (orders, products, columns)),
        )


def gather(*parts: Callable[[], tuple[Figures, Rows]]) -> tuple[Figures, Rows]:
    """Figures and rows of all parts; the figures are logged one by one."""
    figures: Figures = {}
    rows: Rows = []
    for part in parts:
        figures_of_part, rows_of_part = part()
        log_progress(", ".join(f"{name} {value:.3f}" for name, value in figures_of_part.items()))
        figures |= figures_of_part
        rows += rows_of_part
    return figures, rows


def refuse_without_tools(name: str, modules: Sequence[str]) -> None:
    """Raises ValueError if tools or packages are missing."""
    if missing := missing_tools():
        raise ValueError(
            f"bench {name}: {', '.join(missing)} not found, which loads and pins servers; "
            "apt-get install wrk util-linux"
        )
    absent = [one for one in modules if importlib.util.find_spec(one) is None]
    if absent:
        raise ValueError(
            f"bench {name}: {', '.join(absent)} cannot be imported; the servers compared are "
            "extras: pip install 'fbt[steps,serve,bench,peers]'"
        )


def make_shop(work: Path, n_items: int) -> Shop:
    """The bundle and the questions of so many products, below `work`."""
    # Servers run elsewhere.
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    bundle = ensure_bundle(work, n_items)
    return Shop(
        bundle,
        write_questions(singles(n_items), work / f"singles-{n_items}.jsonl"),
        write_questions(carts(n_items), work / f"carts-{n_items}.jsonl"),
    )


def compare_singles(folder: Path, shop: Shop, effort: Effort) -> tuple[Figures, Rows]:
    """One product: everybody at 16 connections; bare and ours at 1 and 64, too."""
    log_progress("one product")
    with ExitStack() as stack:
        servers = Servers(folder / "singles", stack)
        started = {
            "bare": servers.bare(shop.bundle),
            "ours": servers.ours(shop.bundle),
            "stock": servers.stock(shop.bundle),
            "fastapi": servers.with_fastapi(shop.bundle),
        }
        every = {name: Endpoint(name, one, shop.singles) for name, one in started.items()}
        check_same(list(every.values()), K)
        slots = [(every[name], n) for n in (1, 16, 64) for name in ("bare", "ours")]
        slots += [(every[name], 16) for name in ("stock", "fastapi")]
        found = turns(slots, effort)
    figures = {
        **{f"rps_vs_bare_c{n}": versus(found, "ours", "bare", n) for n in (1, 16, 64)},
        **{f"rps_vs_{name}_c16": versus(found, "ours", name, 16) for name in ("stock", "fastapi")},
        "p99_vs_p50_c16": statistics.median(one.p99_ms / one.p50_ms for one in found["ours", 16]),
        **{
            f"per_cpu_vs_{name}_c16": per_cpu(found, "ours", name)
            for name in ("bare", "stock", "fastapi")
        },
    }
    return figures, load_rows("one product", found, "bare")


def compare_carts(folder: Path, shop: Shop, effort: Effort) -> tuple[Figures, Rows]:
    """Carts with filters and rules; one product without, for the CPU that both take."""
    log_progress("carts")
    with ExitStack() as stack:
        servers = Servers(folder / "carts", stack)
        ours = Endpoint("ours", servers.ours(shop.bundle, rules()), shop.carts)
        bare = Endpoint("bare", servers.bare(shop.bundle, rules()), shop.carts, "/cart")
        single = Endpoint("ours, one product", servers.ours(shop.bundle), shop.singles)
        check_same([bare, ours], K)
        found = turns([(bare, 16), (ours, 16), (single, 16)], effort)
        capacity = statistics.median(one.rps for one in found["ours", 16])
        tails = [
            load.paced_load(ours, SHARE * capacity, 3 * effort.seconds, seed, effort.tries)
            for seed in range(effort.rounds)
        ]
    cpu = ratio(
        [one.cpu_us for one in found["ours", 16]],
        [one.cpu_us for one in found["ours, one product", 16]],
    )
    figures = {
        "cart_rps_vs_bare_c16": versus(found, "ours", "bare", 16),
        "cart_per_cpu_vs_bare_c16": per_cpu(found, "ours", "bare"),
        "cart_cpu_vs_single": cpu["ratio"],
        "cart_p99_ms_60": statistics.median(one["p99_ms"] for one in tails),
    }
    rows = load_rows("cart, filters, rules", found, "bare")
    return figures, [*rows, tail_row(tails)]


def compare_rules(folder: Path, shop: Shop, effort: Effort) -> tuple[Figures, Rows]:
    """One product without rules, and with as many as a service takes."""
    log_progress("many rules")
    with ExitStack() as stack:
        servers = Servers(folder / "rules", stack)
        n_items = read_manifest(shop.bundle).n_items
        every = {"no rules": (), "many rules": many_rules(n_items)}
        asked = [
            Endpoint(name, servers.ours(shop.bundle, some), shop.singles)
            for name, some in every.items()
        ]
        found = turns([(one, 16) for one in asked], effort)
    p99, cpu = (
        ratio(*([getattr(slot, name) for slot in found[one, 16]] for one in reversed(every)))
        for name in ("p99_ms", "cpu_us")
    )
    figures = {"rules_p99_vs_none_c16": p99["ratio"], "rules_cpu_vs_none_c16": cpu["ratio"]}
    return figures, load_rows("one product, by rules", found, "no rules")


def tail_row(tails: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians of paced loads, and the spread of their tails."""
    names = ("rps", "p50_ms", "p99_ms", "waited")
    p99s = [one["p99_ms"] for one in tails]
    return {
        "part": f"cart at {SHARE:.0%} load", "what": "ours",
        **{name: statistics.median(one[name] for one in tails) for name in names},
        "p99_low": min(p99s), "p99_high": max(p99s),
        "refused": sum(one["failed"] for one in tails),
    }  # fmt: skip


def compare_sizes(folder: Path, small: Shop, large: Shop, effort: Effort) -> tuple[Figures, Rows]:
    """The latency of one product as the catalogue grows, nobody else asking."""
    log_progress("small and large catalogues")
    with ExitStack() as stack:
        servers = Servers(folder / "sizes", stack)
        asked = [
            Endpoint(name, servers.ours(shop.bundle), shop.singles)
            for name, shop in (("small", small), ("large", large))
        ]
        found = turns([(one, 1) for one in asked], effort)
    latency = {name: [one.p50_ms for one in found[name, 1]] for name in ("small", "large")}
    figures = {"latency_1m_vs_10k": ratio(latency["large"], latency["small"])["ratio"]}
    return figures, load_rows("one product, by catalogue", found, "small")


def compare_memory(folder: Path, shop: Shop, effort: Effort) -> tuple[Figures, Rows]:
    """What one more worker has for itself."""
    log_progress("memory of one more worker")
    with ExitStack() as stack:
        found = workers.measure_worker_memory(
            Servers(folder / "memory", stack), shop.bundle, shop.singles, effort.warm
        )
    rows: Rows = [
        {"part": "one more worker", "what": name, **{f"{key}_mb": mb for key, mb in one.items()}}
        for name, one in found.items()
    ]
    return {"extra_worker_memory": found["ours"]["own"] / found["empty"]["own"]}, rows


def compare_starts(folder: Path, shop: Shop, effort: Effort) -> tuple[Figures, Rows]:
    """How long it takes from a process to readiness."""
    log_progress("start to ready")
    found = workers.measure_starts(folder / "starts", shop.bundle, effort.starts)
    seconds, cpu_s = (
        {name: [getattr(one, what) for one in every] for name, every in found.items()}
        for what in ("seconds", "cpu_s")
    )
    rows: Rows = [
        {
            "part": "start to ready", "what": name, "seconds": statistics.median(seconds[name]),
            "low": min(seconds[name]), "high": max(seconds[name]),
            "cpu_s": statistics.median(cpu_s[name]),
        }
        for name in found
    ]  # fmt: skip
    figures = {
        "ready_vs_empty_1m": ratio(seconds["ours"], seconds["empty"])["ratio"],
        "ready_cpu_vs_empty_1m": ratio(cpu_s["ours"], cpu_s["empty"])["ratio"],
    }
    return figures, rows


def compare_cold(folder: Path, shop: Shop) -> tuple[Figures, Rows]:
    """From an archive to the first answer."""
    log_progress("from an archive")
    seconds = workers.cold_start(folder, shop.bundle, shop.singles)
    row = {"part": "archive to answer", "what": "ours", "seconds": seconds}
    return {"cold_start_s": seconds}, [row]


def compare_diy(
    folder: Path, effort: Effort, quick: bool, data: tuple[str, str, str]
) -> tuple[Figures, Rows]:
    """A real shop's orders: quality and requests per second against implicit behind FastAPI."""
    from threadpoolctl import threadpool_limits

    from pipelines.bench.quality import prepare
    from tests.bench.served.rivals import train_rivals

    log_progress("a team's own")
    place = folder / "diy"
    place.mkdir()
    orders, products, columns = data if data[0] else load_orders(place, quick)
    with threadpool_limits(1):
        rivals = train_rivals(prepare(orders, products, columns, place))
    questions = write_questions(product_questions(rivals.product_ids), place / "singles.jsonl")
    with ExitStack() as stack:
        servers = Servers(place / "servers", stack)
        ours = Endpoint("ours", servers.ours(rivals.bundle), questions)
        diy = Endpoint("diy", servers.diy(rivals.model), questions)
        found = turns([(ours, 16), (diy, 16)], effort)
    figures = {
        "rps_vs_diy_c16": versus(found, "ours", "diy", 16),
        "per_cpu_vs_diy_c16": per_cpu(found, "ours", "diy"),
        "ndcg_vs_diy": rivals.ours_ndcg / max(rivals.diy_ndcg, 1e-12),
    }
    rows = load_rows("real orders", found, "diy")
    rows += [
        {"part": "NDCG@10, one product", "what": "ours", "ndcg": rivals.ours_ndcg},
        {
            "part": "NDCG@10, one product", "what": "diy", "ndcg": rivals.diy_ndcg,
            "setting": rivals.setting,
        },
    ]  # fmt: skip
    return figures, rows


def load_orders(folder: Path, quick: bool) -> tuple[str, str, str]:
    """The demo data; for a quick try, made-up orders."""
    if quick:
        from tests.bench.orders import Shop as Sales
        from tests.bench.orders import write_order_lines

        write_order_lines(Sales(20_000, 300), folder / "made-up")
        return str(folder / "made-up"), "", ""
    from pipelines.demo_data import write_demo_data

    lines, products = write_demo_data(folder / "demo")
    return str(lines), str(products), ""


def turns(slots: Sequence[tuple[Endpoint, int]], effort: Effort) -> Found:
    """Interleaved slots of load."""
    return by_turns(slots, effort.rounds, effort.seconds, effort.tries)


def versus(found: Found, one: str, other: str, n: int) -> float:
    """Requests per second of one to another's at `n` connections: median over rounds."""
    ours, theirs = ([slot.rps for slot in found[name, n]] for name in (one, other))
    return ratio(ours, theirs)["ratio"]


def per_cpu(found: Found, one: str, other: str, n: int = 16) -> float:
    """The same per CPU second of the servers, which other processes cannot take away."""
    ours, theirs = ([1 / slot.cpu_us for slot in found[name, n]] for name in (one, other))
    return ratio(ours, theirs)["ratio"]


def load_rows(part: str, found: Found, yardstick: str) -> Rows:
    """A row of medians for everybody and every number of connections."""
    rows: Rows = []
    for (name, n), slots in found.items():
        row = {"part": part, "what": name, "connections": n, **medians(slots)}
        if (yardstick, n) in found:
            others = found[yardstick, n]
            by_rps = ratio([one.rps for one in slots], [one.rps for one in others])
            by_cpu = ratio([one.cpu_us for one in slots], [one.cpu_us for one in others])
            row |= {f"rps_vs_{yardstick}": by_rps["ratio"], "low": by_rps["low"]}
            row |= {"high": by_rps["high"], f"cpu_vs_{yardstick}": by_cpu["ratio"]}
        rows.append(row)
    return rows


def format_rows(rows: Rows) -> str:
    """A table for every part, with the columns that it has."""
    parts = []
    for part in dict.fromkeys(row["part"] for row in rows):
        mine = [row for row in rows if row["part"] == part]
        head = [name for name in dict.fromkeys(n for row in mine for n in row) if name != "part"]
        lines = [[_cell(row.get(name, "")) for name in head] for row in mine]
        parts.append(f"{part}\n{table(head, lines)}")
    return "\n\n".join(parts)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
