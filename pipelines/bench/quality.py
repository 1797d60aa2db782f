"""`fbt bench quality`: compares fbt and its peers on a shop's orders, under one protocol.

Lines are cleaned, and baskets built and split by time as in a run; the catalogue is every product
with five training orders. Every method is trained on the training split, tuned on the validation
split for each task with the same budget, fitted again to both, and tested once. All products are
ranked.
"""

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.baskets.build import BasketSettings, build_baskets
from components.baskets.corpus import (
    REFIT_SPLITS,
    build_catalogue,
    encode,
    read_baskets,
    sort_catalogue,
)
from components.evaluation.metrics import METRICS, coverage, intervals, score
from components.evaluation.tasks import TASKS, Queries, draw_queries
from components.model.arrays import Int64Array
from components.orders.clean import OrderSettings, clean_orders
from components.progress import log_progress
from components.results import write_json
from pipelines.bench.ablation import (
    LEARNED_PARTS,
    WHOLE,
    Inputs,
    Part,
    build_ablation,
    train_rest,
    train_vectors,
)
from pipelines.bench.peers.all_peers import list_peers
from pipelines.bench.peers.implicit_models import ALS_DEFAULTS, fit_als
from pipelines.bench.peers.peer import Model, Peer, Setting, TrainingData
from pipelines.bench.peers.tuning import K, tune
from pipelines.bench.processes import cpu_seconds
from pipelines.tables import table

MIN_ORDERS = 5
TEST_BASKETS = 15_000
VALIDATION_BASKETS = 6_000
"""Baskets at most; for carts a third, as in a run."""
ROUNDS = 3
"""Interleaved trainings of ALS and fbt whose CPU seconds are compared."""
SEED = 0

COVERAGE_OF = {
    "coverage_vs_cooccurrence": "co-occurrence",
    "coverage_vs_tuned_cooccurrence": "co-occurrence, tuned",
}
"""Figures of fbt's coverage, relative to these peers."""


@dataclass(frozen=True)
class EvaluationData:
    data: TrainingData
    newest: TrainingData
    """With validation baskets, for the final fit."""
    validation: Mapping[str, Queries]
    test: Mapping[str, Queries]


@dataclass(frozen=True)
class MethodResult:
    method: str
    ours: bool
    found: Int64Array
    train_cpu_s: float
    n_bytes: int
    facts: Mapping[str, Any]
    """More columns of the row: the chosen settings."""


