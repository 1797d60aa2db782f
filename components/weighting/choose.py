"""Which tricks of time and position pay, measured on validation baskets by plain co-occurrence.

What helps counting helps the models that learn from the same counts, and counting takes a second
where training takes a minute. One trick after the other is tried on top of those found to pay.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from components.baskets.corpus import build_catalogue, encode, read_baskets, release_memory
from components.baskets.weighting import (
    BasketWeighting,
    RawBaskets,
    TrainingBaskets,
    has_item_order,
    read_raw_baskets,
)
from components.embeddings.cooccurrence import make_pair_counter
from components.evaluation.baselines import distinct_products, rank_sums
from components.evaluation.metrics import intervals, score
from components.evaluation.tasks import Queries, draw_queries
from components.model.arrays import Float64Array
from components.model.features import compute_cart_recency
from components.progress import log_progress

K = 10
N_QUERIES = {"a": 2_500, "b": 800}
"""Validation baskets that ask; carts ask for ten products each."""

CANDIDATES: Mapping[str, tuple[float, ...]] = {
    "size_exponent": (0.0, 0.25, 0.5, 0.75),
    "half_life_days": (180.0, 60.0),
    "window_days": (180.0, 90.0),
    "join_hours": (24.0,),
}
"""Values next to those of `BasketWeighting`, by trick."""

ORDERED_CANDIDATES: Mapping[str, tuple[float, ...]] = {"reach": (10,), "cart_recency": (0.9, 0.7)}
"""The same where the order inside baskets is real."""

CART_PARAMETERS = ("cart_recency",)
"""Tricks that only carts can tell; pages tell of all others."""


def choose_tricks(
    baskets_path: str | Path, min_product_orders: int, seed: int
) -> tuple[BasketWeighting, list[dict[str, Any]]]:
    """The tricks that pay, and what each tried one did:

        [{"trick", "value", "used", "a": {"mean", "low", "high"}, "b": ...}]

    a and b are the paired changes of NDCG@10 in each task, as shares of it. Task A decides, by the
    lower bound: it is pages that listen to counts, while carts listen to neighbours. Only what the
    order of a cart tells is decided by task B.
    """
    baskets = read_baskets(baskets_path)
    product_ids, _ = build_catalogue(baskets, min_product_orders)
    validation = encode(baskets, product_ids, "validation")
    queries = {task: draw_queries(validation, task, n, seed) for task, n in N_QUERIES.items()}
    # A large shop's baskets as text take as much memory as counting does.
    del baskets
    release_memory()
    evaluator = _Evaluator(
        read_raw_baskets(baskets_path, product_ids), len(product_ids), queries, seed
    )
    best, rows = BasketWeighting(), []
    for parameter, values in list_candidates(baskets_path).items():
        start, task = best, "b" if parameter in CART_PARAMETERS else "a"
        tried = [start.model_copy(update={parameter: value}) for value in values]
        effects = [evaluator.effect(one, start) for one in tried]
        gains = [_significant_gain(effect[task]) for effect in effects]
        if max(gains) > 0:
            best = tried[int(np.argmax(gains))]
        for value, one, effect in zip(values, tried, effects, strict=True):
            rows.append({"trick": parameter, "value": value, "used": one == best, **effect})
            log_progress(f"tricks: {parameter} {value:g}: {_format_effect(effect)}")
    log_progress(f"tricks that pay: {best.model_dump(exclude_defaults=True) or 'none'}")
    return best, rows


def list_candidates(baskets_path: str | Path) -> Mapping[str, tuple[float, ...]]:
    """Tricks and values that these baskets can tell of."""
    return {**CANDIDATES, **ORDERED_CANDIDATES} if has_item_order(baskets_path) else CANDIDATES


class _Evaluator:
    """Ranks the queries by what was counted, each setting once."""

    def __init__(
        self, baskets: RawBaskets, n_items: int, queries: Mapping[str, Queries], seed: int
    ) -> None:
        self._baskets, self._n_items = baskets, n_items
        self._queries, self._seed = queries, seed
        self._cache: dict[BasketWeighting, dict[str, Float64Array]] = {}

    def effect(
        self, weighting: BasketWeighting, start: BasketWeighting
    ) -> dict[str, dict[str, float]]:
        """Paired change of NDCG@10 from `start` to `weighting` by task, as a share of it."""
        new, old = self._ndcg(weighting), self._ndcg(start)
        return {
            task: _relative_change(new[task] - old[task], old[task], queries, self._seed)
            for task, queries in self._queries.items()
        }

    def _ndcg(self, weighting: BasketWeighting) -> dict[str, Float64Array]:
        if weighting not in self._cache:
            training = self._baskets.apply(weighting)
            self._cache[weighting] = {
                task: _compute_ndcg(training, weighting, queries, self._n_items)
                for task, queries in self._queries.items()
            }
        return self._cache[weighting]


def _compute_ndcg(
    training: TrainingBaskets, weighting: BasketWeighting, queries: Queries, n_items: int
) -> Float64Array:
    if not len(queries):
        return np.zeros(0)
    counter = make_pair_counter(
        training.apply_size_exponent(weighting.size_exponent), n_items, weighting.reach
    )
    asked = distinct_products(queries.asked)
    shares = counter.shares(asked)
    totals = np.maximum(counter.product_weights[asked], 1e-9)
    shares.data = (shares.data / np.repeat(totals, np.diff(shares.indptr))).astype(np.float32)
    weights = partial(compute_cart_recency, weighting.cart_recency)
    rows, _ = rank_sums(shares, asked, queries.asked, K, weights)
    return score(rows, queries.relevant, n_items)["ndcg"]


def _relative_change(
    change: Float64Array, before: Float64Array, queries: Queries, seed: int
) -> dict[str, float]:
    if not len(queries) or not before.mean():
        return {"mean": 0.0, "low": 0.0, "high": 0.0}
    found = intervals({"change": change}, queries.basket, seed)["change"]
    return {bound: value / float(before.mean()) for bound, value in found.items()}


def _significant_gain(effect: dict[str, float]) -> float:
    """What a trick gains in the task that decides; 0 where it does not surely pay."""
    return effect["mean"] if effect["low"] > 0 else 0.0


def _format_effect(effect: dict[str, dict[str, float]]) -> str:
    return ", ".join(
        f"task {task} {one['mean']:+.1%} ({one['low']:+.1%} to {one['high']:+.1%})"
        for task, one in effect.items()
    )
