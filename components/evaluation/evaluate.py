"""Judge a bundle on the test split, next to honest baselines and the champion."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.baskets.corpus import REFIT_SPLITS, Corpus, encode, read_baskets
from components.evaluation.baselines import BasketCounts, Cooccurrence, Cosine, Popularity, Ranker
from components.evaluation.champion import read_champion
from components.evaluation.cold import evaluate_cold_start
from components.evaluation.metrics import coverage, intervals, popularity_percentile, score
from components.evaluation.tasks import TASKS, Queries, draw_queries
from components.model.arrays import Float64Array, Int64Array
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
    """Metrics of the bundle, the baselines and the champion on up to `n_baskets` test baskets.

    Carts are asked by a third as many: every product in them is ranked for, which takes longest.
    The model is ranked by the Recommender that serves it. `champion_dir` is a folder with the
    champion's `bundle/` inside; without one there is no champion. The answer goes to the gate, the
    run's report and the registry as JSON; a number that could not be computed is null:

        {"k": 10, "split": "test", "n_queries": {"a": 9000, "b": 5000}, "catalogue": 24581,
         "tasks": {"a": {RANKER: {METRIC: {"mean", "low", "high"}, "coverage": 0..1,
                                  "popularity_percentile": 0..100}}, "b": ...},
         "paired": {"a": {OTHER: {"mean", "low", "high"}}, "b": ...},
         "ann_recall": 0..1 or null, "cold": see `evaluate_cold_start`,
         "examples": [{"product_id", "label", "n_orders", "recommendations":
                       [{"product_id", "label", "score", "support", "lift"}]}]}

    RANKER is model, popularity, cooccurrence, cosine or (where there is one) champion; METRIC is
    ndcg, hr, recall or mrr. `paired` is the model's NDCG minus the OTHER's; low and high are 95 %
    bounds. `ann_recall` is null where search is exact; support and lift are null for pairs that
    are not among the strongest of the product.
    """
    bundle = read_bundle(bundle_dir)
    n_items = bundle.manifest.n_items
    product_ids = bundle.product_ids[:n_items]
    baskets = read_baskets(baskets_path)
    catalogue = pa.array(product_ids, pa.string())
    recommender = Recommender(bundle)
    rankers = _baselines(encode(baskets, catalogue, *REFIT_SPLITS), bundle.n_orders)
    rankers = {"model": recommender, **rankers}
    if champion := read_champion(champion_dir, product_ids):
        rankers["champion"] = champion
    test = encode(baskets, catalogue, "test")
    sizes = {"a": n_baskets, "b": -(-n_baskets // 3)}
    queries = {task: draw_queries(test, task, sizes[task], seed) for task in TASKS}
    judged = {task: evaluate_task(task, rankers, queries[task], n_items, seed) for task in TASKS}
    return {
        "k": K,
        "split": "test",
        "n_queries": {task: len(queries[task]) for task in TASKS},
        "catalogue": n_items,
        "tasks": {task: tasks for task, (tasks, _) in judged.items()},
        "paired": {task: paired for task, (_, paired) in judged.items()},
        "ann_recall": bundle.manifest.search_recall,
        "cold": _replace_nonfinite(evaluate_cold_start(recommender, test, seed)),
        "examples": pick_examples(recommender),
    }


def evaluate_task(
    task: str, rankers: Mapping[str, Ranker], queries: Queries, n_items: int, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries of `tasks` and `paired` for one task; see `evaluate`."""
    values: dict[str, Float64Array] = {}
    judged: dict[str, dict[str, Any]] = {}
    for name, ranker in rankers.items():
        start = time.monotonic()
        found, _ = ranker.rank(queries.asked, K)
        scores = score(found, queries.relevant, n_items)
        values |= {f"{name} {metric}": value for metric, value in scores.items()}
        values[f"model - {name}"] = values["model ndcg"] - scores["ndcg"]
        judged[name] = {
            "coverage": coverage(found, n_items),
            "popularity_percentile": _finite_or_none(popularity_percentile(found, n_items)),
        }
        ndcg = scores["ndcg"].mean() if len(queries) else math.nan
        seconds = time.monotonic() - start
        log_progress(f"task {task}, {name}: NDCG@{K} {ndcg:.4f}, {seconds:.1f} s")
    bounds = {
        key: {bound: _finite_or_none(value) for bound, value in interval.items()}
        for key, interval in intervals(values, queries.basket, seed).items()
    }
    for key in bounds:
        name, _, metric = key.partition(" ")
        if not metric.startswith("-"):
            judged[name] = {metric: bounds[key], **judged[name]}
    paired = {name: bounds[f"model - {name}"] for name in rankers if name != "model"}
    return judged, paired


def pick_examples(recommender: Recommender, n: int = N_EXAMPLES) -> list[dict[str, Any]]:
    """Up to `n` products, from the bestseller down to the least bought, with what goes with them.

    Ranks are spaced geometrically: people know the head, and the tail is where models go wrong.
    """
    bundle = recommender.bundle
    n_items = bundle.manifest.n_items
    n = min(n, n_items)
    # Rounding makes the first ranks fall together; each keeps a row of its own.
    rows = np.maximum(np.geomspace(1, n_items, n).round() - 1, np.arange(n)).astype(np.int32)
    labels = _labels(bundle)
    found, scores = recommender.rank([np.array([row], np.int32) for row in rows], K)
    ids = bundle.product_ids
    return [
        {
            "product_id": ids[row],
            "label": labels[row],
            "n_orders": int(bundle.n_orders[row]),
            "recommendations": [
                {"product_id": ids[other], "label": labels[other], "score": float(value)}
                | _evidence(bundle, int(row), int(other))
                for other, value in zip(found[i], scores[i], strict=True)
                if other >= 0
            ],
        }
        for i, row in enumerate(rows)
    ]


def _baselines(train: Corpus, n_orders: Int64Array) -> dict[str, Ranker]:
    counts = BasketCounts(train, len(n_orders))
    return {
        "popularity": Popularity(n_orders),
        "cooccurrence": Cooccurrence(counts),
        "cosine": Cosine(counts),
    }


def _labels(bundle: Bundle) -> list[str]:
    """The name of every product, else its category, else its id."""
    columns = (bundle.products[name].to_pylist() for name in ("name", "category", "product_id"))
    return [name or category or id_ for name, category, id_ in zip(*columns, strict=True)]


def _evidence(bundle: Bundle, row: int, other: int) -> dict[str, int | float | None]:
    """Training baskets with both, and how many times more than chance that is."""
    start, end = bundle.pair_offsets[row : row + 2]
    place = np.flatnonzero(bundle.pair_rows[start:end] == other)
    if not len(place):
        return {"support": None, "lift": None}
    support = int(bundle.pair_support[start + place[0]])
    by_chance = bundle.n_orders[row] * bundle.n_orders[other] / bundle.manifest.n_orders
    return {"support": support, "lift": float(support / by_chance)}


def _replace_nonfinite(found: Any) -> Any:
    """The same nested mapping with null for numbers that could not be computed."""
    if isinstance(found, dict):
        return {key: _replace_nonfinite(value) for key, value in found.items()}
    return _finite_or_none(found) if isinstance(found, float) else found


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