def bench(
    orders: str, products: str = "", columns: str = "", chart: Path | None = None
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Raises ValueError if data or set-up allow no comparison."""
    from threadpoolctl import threadpool_limits

    from pipelines.bench.quality_chart import check_format, draw

    _refuse_without_peers()
    if chart:
        check_format(chart)
    with tempfile.TemporaryDirectory(prefix="fbt-quality-") as folder, threadpool_limits(1):
        inputs = prepare(orders, products, columns, Path(folder))
        figures, rows = compare(inputs, list_peers())
    if chart:
        draw(rows, chart)
    return figures, rows


def prepare(orders: str, products: str, columns: str, folder: Path) -> Inputs:
    """The first steps of a run."""
    lines, cards = folder / "order_lines", folder / "products"
    settings = OrderSettings(columns=columns)
    clean_orders(orders, products, settings, lines, folder / "quarantine", cards)
    counts = build_baskets(lines, folder / "baskets", BasketSettings())
    write_json(counts, folder / "counts.json")
    trained = folder / "ours"
    trained.mkdir()
    return Inputs(folder / "baskets", cards, folder / "counts.json", trained, MIN_ORDERS, seed=SEED)


def compare(inputs: Inputs, peers: Sequence[Peer]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    asked = ask(inputs.baskets)
    answers: dict[str, list[MethodResult]] = {task: [] for task in asked.test}
    for peer in peers:
        for task, answer in run_peer(peer, asked).items():
            answers[task].append(answer)
    figures, of_ours = run_own_model(inputs, asked)
    for task, mine in of_ours.items():
        answers[task] = [*mine, *answers[task]]
    rows: list[dict[str, Any]] = []
    for task, given in answers.items():
        judged = judge(task, given, asked.test[task], asked.data.n_items)
        rows += judged
        figures |= compute_figures(task, judged)
    return figures, rows


def ask(baskets_path: Path) -> EvaluationData:
    """Raises ValueError if there is nothing to compare."""
    baskets = read_baskets(baskets_path)
    product_ids, n_orders = build_catalogue(baskets, MIN_ORDERS)
    if len(n_orders) <= K:
        raise ValueError(
            f"bench quality: {len(n_orders)} products have at least {MIN_ORDERS} training orders; "
            f"expected more than {K}, the number of recommendations; bring more orders"
        )
    product_ids, newest = sort_catalogue(baskets, product_ids, *REFIT_SPLITS)
    corpora = {split: encode(baskets, product_ids, split) for split in ("validation", "test")}
    drawn: dict[str, dict[str, Queries]] = {}
    for split, most in (("validation", VALIDATION_BASKETS), ("test", TEST_BASKETS)):
        sizes = {"a": most, "b": -(-most // 3)}
        drawn[split] = {
            task: draw_queries(corpora[split], task, sizes[task], SEED) for task in TASKS
        }
        if not len(drawn[split]["a"]):
            raise ValueError(
                f"bench quality: none of the {len(corpora[split])} {split} baskets holds two of "
                f"the {len(n_orders)} products with at least {MIN_ORDERS} training orders, so "
                "that nothing can be asked; bring more orders"
            )
    train = encode(baskets, product_ids, "train")
    data = TrainingData(train, np.bincount(train.items, minlength=len(newest)), SEED)
    learned = TrainingData(encode(baskets, product_ids, *REFIT_SPLITS), newest, SEED)
    with_queries = [task for task in TASKS if len(drawn["test"][task])]
    for task in sorted(TASKS.keys() - with_queries):
        print_note(
            f"task {task}: no test basket holds {TASKS[task]} products of the catalogue; left out"
        )
    asked = EvaluationData(
        data, learned, *({task: drawn[split][task] for task in with_queries} for split in drawn)
    )
    n_asked = ", ".join(f"{len(queries)} of task {task}" for task, queries in asked.test.items())
    log_progress(
        f"{data.n_items} products, {len(data.train)} training baskets; test queries: {n_asked}"
    )
    return asked


def run_peer(peer: Peer, asked: EvaluationData) -> dict[str, MethodResult]:
    """Tune the peer, fit it to the newest data, and rank the test queries, by task.

    Empty if the peer cannot be trained.
    """
    if reason := peer.unavailable_reason(asked.data):
        print_note(f"{peer.name} is left out: {reason}")
        return {}
    start = time.monotonic()
    answers = {}
    fitted: list[tuple[Setting, Model, float]] = []
    for task, tuned in tune(peer, asked.data, asked.validation).items():
        if not any(setting == tuned.setting for setting, *_ in fitted):
            before = cpu_seconds()
            model = peer.fit(asked.newest, tuned.setting)
            fitted.append((tuned.setting, model, cpu_seconds() - before))
        _, model, train_cpu_s = next(one for one in fitted if one[0] == tuned.setting)
        found, _ = model.ranker(tuned.ask).rank(asked.test[task].asked, K)
        facts = {
            "validation_ndcg": tuned.ndcg, "setting": dict(tuned.setting), "ask": dict(tuned.ask),
            "n_tried": tuned.n_tried, "tuning_cpu_s": tuned.tuning_cpu_s,
        }  # fmt: skip
        answers[task] = MethodResult(peer.name, False, found, train_cpu_s, model.n_bytes, facts)
    if not answers:
        print_note(f"{peer.name} is left out: every setting failed; the lines above say why")
        return {}
    validated = ", ".join(
        f"{task} {one.facts['validation_ndcg']:.4f}" for task, one in answers.items()
    )
    seconds = time.monotonic() - start
    log_progress(f"{peer.name}: NDCG@{K} on validation baskets {validated}; {seconds:.0f} s")
    return answers


def run_own_model(
    inputs: Inputs, asked: EvaluationData
) -> tuple[dict[str, float], dict[str, list[MethodResult]]]:
    """Train fbt and ALS by turns; figures of cost and recall, and the results by task."""
    log_progress("fbt: training")
    begun = train_vectors(inputs)
    rounds, als = [], []
    for _ in range(ROUNDS):
        rounds.append(train_rest(inputs))
        start = time.process_time()
        fit_als(asked.newest, ALS_DEFAULTS)
        als.append(time.process_time() - start)
    rest = {part: statistics.median(one[part] for one in rounds) for part in rounds[0]}
    ours = build_ablation(inputs, begun["vectors"], rest)
    totals = [sum(one[part] for part in LEARNED_PARTS) for one in rounds]
    figures = {
        "train_cpu_vs_als": statistics.median(totals) / statistics.median(als),
        "als_cpu_s": statistics.median(als),
        "item2vec_cpu_s": begun["vectors"],
        "tricks_cpu_s": begun["tricks"],
        **{f"{name.replace('-', '_')}_cpu_s": seconds for name, seconds in rest.items()},
        "ann_recall": ours.ann_recall,
    }
    answers = {
        task: _rank_with_parts(ours.parts, queries.asked) for task, queries in asked.test.items()
    }
    return figures, answers


def _rank_with_parts(parts: Mapping[str, Part], asked: Sequence[Any]) -> list[MethodResult]:
    # The whole model has two names and ranks once.
    found: dict[int, Int64Array] = {}
    for part in parts.values():
        if id(part.ranker) not in found:
            found[id(part.ranker)] = part.ranker.rank(asked, K)[0]
    return [
        MethodResult(name, True, found[id(part.ranker)], part.train_cpu_s, part.n_bytes, {})
        for name, part in parts.items()
    ]


def judge(
    task: str, answers: list[MethodResult], queries: Queries, n_items: int, seed: int = SEED
) -> list[dict[str, Any]]:
    """A row per method, best NDCG first, with 95 % intervals over baskets.

    `diff` is fbt minus the method, paired; None for fbt itself.
    """
    scores = {one.method: score(one.found, queries.relevant, n_items) for one in answers}
    values = {f"{name} {metric}": scores[name][metric] for name in scores for metric in METRICS}
    for name in scores.keys() - {WHOLE}:
        values[f"diff {name}"] = scores[WHOLE]["ndcg"] - scores[name]["ndcg"]
    bounds = intervals(values, queries.basket, seed)
    rows = [_row(task, one, bounds, coverage(one.found, n_items)) for one in answers]
    return sorted(rows, key=lambda row: -row["ndcg"])


def compute_figures(task: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    """fbt relative to the peer that is best on the test split."""
    by_name = {row["method"]: row for row in rows}
    best = next(row for row in rows if not row["ours"])
    figures = {
        f"task_{task}_vs_best_peer": by_name[WHOLE]["ndcg"] / max(best["ndcg"], 1e-12),
        f"task_{task}_diff_low": best["diff_low"],
    }
    if task == "a":
        for figure, name in COVERAGE_OF.items():
            if name in by_name:
                figures[figure] = by_name[WHOLE]["coverage"] / by_name[name]["coverage"]
    return figures


def format_rows(rows: list[dict[str, Any]]) -> str:
    titles = {"a": "Task A: one product asked, the rest of its basket expected",
              "b": "Task B: a cart asked, the product taken out of it expected"}  # fmt: skip
    head = ("method", f"NDCG@{K}", "95 %", "fbt ahead by", "95 %", "HR", "recall", "MRR",
            "coverage", "train CPU s", "MB")  # fmt: skip
    parts = []
    for task in dict.fromkeys(row["task"] for row in rows):
        lines = [_line(row) for row in rows if row["task"] == task]
        parts.append(f"{titles[task]}\n{table(head, lines)}")
    return "\n\n".join(parts)


def print_note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _row(
    task: str, one: MethodResult, bounds: Mapping[str, Mapping[str, float]], format_rows: float
) -> dict[str, Any]:
    ndcg = bounds[f"{one.method} ndcg"]
    diff: Mapping[str, float | None] = bounds.get(
        f"diff {one.method}", dict.fromkeys(("mean", "low", "high"))
    )
    return {
        "task": task, "method": one.method, "ours": one.ours,
        "ndcg": ndcg["mean"], "ndcg_low": ndcg["low"], "ndcg_high": ndcg["high"],
        **{name: bounds[f"{one.method} {name}"]["mean"] for name in METRICS if name != "ndcg"},
        "coverage": format_rows, "train_cpu_s": one.train_cpu_s, "bytes": one.n_bytes,
        "diff": diff["mean"], "diff_low": diff["low"], "diff_high": diff["high"],
        **one.facts,
    }  # fmt: skip


def _line(row: Mapping[str, Any]) -> list[str]:
    ahead = ["", ""]
    if row["diff"] is not None:
        ahead = [f"{row['diff']:+.4f}", f"{row['diff_low']:+.4f} … {row['diff_high']:+.4f}"]
    return [
        f"{'*' if row['ours'] else ' '} {row['method']}",
        f"{row['ndcg']:.4f}", f"{row['ndcg_low']:.4f} … {row['ndcg_high']:.4f}", *ahead,
        *(f"{row[name]:.4f}" for name in ("hr", "recall", "mrr")),
        f"{row['coverage']:.1%}", f"{row['train_cpu_s']:.1f}", f"{row['bytes'] / 1e6:.1f}",
    ]  # fmt: skip


def _refuse_without_peers() -> None:
    needed = ("implicit", "gensim", "pyspark", "scipy", "matplotlib")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"bench quality: {', '.join(missing)} cannot be imported; install them: "
            "pip install 'fbt[steps,spark,peers]'"
        )
