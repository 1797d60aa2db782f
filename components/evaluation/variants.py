"""How strictly variants of a product are kept out of its recommendations.

Colours of a teacup are bought together, other variants are not: the strictest rule is chosen that
costs hardly any NDCG on validation queries.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from components.evaluation.metrics import intervals, score
from components.evaluation.tasks import Queries
from components.model.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
from components.model.bundle import Bundle
from components.model.recommender import Recommender
from components.model.sorted_keys import find_keys
from components.model.substitutes import compute_pair_cosines
from components.model.variants import (
    LEVELS,
    Variants,
    build_variants,
    find_name_pairs,
    match_exceptions,
)
from components.progress import log_progress

K = 10
DEPTH = 60
"""Products ranked before variants are left out."""

LIFTS = (np.inf, 5.0, 2.0, 1.0)
"""Pairs with at least this lift are kept."""

COSINES = (-1.0, 0.5, 0.7)
"""Pairs whose IN vectors have a lower cosine, that is no substitutes, are kept."""

MAX_NDCG_LOSS = 0.01
"""Largest relative loss of NDCG@10, at the lower bound of the paired interval."""


class Bounds(NamedTuple):
    level: str
    lift: float
    cosine: float


@dataclass(frozen=True)
class VariantPairs:
    """Pairs of catalogue rows that are variants by name; arrays are (n,)."""

    one: Int32Array
    other: Int32Array
    level: Int64Array
    """First of LEVELS that makes them variants."""
    lift: Float64Array
    """0 where unknown."""
    cosine: Float32Array
    is_excepted: BoolArray

    def select(self, bounds: Bounds) -> tuple[BoolArray, BoolArray]:
        """Masks of pairs left out, and of pairs kept only by an exception."""
        below: BoolArray = (self.level <= LEVELS.index(bounds.level)) & (self.lift < bounds.lift)
        below &= self.cosine >= bounds.cosine
        return below & ~self.is_excepted, below & self.is_excepted


def choose_variants(
    recommender: Recommender,
    queries: Mapping[str, Queries],
    seed: int,
    exceptions: Iterable[tuple[str, str]] = (),
) -> tuple[Variants, list[dict[str, Any]]]:
    """The strictest tolerable table of variants, and all candidates from strict to lenient:

        [{"level": "but_colours", "lift": 2.0 or None, "cosine": 0.5 or None, "pairs": 1234,
          "excepted": 5, "chosen": false,
          "tasks": {"item": {"mean", "low", "high", "changed"}, "cart": …}}]

    mean, low and high are the paired relative change of NDCG@10, changed is the share of
    recommendations replaced. The bundle must have no variants yet.
    """
    pairs = find_pairs(recommender.bundle, exceptions)
    masks = {bounds: pairs.select(bounds) for bounds in _list_bounds()}
    left_out = {bounds: mask for bounds, (mask, _) in masks.items()}
    by_task = {
        task: _TaskEvaluator(recommender, asked, pairs, seed).evaluate(left_out)
        for task, asked in queries.items()
        if len(asked)
    }
    # Stable: of bounds that leave out as many pairs the simpler come first.
    order = sorted(masks, key=lambda bounds: -sum(int(mask.sum()) for mask in masks[bounds]))
    tasks = {bounds: {task: by_task[task][bounds] for task in by_task} for bounds in order}
    best = next(bounds for bounds in order if _is_tolerable(bounds, tasks[bounds]))
    rows = [
        _describe(bounds, *masks[bounds]) | {"chosen": bounds == best, "tasks": tasks[bounds]}
        for bounds in order
    ]
    mask, n_items = left_out[best], recommender.bundle.manifest.n_items
    log_progress(f"variants: {mask.sum()} pairs left out, level {best.level}")
    return build_variants(pairs.one[mask], pairs.other[mask], n_items), rows


def _describe(bounds: Bounds, left_out: BoolArray, excepted: BoolArray) -> dict[str, Any]:
    return {
        "level": bounds.level,
        "lift": bounds.lift if bounds.lift < np.inf else None,
        "cosine": bounds.cosine if bounds.cosine > -1 else None,
        "pairs": int(left_out.sum()),
        "excepted": int(excepted.sum()),
    }


def find_pairs(bundle: Bundle, exceptions: Iterable[tuple[str, str]] = ()) -> VariantPairs:
    n_items = bundle.manifest.n_items
    by_level = [find_name_pairs(bundle.products, n_items, level) for level in LEVELS]
    keys = np.concatenate([one.astype(np.int64) * n_items + other for one, other in by_level])
    levels = np.repeat(np.arange(len(LEVELS)), [len(one) for one, _ in by_level])
    # Levels ascend, so that the first place of a pair gives its first level.
    keys, first = np.unique(keys, return_index=True)
    one, other = (part.astype(np.int32) for part in np.divmod(keys, max(n_items, 1)))
    is_excepted = match_exceptions(one, other, exceptions, bundle.product_ids[:n_items])
    cosine = compute_pair_cosines(bundle.in_vectors, one, other)
    lifts = compute_lifts(bundle, one, other)
    return VariantPairs(one, other, levels[first], lifts, cosine, is_excepted)


def compute_lifts(bundle: Bundle, one: Int32Array, other: Int32Array) -> Float64Array:
    """Lifts of pairs of rows, (n,); 0 where the bundle does not hold the pair."""
    from scipy.sparse import csr_array

    if not len(one):
        return np.zeros(0)
    pairs = (bundle.pairs.support, bundle.pairs.rows, bundle.pairs.offsets)
    support = csr_array(pairs, shape=(bundle.manifest.n_items, bundle.manifest.n_items))
    expected = bundle.n_orders[one] * (bundle.n_orders[other] / bundle.manifest.n_orders)
    lifts: Float64Array = np.maximum(support[one, other], support[other, one]) / expected
    return lifts


class _TaskEvaluator:
    """Ranks the queries of a task once, for any mask of variant pairs."""

    def __init__(
        self, recommender: Recommender, queries: Queries, pairs: VariantPairs, seed: int
    ) -> None:
        self._queries, self._seed = queries, seed
        self._n_items = recommender.bundle.manifest.n_items
        self._found, _ = recommender.rank(queries.asked, min(DEPTH, self._n_items))
        self._hits = _find_hits(pairs, queries, self._found, self._n_items)

    def evaluate(self, masks: Mapping[Bounds, BoolArray]) -> dict[Bounds, dict[str, float]]:
        before = self._ndcg(self._found[:, :K])
        n_shown = max((self._found[:, :K] >= 0).sum(), 1)
        changes, changed = {}, {}
        for bounds, mask in masks.items():
            after, n_dropped = self._leave_out(mask)
            changes[bounds] = self._ndcg(after) - before
            changed[bounds] = float(n_dropped / n_shown)
        base = max(float(before.mean()), 1e-12)
        # All at once: resampling baskets takes longer than all else.
        found = intervals(changes, self._queries.basket, self._seed)
        return {
            bounds: {name: value / base for name, value in change.items()}
            | {"changed": changed[bounds]}
            for bounds, change in found.items()
        }

    def _leave_out(self, mask: BoolArray) -> tuple[Int64Array, int]:
        query, place, pair = self._hits
        dropped = self._found < 0
        dropped[query[mask[pair]], place[mask[pair]]] = True
        # The rest moves to the front, in order.
        order = np.argsort(dropped, axis=1, kind="stable")[:, :K]
        after = np.take_along_axis(np.where(dropped, -1, self._found), order, axis=1)
        return after, int(dropped[:, :K].sum())

    def _ndcg(self, rows: Int64Array) -> Float64Array:
        return score(rows, self._queries.relevant, self._n_items)["ndcg"]


def _find_hits(
    pairs: VariantPairs, queries: Queries, found: Int64Array, n_items: int
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Query, rank and pair of each found variant of a query product."""
    keys = pairs.one.astype(np.int64) * n_items + pairs.other
    met: list[tuple[Int64Array, Int64Array, Int64Array]] = []
    for number, (asked, answer) in enumerate(zip(queries.asked, found, strict=True)):
        low = np.minimum(asked[:, None], answer).astype(np.int64)
        wanted = low * n_items + np.maximum(asked[:, None], answer)
        at, is_pair = find_keys(keys, wanted)
        hit, place = np.nonzero(is_pair & (answer >= 0))
        met.append((np.full(len(hit), number), place, at[hit, place]))
    query, place, pair = (np.concatenate(part).astype(np.int64) for part in zip(*met, strict=True))
    return query, place, pair


def _list_bounds() -> list[Bounds]:
    every = [Bounds(*one) for one in product(LEVELS[1:], LIFTS, COSINES)]
    return [Bounds(LEVELS[0], np.inf, -1.0), *every]


def _is_tolerable(bounds: Bounds, tasks: dict[str, dict[str, float]]) -> bool:
    if not tasks:
        # Without queries the cost is unknown: nothing is left out.
        return bounds.level == LEVELS[0]
    return all(task["low"] >= -MAX_NDCG_LOSS for task in tasks.values())
