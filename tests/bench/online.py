"""`fbt bench online`: how events are taken, what that costs, and whether the estimates are true.

Servers are real processes that are asked over HTTP, each with one worker; stores are real servers,
which wait for the disk. Estimators are judged by simulated shoppers, whose truth is known.
"""

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from components.progress import log_progress
from tests.bench import estimators
from tests.bench.costs import measure
from tests.bench.ingest import rates, stores
from tests.bench.ingest.kills import count_lost
from tests.bench.ingest.stores import open_store
from tests.bench.served.questions import read_questions, write_questions
from tests.bench.serving import Shop, make_shop, refuse_without_tools
from tests.bench.serving import format_rows as format_rows

Rows = list[dict[str, Any]]
Figures = dict[str, float]


@dataclass(frozen=True)
class Effort:
    """How large and how long."""

    products: int
    rounds: int
    seconds: int
    """Of a slot of load."""
    kills: int
    full_s: float
    """Seconds of a full disk, for SQLite."""
    experiments: int
    sessions: int
    """Of an experiment."""
    aa_tests: int
    looks: int
    swapped_sessions: int
    interleaved_sessions: int
    population: int
    report_rows: int
    """Of events, one for each product."""


FULL = Effort(
    products=10_000, rounds=5, seconds=5, kills=50, full_s=60, experiments=400, sessions=1_000,
    aa_tests=600, looks=60, swapped_sessions=100_000, interleaved_sessions=50_000,
    population=200_000, report_rows=10_000_000,
)  # fmt: skip
QUICK = Effort(
    products=1_000, rounds=1, seconds=1, kills=3, full_s=2, experiments=20, sessions=300,
    aa_tests=20, looks=10, swapped_sessions=5_000, interleaved_sessions=3_000,
    population=20_000, report_rows=100_000,
)  # fmt: skip

PARTS = ("rates", "tail", "log", "kills", "estimators", "report")


def bench(work: Path | None = None, quick: bool = False, parts: str = "") -> tuple[Figures, Rows]:
    """Figures and rows of the `parts` between commas, or of all. Raises ValueError where the
    set-up allows no measurement."""
    refuse_without_tools("online", ("bentoml", "duckdb", "uvloop"))
    effort = QUICK if quick else FULL
    chosen = parts.split(",") if parts else list(PARTS)
    if unknown := sorted(set(chosen) - set(PARTS)):
        raise ValueError(f"bench online: found parts {unknown}, expected some of {PARTS}")
    with tempfile.TemporaryDirectory(prefix="fbt-online-") as scratch:
        folder = Path(scratch)
        run = {
            "rates": partial(compare_sinks, folder, effort),
            "tail": partial(compare_tails, folder, work, effort),
            "log": partial(compare_logs, folder, work, effort),
            "kills": partial(kill_sinks, folder, effort),
            "estimators": partial(judge_estimators, folder, effort),
            "report": partial(report_large, folder, effort),
        }
        return gather([run[name] for name in chosen])


def gather(parts: list[Callable[[], tuple[Figures, Rows]]]) -> tuple[Figures, Rows]:
    figures: Figures = {}
    rows: Rows = []
    for part in parts:
        try:
            found, more = part()
        except (RuntimeError, OSError) as error:
            # The others' hours are not lost.
            log_progress(f"left out: {error}")
            rows.append({"part": "left out", "reason": str(error)})
            continue
        log_progress(", ".join(f"{name} {value:.3f}" for name, value in found.items()))
        figures, rows = figures | found, rows + more
    return figures, rows


def compare_sinks(folder: Path, effort: Effort) -> tuple[Figures, Rows]:
    """events_per_s_sqlite, events_per_s_postgres, events_per_s_kafka."""
    return gather([partial(measure_sink, folder, effort, name) for name in stores.NAMES])


def measure_sink(folder: Path, effort: Effort, name: str) -> tuple[Figures, Rows]:
    log_progress(f"events into {name}")
    place = folder / f"rates-{name}"
    place.mkdir()
    return rates.measure_rate(place, name, effort.rounds, effort.seconds)


def kill_sinks(folder: Path, effort: Effort) -> tuple[Figures, Rows]:
    """events_lost: accepted events that are not stored, or not once, in all sinks."""
    found, rows = gather([partial(kill_sink, folder, effort, name) for name in stores.NAMES])
    return {**found, "events_lost": sum(found.values())} if found else {}, rows


