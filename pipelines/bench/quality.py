"""`fbt bench quality`: compares fbt and its peers on a shop's orders, under one protocol.

Lines are cleaned, and baskets built and split by time as in a run; the catalogue is every product
with five training orders. Every method is trained on the training split, tuned on the validation
split for each task with the same budget, fitted again to both, and tested once. All products are
ranked. Peers are tuned twice on the same models, by NDCG and by excess NDCG.

TIFU-KNN (Hu et al. 2020) is no peer: it predicts what a known shopper buys next from all of that
shopper's baskets, whatever is on the page or in the cart. The queries here name no shopper, and
fbt is told none.
"""

import importlib.util
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.baskets.build import BasketSettings, build_baskets
from components.baskets.corpus import (
    REFIT_SPLITS,
    Corpus,
    build_catalogue,
    encode,
    read_baskets,
    sort_catalogue,
)
from components.evaluation.evaluate import get_kinds
from components.evaluation.excess import compute_shares
from components.evaluation.measures import MEASURES, CatalogueFacts, measure
from components.evaluation.metrics import coverage, intervals
from components.evaluation.tasks import TASKS, Queries, draw_queries
from components.evaluation.visible_quality import VISIBLE_MEASURES
from components.model.arrays import Float64Array, Int64Array
from components.model.bundle import Bundle, read_bundle
from components.model.kinds import LIMITED_DEPTH
from components.orders.clean import OrderSettings, clean_orders
from components.progress import log_progress
from components.results import write_json
from pipelines.bench.ablation import (
    BUNDLE_FOLDER,
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
from pipelines.bench.peers.peer import CART, ITEM, Peer, Setting, TrainingData
from pipelines.bench.peers.tuning import EXCESS, NDCG, K, Tuned, tune
from pipelines.bench.processes import cpu_seconds
from pipelines.tables import table

MIN_ORDERS = 5
MAX_BASKETS = {"validation": 6_000, "test": 15_000}
"""For carts a third."""
ROUNDS = 3
"""Of interleaved trainings, to compare CPU seconds."""
SEED = 0

NAME_ENDINGS = {NDCG: "", EXCESS: " (by excess)"}
"""Of a peer's rows, by what it is tuned by."""

FIGURE_NAMES = {ITEM: "task_a", CART: "task_b"}
DIFFERENCES = {"diff": "ndcg", "excess_diff": "excess"}
"""Measures of which fbt's differences from the others are tested."""

COVERAGE_OF = {
    "coverage_vs_cooccurrence": "co-occurrence",
    "coverage_vs_tuned_cooccurrence": "co-occurrence, tuned",
}
"""fbt's coverage relative to these peers."""


@dataclass(frozen=True)
class EvaluationData:
    train: TrainingData
    refit: TrainingData
    """With validation baskets, for the final fit."""
    validation: Mapping[str, Queries]
    test: Mapping[str, Queries]
    validation_shares: Float64Array
    """(n_items,): see `compute_shares`."""
    facts: CatalogueFacts
    """Of the test split; kinds are found with fbt's own model."""


@dataclass(frozen=True)
class MethodResult:
    method: str
    is_own: bool
    found: Int64Array
    """(n_queries, depth), deep enough for limits of kinds."""
    train_cpu_s: float
    n_bytes: int
    details: Mapping[str, Any]


Figures = dict[str, float]
Rows = list[dict[str, Any]]


def bench(
    orders: str, products: str = "", columns: str = "", chart: Path | None = None
) -> tuple[Figures, Rows]:
    """Raises ValueError if data or set-up allow no comparison."""
    from threadpoolctl import threadpool_limits

    from pipelines.bench.quality_chart import check_format, draw

    _require_peers()
    if chart:
        check_format(chart)
    with tempfile.TemporaryDirectory(prefix="fbt-quality-") as folder, threadpool_limits(1):
        inputs = prepare(orders, products, columns, Path(folder))
        figures, rows = compare(inputs, list_peers())
    if chart:
        draw(rows, chart)
    return figures, rows


def prepare(orders: str, products: str, columns: str, folder: Path) -> Inputs:
    lines, product_table = folder / "order_lines", folder / "products"
    settings = OrderSettings(columns=columns)
    clean_orders(orders, products, settings, lines, folder / "quarantine", product_table)
    baskets, counts, trained = folder / "baskets", folder / "counts.json", folder / "fbt"
    write_json(build_baskets(lines, baskets, BasketSettings()), counts)
    trained.mkdir()
    return Inputs(baskets, product_table, counts, trained, MIN_ORDERS, seed=SEED)


def compare(inputs: Inputs, peers: Sequence[Peer]) -> tuple[Figures, Rows]:
    data = read_evaluation_data(inputs.baskets)
    of_peers = [run_peer(peer, data) for peer in peers]
    figures, results = run_own_model(inputs, data)
    bundle = read_bundle(inputs.folder / BUNDLE_FOLDER, products=False)
    facts = replace(data.facts, kinds=get_kinds(bundle))
    rows: Rows = []
    for task, queries in data.test.items():
        of_task = results[task] + [row for one in of_peers for row in one.get(task, [])]
        unlimited = compute_rows(task, [_cut(one) for one in of_task], queries, facts)
        limited = [_limit(one, queries, bundle) for one in of_task]
        rows_of_task = compute_rows(task, limited, queries, facts)
        rows += rows_of_task
        of_unlimited = compute_figures(task, unlimited)
        figures |= {f"{name}_unlimited": figure for name, figure in of_unlimited.items()}
        figures |= compute_figures(task, rows_of_task)
    return figures, rows


def _cut(one: MethodResult) -> MethodResult:
    return replace(one, found=one.found[:, :K])


def _limit(one: MethodResult, queries: Queries, bundle: Bundle) -> MethodResult:
    """Under fbt's limits of kinds, if there are kinds: every method by the same."""
    if bundle.kinds is None:
        return _cut(one)
    ranked = one.found, np.zeros(one.found.shape, np.float32)
    found, _ = bundle.kinds.limit(ranked, queries.asked, bundle.manifest.kind_limits, K)
    return replace(one, found=found)


def read_evaluation_data(baskets_path: Path) -> EvaluationData:
    """Raises ValueError if there is nothing to compare."""
    baskets = read_baskets(baskets_path)
    product_ids, n_orders = build_catalogue(baskets, MIN_ORDERS)
    if len(n_orders) <= K:
        raise ValueError(
            f"bench quality: {len(n_orders)} products have at least {MIN_ORDERS} training orders; "
            f"expected more than {K}, the number of recommendations; bring more orders"
        )
    product_ids, n_orders = sort_catalogue(baskets, product_ids, *REFIT_SPLITS)
    splits = {split: encode(baskets, product_ids, split) for split in MAX_BASKETS}
    validation, test = (_draw(one, split, len(n_orders)) for split, one in splits.items())
    shares = {split: compute_shares(one, len(n_orders)) for split, one in splits.items()}
    facts = CatalogueFacts(shares["test"])
    corpus = encode(baskets, product_ids, "train")
    train = TrainingData(corpus, np.bincount(corpus.items, minlength=len(n_orders)), SEED)
    refit = TrainingData(encode(baskets, product_ids, *REFIT_SPLITS), n_orders, SEED)
    for task in [task for task in TASKS if not len(test[task])]:
        size = TASKS[task]
        print_note(f"{task} is left out: no test basket has {size} products of the catalogue")
        del validation[task], test[task]
    n_queries = ", ".join(f"{len(queries)} {task}" for task, queries in test.items())
    log_progress(f"{train.n_items} products, {len(corpus)} training baskets")
    log_progress(f"test queries: {n_queries}")
    return EvaluationData(train, refit, validation, test, shares["validation"], facts)


def _draw(corpus: Corpus, split: str, n_items: int) -> dict[str, Queries]:
    sizes = {ITEM: MAX_BASKETS[split], CART: -(-MAX_BASKETS[split] // 3)}
    queries = {task: draw_queries(corpus, task, sizes[task], SEED) for task in TASKS}
    if not len(queries[ITEM]):
        raise ValueError(
            f"bench quality: none of the {len(corpus)} {split} baskets has two of the {n_items} "
            f"products with at least {MIN_ORDERS} training orders, expected some to make queries "
            "of; bring more orders"
        )
    return queries


def run_peer(peer: Peer, data: EvaluationData) -> dict[str, list[MethodResult]]:
    """Tune the peer, fit it again, and rank the test queries; results by task."""
    if reason := peer.unavailable_reason(data.train):
        print_note(f"{peer.name} is left out: {reason}")
        return {}
    start = time.monotonic()
    tuned = tune(peer, data.train, data.validation, data.validation_shares)
    if not tuned:
        print_note(f"{peer.name} is left out: all settings failed, see above")
        return {}
    results = _refit_and_rank(peer, data, list(_list_results(tuned)))
    ndcg = ", ".join(f"{task} {by[NDCG].scores[NDCG]:.4f}" for task, by in tuned.items())
    seconds = time.monotonic() - start
    log_progress(f"{peer.name}: NDCG@{K} on validation baskets {ndcg}; {seconds:.0f} s")
    return results


def _list_results(tuned: Mapping[str, Mapping[str, Tuned]]) -> Iterator[tuple[str, str, Tuned]]:
    """Task, measure and choice; what both measures choose is listed once, by NDCG."""
    for task, by_measure in tuned.items():
        by_ndcg, by_excess = by_measure[NDCG], by_measure[EXCESS]
        yield task, NDCG, by_ndcg
        if (by_ndcg.setting, by_ndcg.mode) != (by_excess.setting, by_excess.mode):
            yield task, EXCESS, by_excess


def _refit_and_rank(
    peer: Peer, data: EvaluationData, chosen: Sequence[tuple[str, str, Tuned]]
) -> dict[str, list[MethodResult]]:
    """Fits every distinct setting once, and holds one model at a time."""
    results: dict[str, list[MethodResult]] = {task: [] for task, *_ in chosen}
    for setting in _list_distinct([one.setting for *_, one in chosen]):
        before = cpu_seconds()
        model = peer.fit(data.refit, setting)
        train_cpu_s = cpu_seconds() - before
        for task, by, tuned in (one for one in chosen if one[2].setting == setting):
            found, _ = model.ranker(tuned.mode).rank(data.test[task].asked, LIMITED_DEPTH)
            name = peer.name + NAME_ENDINGS[by]
            details = _describe(by, tuned)
            one = MethodResult(name, False, found, train_cpu_s, model.n_bytes, details)
            results[task].append(one)
    return results


def _list_distinct(settings: Sequence[Setting]) -> list[Setting]:
    return [one for place, one in enumerate(settings) if one not in settings[:place]]


def _describe(tuned_by: str, tuned: Tuned) -> dict[str, Any]:
    return {
        "tuned_by": tuned_by, "validation_ndcg": tuned.scores[NDCG],
        "validation_excess": tuned.scores[EXCESS], "setting": dict(tuned.setting),
        "ask": dict(tuned.mode), "n_tried": tuned.n_tried, "tuning_cpu_s": tuned.tuning_cpu_s,
    }  # fmt: skip


def run_own_model(
    inputs: Inputs, data: EvaluationData
) -> tuple[Figures, dict[str, list[MethodResult]]]:
    """Train fbt and ALS by turns; figures, and results by task."""
    log_progress("fbt: training")
    first = train_vectors(inputs)
    rounds, als = [], []
    for _ in range(ROUNDS):
        rounds.append(train_rest(inputs))
        start = time.process_time()
        fit_als(data.refit, ALS_DEFAULTS)
        als.append(time.process_time() - start)
    rest = {part: statistics.median(one[part] for one in rounds) for part in rounds[0]}
    ablation = build_ablation(inputs, first["vectors"], rest)
    totals = [sum(one[part] for part in LEARNED_PARTS) for one in rounds]
    figures = {
        "train_cpu_vs_als": statistics.median(totals) / statistics.median(als),
        "als_cpu_s": statistics.median(als),
        "item2vec_cpu_s": first["vectors"],
        "tricks_cpu_s": first["weighting"],
        **{f"{name.replace('-', '_')}_cpu_s": seconds for name, seconds in rest.items()},
        "ann_recall": ablation.ann_recall,
    }
    results = {task: _rank(ablation.parts, queries.asked) for task, queries in data.test.items()}
    return figures, results


def _rank(parts: Mapping[str, Part], queries: Sequence[Any]) -> list[MethodResult]:
    # The whole model has two names and ranks once.
    rankers = {id(part.ranker): part.ranker for part in parts.values()}
    found = {key: ranker.rank(queries, LIMITED_DEPTH)[0] for key, ranker in rankers.items()}
    return [
        MethodResult(name, True, found[id(part.ranker)], part.train_cpu_s, part.n_bytes, {})
        for name, part in parts.items()
    ]


def compute_rows(
    task: str,
    results: list[MethodResult],
    queries: Queries,
    facts: CatalogueFacts,
    seed: int = SEED,
) -> Rows:
    """Best NDCG first, 95 % intervals over baskets; differences, fbt minus others, are paired."""
    scores = {one.method: measure(one.found, queries, facts) for one in results}
    values = {f"{name} {metric}": scores[name][metric] for name in scores for metric in MEASURES}
    for name in scores.keys() - {WHOLE}:
        for prefix, metric in DIFFERENCES.items():
            values[f"{prefix} {name}"] = scores[WHOLE][metric] - scores[name][metric]
    bounds = intervals(values, queries.basket, seed)
    rows = [_row(task, one, bounds, coverage(one.found, facts.n_items)) for one in results]
    return sorted(rows, key=lambda row: -row["ndcg"])


def _row(
    task: str, one: MethodResult, bounds: Mapping[str, Mapping[str, float]], covered: float
) -> dict[str, Any]:
    measured = {name: bounds[f"{one.method} {name}"] for name in MEASURES}
    row: dict[str, Any] = {"task": task, "method": one.method, "ours": one.is_own}
    for name in DIFFERENCES.values():
        row |= {f"{name}_low": measured[name]["low"], f"{name}_high": measured[name]["high"]}
    # Kinds are unknown without categories; JSON has no NaN.
    means = {name: found["mean"] for name, found in measured.items()}
    row |= {name: mean if math.isfinite(mean) else None for name, mean in means.items()}
    row |= {"coverage": covered, "train_cpu_s": one.train_cpu_s, "bytes": one.n_bytes}
    for prefix in DIFFERENCES:
        diff: Mapping[str, float] = bounds.get(f"{prefix} {one.method}", {})
        row |= {prefix: diff.get("mean")}
        row |= {f"{prefix}_{bound}": diff.get(bound) for bound in ("low", "high")}
    return row | dict(one.details)


def compute_figures(task: str, rows: Rows) -> Figures:
    """Relative to the best peer on the test split, by NDCG and by excess NDCG."""
    by_name = {row["method"]: row for row in rows}
    own, peers = by_name[WHOLE], [row for row in rows if not row["ours"]]
    name, figures = FIGURE_NAMES[task], {}
    for prefix, metric in DIFFERENCES.items():
        best = max(peers, key=lambda row: row[metric])
        infix = prefix.removesuffix("diff")
        figures[f"{name}_{infix}vs_best_peer"] = own[metric] / max(best[metric], 1e-12)
        figures[f"{name}_{prefix}_low"] = best[f"{prefix}_low"]
    if task == ITEM:
        for figure, peer in COVERAGE_OF.items():
            if peer in by_name:
                figures[figure] = own["coverage"] / by_name[peer]["coverage"]
        shown = {f"task_a_{one}": own[one] for one in VISIBLE_MEASURES if own[one] is not None}
        figures |= shown
    return figures


def format_rows(rows: Rows) -> str:
    titles = {
        ITEM: "Item pages: one product of a basket is given, the others are to be found",
        CART: "Carts: all products of a basket but one are given, that one is to be found",
    }
    head = (
        "method", f"NDCG@{K}", "95 %", "fbt ahead by", "95 %", "excess",
        "fbt ahead by", "bestsellers", "own kind", "kinds", "HR", "recall", "MRR", "coverage",
        "train CPU s", "MB",
    )  # fmt: skip
    parts = []
    for task in dict.fromkeys(row["task"] for row in rows):
        lines = [_format_row(row) for row in rows if row["task"] == task]
        parts.append(f"{titles[task]}\n{table(head, lines)}")
    return "\n\n".join(parts)


def _format_row(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{'*' if row['ours'] else ' '} {row['method']}",
        f"{row['ndcg']:.4f}", f"{row['ndcg_low']:.4f} … {row['ndcg_high']:.4f}",
        _format(row["diff"], "+.4f"),
        "" if row["diff"] is None else f"{row['diff_low']:+.4f} … {row['diff_high']:+.4f}",
        f"{row['excess']:.4f}", _format(row["excess_diff"], "+.4f"),
        _format(row["bestsellers_at_5"], ".0%"), _format(row["own_kind_at_5"], ".0%"),
        _format(row["kinds_at_5"], ".1f"),
        *(f"{row[name]:.4f}" for name in ("hr", "recall", "mrr")),
        f"{row['coverage']:.1%}", f"{row['train_cpu_s']:.1f}", f"{row['bytes'] / 1e6:.1f}",
    ]  # fmt: skip


def _format(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def print_note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _require_peers() -> None:
    needed = ("implicit", "gensim", "pyspark", "scipy", "matplotlib")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"bench quality: {', '.join(missing)} cannot be imported; install them: "
            "pip install 'fbt[steps,spark,peers]'"
        )
