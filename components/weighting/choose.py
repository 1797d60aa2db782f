"""Which basket weighting helps, measured on validation baskets by co-occurrence beyond chance.

The models learn from the same counts, and counting takes a second where training takes a minute.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.baskets.corpus import build_catalogue, encode, read_baskets, release_memory
from components.baskets.weighting import (
    BasketWeighting,
    TrainingBaskets,
    has_item_order,
    read_raw_baskets,
)
from components.embeddings.cooccurrence import make_pair_counter
from components.evaluation.baselines import distinct_products, rank_sums
from components.evaluation.excess import compute_excess_ndcg, compute_shares
from components.evaluation.metrics import intervals
from components.evaluation.tasks import Queries, draw_queries
from components.model.arrays import Float64Array
from components.model.candidate_pairs import compute_cart_recency
from components.progress import log_progress

K = 10
N_QUERIES = {"item": 2_500, "cart": 800}
"""Validation baskets drawn by task."""

CANDIDATES: Mapping[str, tuple[float, ...]] = {
    "size_exponent": (0.0, 0.25, 0.5, 0.75),
    "half_life_days": (180.0, 60.0),
    "window_days": (180.0, 90.0),
    "join_hours": (24.0,),
}
"""Values tried beside the defaults of BasketWeighting."""

SEASONAL_CANDIDATES: Mapping[str, tuple[float, ...]] = {"season_days": (60.0, 30.0)}
"""Tried only where a season comes back: with a year of data it would be the age once more."""

MIN_SEASONAL_DAYS = 395
"""Thirteen months."""

ORDERED_CANDIDATES: Mapping[str, tuple[float, ...]] = {"reach": (10,), "cart_recency": (0.9, 0.7)}
"""Tried only where the item order inside baskets is real."""

CART_PARAMETERS = ("cart_recency",)
"""Decided by the cart task, all others by the item task."""


def choose_weighting(
    baskets_path: str | Path, min_product_orders: int, seed: int, popularity_discount: float = 0.0
) -> tuple[BasketWeighting, list[dict[str, Any]]]:
    """The best weighting by greedy forward selection, and the effect of each value tried:

        [{"trick", "value", "used", "item": {"mean", "low", "high"}, "cart": ...}]

    item and cart are paired relative changes of NDCG@10 less `popularity_discount` of what chance
    earns. The item task decides, since carts depend more on neighbours than on counts.
    """
    judged = _draw_validation_queries(baskets_path, min_product_orders, seed, popularity_discount)
    raw, queries = read_raw_baskets(baskets_path, judged.product_ids), judged.queries

    @functools.cache
    def measure(weighting: BasketWeighting) -> dict[str, Float64Array]:
        training = raw.apply(weighting)
        return {task: _measure(training, weighting, task, judged) for task in queries}

    best, rows = BasketWeighting(), []
    ordered = ORDERED_CANDIDATES if has_item_order(baskets_path) else {}
    is_seasonal = raw.ages is not None and raw.ages.max() >= MIN_SEASONAL_DAYS
    seasonal = SEASONAL_CANDIDATES if is_seasonal else {}
    for parameter, values in {**CANDIDATES, **seasonal, **ordered}.items():
        start, task = best, "cart" if parameter in CART_PARAMETERS else "item"
        tried = [start.model_copy(update={parameter: value}) for value in values]
        effects = [_compare(measure(one), measure(start), queries, seed) for one in tried]
        gains = [effect[task]["mean"] if effect[task]["low"] > 0 else 0.0 for effect in effects]
        if max(gains) > 0:
            best = tried[int(np.argmax(gains))]
        for value, one, effect in zip(values, tried, effects, strict=True):
            rows.append({"trick": parameter, "value": value, "used": one == best, **effect})
            log_progress(f"weighting: {parameter} {value:g}: {_format_effect(effect)}")
    log_progress(f"weighting chosen: {best.model_dump(exclude_defaults=True) or 'none'}")
    return best, rows


@dataclass(frozen=True)
class _Judged:
    product_ids: Any
    """Of the catalogue."""
    queries: dict[str, Queries]
    shares: Float64Array
    """(n_items,): of the lines that queries are drawn from."""
    popularity_discount: float


def _draw_validation_queries(
    baskets_path: str | Path, min_product_orders: int, seed: int, popularity_discount: float
) -> _Judged:
    baskets = read_baskets(baskets_path)
    product_ids, _ = build_catalogue(baskets, min_product_orders)
    validation = encode(baskets, product_ids, "validation")
    # A large shop's baskets as text take as much memory as counting does.
    del baskets
    release_memory()
    queries = {task: draw_queries(validation, task, n, seed) for task, n in N_QUERIES.items()}
    shares = compute_shares(validation, len(product_ids))
    return _Judged(product_ids, queries, shares, popularity_discount)


def _measure(
    training: TrainingBaskets, weighting: BasketWeighting, task: str, judged: _Judged
) -> Float64Array:
    """(n_queries,) of a ranking by the share of the lines beside a product, beyond chance."""
    queries, n_items = judged.queries[task], len(judged.product_ids)
    if not len(queries):
        return np.zeros(0)
    corpus = training.apply_size_exponent(weighting.size_exponent)
    counter = make_pair_counter(corpus, n_items, weighting.reach)
    chance = judged.popularity_discount * compute_shares(corpus, n_items)
    asked = distinct_products(queries.asked)
    shares = counter.shares(asked)
    totals = np.maximum(counter.product_weights[asked], 1e-9)
    shares.data = shares.data / np.repeat(totals, np.diff(shares.indptr))
    shares.data = (shares.data - chance[shares.indices]).astype(np.float32)
    weights = functools.partial(compute_cart_recency, weighting.cart_recency)
    rows, _ = rank_sums(shares, asked, queries.asked, K, weights)
    return compute_excess_ndcg(rows, queries.relevant, judged.shares, judged.popularity_discount)


def _compare(
    new: Mapping[str, Float64Array], old: Mapping[str, Float64Array],
    queries: Mapping[str, Queries], seed: int,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Paired relative changes by task."""
    effects = {}
    for task, asked in queries.items():
        base = float(old[task].mean()) if len(asked) else 0.0
        change = intervals({"change": new[task] - old[task]}, asked.basket, seed)["change"]
        effects[task] = {bound: value / base if base else 0.0 for bound, value in change.items()}
    return effects


def _format_effect(effect: dict[str, dict[str, float]]) -> str:
    return ", ".join(
        f"{task} {one['mean']:+.1%} ({one['low']:+.1%} to {one['high']:+.1%})"
        for task, one in effect.items()
    )