def kill_sink(folder: Path, effort: Effort, name: str) -> tuple[Figures, Rows]:
    log_progress(f"{effort.kills} kills under load, {name}")
    place = folder / f"kills-{name}"
    place.mkdir()
    with open_store(name, place) as store:
        full_s = effort.full_s if name == "sqlite" else 0
        found = count_lost(place / "run", store, effort.kills, full_s)
    row = {"part": "kills under load", "sink": name, **found._asdict()}
    return {f"events_lost_{name}": float(found.lost + found.doubled)}, [row]


def compare_tails(folder: Path, work: Path | None, effort: Effort) -> tuple[Figures, Rows]:
    """recommend_p99_under_ingest."""
    log_progress("recommendations beside events")
    shop, place = _make_shop(folder, work, effort), folder / "tail"
    place.mkdir()
    seconds = 3 * effort.seconds
    return rates.measure_tail(place, shop.bundle, shop.singles, effort.rounds, seconds)


def compare_logs(folder: Path, work: Path | None, effort: Effort) -> tuple[Figures, Rows]:
    """recommendation_log_rps_cost."""
    log_progress("cost of the recommendation log")
    shop, place = _make_shop(folder, work, effort), folder / "log"
    place.mkdir()
    return rates.measure_log_cost(place, shop.bundle, shop.singles, effort.rounds, effort.seconds)


def _make_shop(folder: Path, work: Path | None, effort: Effort) -> Shop:
    """With sessions in its questions."""
    shop = make_shop(work or folder, effort.products)
    questions = [json.loads(body) for body in read_questions(shop.singles)]
    with_sessions = [one | {"session_id": f"s-{n // 3}"} for n, one in enumerate(questions)]
    return Shop(shop.bundle, write_questions(with_sessions, folder / "asked.jsonl"), shop.carts)


def judge_estimators(folder: Path, effort: Effort) -> tuple[Figures, Rows]:
    """interval_coverage, holdout_bias, peeking_false_positive, position_bias_error,
    interleaving_speedup."""
    log_progress("estimators before simulated shoppers")
    world = estimators.make_world(effort.population)
    return gather(
        [
            partial(
                estimators.judge_intervals, world, folder / "experiments", effort.experiments,
                effort.sessions,
            ),
            partial(estimators.judge_peeking, world, effort.aa_tests, 6_000, effort.looks),
            partial(
                estimators.judge_position_bias, world, folder / "swaps", effort.swapped_sessions
            ),
            partial(estimators.judge_interleaving, world, effort.interleaved_sessions),
        ]
    )  # fmt: skip


def report_large(folder: Path, effort: Effort) -> tuple[Figures, Rows]:
    """report_s_10m: seconds for the report of so many rows of events, and its memory."""
    log_progress(f"report of {effort.report_rows:,} rows of events")
    root = folder / "traffic"
    n_rows = estimators.simulate_traffic(
        estimators.make_world(effort.population), effort.report_rows, root
    )
    what, call = _report_call(root, folder / "online.html")
    cost = measure([sys.executable, "-c", call], {"PYTHONPATH": os.pathsep.join(sys.path)})
    row = {
        "part": "report", "what": what, "rows": n_rows, "seconds": cost.wall_s,
        "cpu_s": cost.cpu_s, "peak_gb": cost.peak_gb,
    }  # fmt: skip
    name = f"report_s_{effort.report_rows // 1_000_000}m"
    return {name: cost.wall_s, name.replace("_s_", "_gb_"): cost.peak_gb}, [row]


def _report_call(root: Path, to: Path) -> tuple[str, str]:
    """What is measured, and Python that does it: the page, or the measures alone where there is no
    page yet."""
    if importlib.util.find_spec("pipelines.online") is not None:
        arguments = ["report", "online", "--events", str(root), "--to", str(to)]
        arguments += ["--experiment", str(root / estimators.EXPERIMENT_FILE)]
        return "page", f"from pipelines.cli import main; main({arguments!r})"
    return "measures", (
        "from components.online.events import open_events\n"
        "from components.online.measures import measure\n"
        "from components.online.position_bias import estimate_position_bias\n"
        "from components.online.sessions import build_sessions\n"
        f"with open_events({str(root)!r}) as online:\n"
        "    for by in (['arm'], ['arm', 'day'], ['arm', 'position']): measure(online, by)\n"
        "    build_sessions(online, 'traffic')\n"
        "    estimate_position_bias(online)\n"
    )
