"""Evaluate a bundle on the test split, beside baselines and the champion."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.baskets.corpus import REFIT_SPLITS, Corpus, encode, read_baskets
from components.evaluation.baselines import (
    BasketCounts,
    Cooccurrence,
    Cosine,
    CountsMinusChance,
    Popularity,
    Ranker,
)
from components.evaluation.champion import read_champion
from components.evaluation.cold import evaluate_cold_start
from components.evaluation.excess import compute_shares
from components.evaluation.gate import PAIRED
from components.evaluation.kind_limits import limit_ranker, measure_limits
from components.evaluation.measures import MEASURES, CatalogueFacts, measure
from components.evaluation.metrics import coverage, intervals, popularity_percentile
from components.evaluation.tasks import TASKS, Queries, draw_queries
from components.model.arrays import Float64Array, Int32Array, Int64Array
from components.model.bundle import Bundle, read_bundle
from components.model.recommender import Recommender
from components.progress import log_progress

K = 10
N_EXAMPLES = 50


def evaluate(
    bundle_dir: str | Path,
    baskets_path: str | Path,
    champion_dir: str | Path | None = None,
    seed: int = 0,
    n_baskets: int = 15_000,
) -> dict[str, Any]:
    """Metrics on up to `n_baskets` test baskets, a third of them for carts, which take longer:

        {"k": 10, "split": "test", "n_queries": {"item": 9000, "cart": 5000}, "catalogue": 24581,
         "popularity_discount": {"model": 0..1, "champion": 0..1 or None},
         "tasks": {"item": {RANKER: {METRIC: {"mean", "low", "high"}, "coverage": 0..1,
                                     "popularity_percentile": 0..100}}, "cart": ...},
         "paired": {"item": {OTHER: {"mean", "low", "high"}}, "cart": ...},
         "paired_excess": as paired,
         "ann_recall": 0..1, None if exact, "cold": see `evaluate_cold_start`,
         "kind_limits": see `measure_limits`,
         "examples": [{"product_id", "label", "n_orders", "recommendations":
                       [{"product_id", "label", "score", "support", "lift"}]}]}

    RANKER is model, popularity, cooccurrence, cosine, counts_minus_chance or champion, all with the
    model's limits of kinds; METRIC is one of MEASURES; `paired` is the model's NDCG minus the
    OTHER's, `paired_excess` the same of excess NDCG. Numbers that cannot be computed are None.
    """
    bundle = read_bundle(bundle_dir)
    n_items = bundle.manifest.n_items
    product_ids = bundle.product_ids[:n_items]
    catalogue = pa.array(product_ids, pa.string())
    baskets = read_baskets(baskets_path)
    train, test = encode(baskets, catalogue, *REFIT_SPLITS), encode(baskets, catalogue, "test")
    recommender = Recommender(bundle)
    limits = bundle.manifest.kind_limits
    rankers: dict[str, Ranker] = {"model": recommender}
    for name, baseline in _build_baselines(train, bundle.n_orders).items():
        rankers[name] = limit_ranker(baseline, bundle.kinds, limits)
    if champion := read_champion(champion_dir, product_ids, bundle.kinds, limits):
        rankers["champion"] = champion
    sizes = {"item": n_baskets, "cart": -(-n_baskets // 3)}
    queries = {task: draw_queries(test, task, sizes[task], seed) for task in TASKS}
    facts = CatalogueFacts(compute_shares(test, n_items), get_kinds(bundle))
    results = {task: evaluate_task(task, rankers, queries[task], facts, seed) for task in TASKS}
    cold = evaluate_cold_start(recommender, test, seed)
    return {
        "k": K,
        "split": "test",
        "n_queries": {task: len(queries[task]) for task in TASKS},
        "catalogue": n_items,
        "popularity_discount": {
            "model": bundle.manifest.popularity_discount,
            "champion": champion.popularity_discount if champion else None,
        },
        "tasks": {task: _replace_nonfinite(metrics) for task, (metrics, _) in results.items()},
        **{
            name: {task: _replace_nonfinite(paired[name]) for task, (_, paired) in results.items()}
            for name in PAIRED.values()
        },
        "ann_recall": bundle.manifest.search_recall,
        "cold": _replace_nonfinite(cold),
        "kind_limits": measure_limits(recommender, queries["item"], facts, K),
        "examples": pick_examples(recommender),
    }


def evaluate_task(
    task: str, rankers: Mapping[str, Ranker], queries: Queries, facts: CatalogueFacts, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries of `tasks`, and those of PAIRED by name, for one task; see `evaluate`."""
    values: dict[tuple[str, str], Float64Array] = {}
    metrics: dict[str, dict[str, Any]] = {}
    for name, ranker in rankers.items():
        start = time.monotonic()
        found, _ = ranker.rank(queries.asked, K)
        scores = measure(found, queries, facts)
        values |= {(name, metric): value for metric, value in scores.items()}
        for metric, paired in PAIRED.items():
            values[name, paired] = values["model", metric] - scores[metric]
        metrics[name] = {
            "coverage": coverage(found, facts.n_items),
            "popularity_percentile": popularity_percentile(found, facts.n_items),
        }
        ndcg = scores["ndcg"].mean() if len(queries) else math.nan
        seconds = time.monotonic() - start
        log_progress(f"{task} task, {name}: NDCG@{K} {ndcg:.4f}, {seconds:.1f} s")
    bounds = intervals(values, queries.basket, seed)
    for name in rankers:
        metrics[name] |= {metric: bounds[name, metric] for metric in MEASURES}
    others = [name for name in rankers if name != "model"]
    tested = PAIRED.values()
    return metrics, {paired: {name: bounds[name, paired] for name in others} for paired in tested}


def pick_examples(recommender: Recommender, n: int = N_EXAMPLES) -> list[dict[str, Any]]:
    """Recommendations for products at geometrically spaced popularity ranks."""
    bundle = recommender.bundle
    n_items = bundle.manifest.n_items
    n = min(n, n_items)
    # Rounding makes the first ranks equal; each keeps a row of its own.
    rows = np.maximum(np.geomspace(1, n_items, n).round() - 1, np.arange(n)).astype(np.int32)
    ids, labels = bundle.product_ids, _list_labels(bundle)
    found, scores = recommender.rank([np.array([row], np.int32) for row in rows], K)
    return [
        {
            "product_id": ids[row],
            "label": labels[row],
            "n_orders": int(bundle.n_orders[row]),
            "recommendations": [
                {"product_id": ids[other], "label": labels[other], "score": float(value)}
                | _find_pair(bundle, int(row), int(other))
                for other, value in zip(found[i], scores[i], strict=True)
                if other >= 0
            ],
        }
        for i, row in enumerate(rows)
    ]


def _build_baselines(train: Corpus, n_orders: Int64Array) -> dict[str, Ranker]:
    counts = BasketCounts(train, len(n_orders))
    return {
        "popularity": Popularity(n_orders),
        "cooccurrence": Cooccurrence(counts),
        "cosine": Cosine(counts),
        "counts_minus_chance": CountsMinusChance(train, len(n_orders)),
    }


def get_kinds(bundle: Bundle) -> Int32Array | None:
    return None if bundle.kinds is None else bundle.kinds.codes[: bundle.manifest.n_items]


def _list_labels(bundle: Bundle) -> list[str]:
    columns = (bundle.products[name].to_pylist() for name in ("name", "category", "product_id"))
    return [name or category or id_ for name, category, id_ in zip(*columns, strict=True)]


def _find_pair(bundle: Bundle, row: int, other: int) -> dict[str, int | float | None]:
    pairs = bundle.pairs.entries(row)
    place = np.flatnonzero(bundle.pairs.rows[pairs] == other)
    if not len(place):
        return {"support": None, "lift": None}
    support = int(bundle.pairs.support[pairs][place[0]])
    expected = bundle.n_orders[row] * bundle.n_orders[other] / bundle.manifest.n_orders
    return {"support": support, "lift": float(support / expected)}


def _replace_nonfinite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _replace_nonfinite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
