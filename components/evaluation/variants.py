"""How strictly variants can be kept out of "bought together", and what that costs.

Shops differ: the five colours of one teacup are bought together, and so are flavours of yoghurt;
other variants are never. So pairs that orders speak for stay, and of all ways to choose among the
others the strictest is taken that validation baskets do not mind.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluation.metrics import intervals, score
from components.evaluation.tasks import Queries
from components.model.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
from components.model.bundle import Bundle
from components.model.recommender import Recommender
from components.model.sorted_keys import find_keys
from components.model.substitutes import Cosines
from components.model.variants import (
    LEVELS,
    Variants,
    build_variants,
    find_name_pairs,
    match_exceptions,
)
from components.progress import log_progress

Bounds = tuple[str, float, float]
"""One of LEVELS, of LIFTS and of COSINES."""

K = 10
DEPTH = 60
"""Places ranked, of which variants are left out; the rest moves up."""

BLOCK = 20_000
"""Products whose pairs are sorted at once."""

LIFTS = (np.inf, 5.0, 2.0, 1.0)
"""A pair bought together so many times as often as chance would have it is not left out."""

COSINES = (-1.0, 0.5, 0.7)
"""Only pairs whose IN vectors are so much alike, that is substitutes, are left out."""

MAX_NDCG_LOSS = 0.01
"""Share of NDCG@10 that leaving out may cost, at the lower bound of the paired interval."""


@dataclass(frozen=True)
class VariantPairs:
    """Pairs of catalogue rows (n,) that any level takes for variants, and what is known of them."""

    one: Int32Array
    other: Int32Array
    level: Int64Array
    """The first of LEVELS that does."""
    lift: Float64Array
    """How many times as often as by chance they were bought together; 0 where that is unknown."""
    cosine: Float32Array
    """Of their IN vectors."""
    is_excepted: BoolArray
    """Whether the shop wants to see them together."""

    def select(self, level: str, lift: float, cosine: float) -> tuple[BoolArray, BoolArray]:
        """Which pairs are left out by these bounds, and which would be but for being excepted."""
        below: BoolArray = (self.level <= LEVELS.index(level)) & (self.lift < lift)
        below &= self.cosine >= cosine
        return below & ~self.is_excepted, below & self.is_excepted


def choose_variants(
    recommender: Recommender,
    queries: Mapping[str, Queries],
    seed: int,
    exceptions: Iterable[tuple[str, str]] = (),
) -> tuple[Variants, list[dict[str, Any]]]:
    """The strictest table of variants that costs the queries of neither task too much.

    Strictest is the one that leaves out most pairs; there is always the empty one. `recommender`
    must not leave out any itself. `exceptions` are pairs of product ids that may be shown all the
    same. With the table comes what was measured, the strictest first:

        [{"level": "but_colours", "lift": 2.0 or None, "cosine": 0.5 or None, "pairs": 1234,
          "excepted": 5, "chosen": false,
          "tasks": {"a": {"mean", "low", "high", "changed"}, "b": …}}]

    excepted are pairs that would be left out, too, but for the exceptions; mean, low and high are
    the paired change of NDCG@10, as a share of it; changed is the share of the ten best that are
    others. A task without queries is not listed.
    """
    bundle = recommender.bundle
    pairs = find_pairs(bundle, exceptions)
    evaluators = [
        _TaskEvaluator(task, recommender, asked, pairs, seed)
        for task, asked in queries.items()
        if len(asked)
    ]
    counts = {}
    for bounds in _list_bounds():
        mask, spared = pairs.select(*bounds)
        counts[bounds] = int(mask.sum()), int(spared.sum())
        for evaluator in evaluators:
            evaluator.add(bounds, mask)
    summarise = {evaluator.task: evaluator.summarise() for evaluator in evaluators}
    tried = [
        (bounds, counted, {task: one[bounds] for task, one in summarise.items()})
        for bounds, counted in counts.items()
    ]
    # Stable: of bounds that leave out as many pairs the simpler come first.
    tried.sort(key=lambda one: -sum(one[1]))
    best = next(bounds for bounds, _, tasks in tried if _is_tolerable(bounds, tasks))
    measured = [
        {
            "level": bounds[0],
            "lift": bounds[1] if bounds[1] < np.inf else None,
            "cosine": bounds[2] if bounds[2] > -1 else None,
            "pairs": n_pairs,
            "excepted": n_excepted,
            "chosen": bounds == best,
            "tasks": tasks,
        }
        for bounds, (n_pairs, n_excepted), tasks in tried
    ]
    mask, _ = pairs.select(*best)
    log_progress(f"variants: {mask.sum()} pairs, {best}")
    return build_variants(pairs.one[mask], pairs.other[mask], bundle.manifest.n_items), measured


def find_pairs(bundle: Bundle, exceptions: Iterable[tuple[str, str]] = ()) -> VariantPairs:
    """All pairs that the strictest level takes for variants."""
    n_items = bundle.manifest.n_items
    by_level = [find_name_pairs(bundle.products, n_items, level) for level in LEVELS]
    keys = np.concatenate([one.astype(np.int64) * n_items + other for one, other in by_level])
    levels = np.repeat(np.arange(len(LEVELS)), [len(one) for one, _ in by_level])
    # Levels ascend, so that the first place of a pair tells the first level that takes it.
    keys, first = np.unique(keys, return_index=True)
    one, other = (part.astype(np.int32) for part in np.divmod(keys, max(n_items, 1)))
    is_excepted = match_exceptions(one, other, exceptions, bundle.product_ids[:n_items])
    cosine = Cosines(bundle.in_vectors).compute_for_pairs(one, other)
    lifts = compute_lifts(bundle, one, other)
    return VariantPairs(one, other, levels[first], lifts, cosine, is_excepted)


def compute_lifts(bundle: Bundle, one: Int32Array, other: Int32Array) -> Float64Array:
    """Lifts (n,) of pairs of rows; 0 for those not among the strongest of either."""
    support = np.maximum(_find_support(bundle, one, other), _find_support(bundle, other, one))
    by_chance = bundle.n_orders[one] * (bundle.n_orders[other] / bundle.manifest.n_orders)
    lifts: Float64Array = support / by_chance
    return lifts


def _find_support(bundle: Bundle, one: Int32Array, other: Int32Array) -> Float64Array:
    """Baskets with both (n,), where `other` is among the strongest of `one`; else 0."""
    n_items, offsets = bundle.manifest.n_items, bundle.pair_offsets
    support = np.zeros(len(one))
    order = np.argsort(one, kind="stable")
    for start in range(0, n_items, BLOCK):
        end = min(start + BLOCK, n_items)
        mine = order[slice(*np.searchsorted(one[order], [start, end]))]
        if not len(mine):
            continue
        counted = slice(offsets[start], offsets[end])
        rows = np.repeat(np.arange(start, end), np.diff(offsets[start : end + 1]))
        keys = rows * n_items + bundle.pair_rows[counted]
        by_key = np.argsort(keys)
        wanted = one[mine].astype(np.int64) * n_items + other[mine]
        place, met = find_keys(keys[by_key], wanted)
        support[mine[met]] = bundle.pair_support[counted][by_key[place[met]]]
    return support


class _TaskEvaluator:
    """What leaving out does to the answers of one task, which are ranked only once."""

    def __init__(
        self, task: str, recommender: Recommender, queries: Queries, pairs: VariantPairs, seed: int
    ) -> None:
        self.task = task
        self._queries, self._seed = queries, seed
        self._n_items = recommender.bundle.manifest.n_items
        self._found, _ = recommender.rank(queries.asked, min(DEPTH, self._n_items))
        self._before = self._ndcg(self._found[:, :K])
        self._n_shown = max((self._found[:, :K] >= 0).sum(), 1)
        self._hits = _find_hits(pairs, queries, self._found, self._n_items)
        self._changes: dict[Bounds, Float64Array] = {}
        self._changed: dict[Bounds, float] = {}

    def add(self, bounds: Bounds, mask: BoolArray) -> None:
        """Rank again without the pairs in `mask`."""
        query, place, pair = self._hits
        dropped = self._found < 0
        dropped[query[mask[pair]], place[mask[pair]]] = True
        # What is kept moves to the front, in order.
        order = np.argsort(dropped, axis=1, kind="stable")[:, :K]
        after = np.take_along_axis(np.where(dropped, -1, self._found), order, axis=1)
        self._changes[bounds] = self._ndcg(after) - self._before
        self._changed[bounds] = float(dropped[:, :K].sum() / self._n_shown)

    def summarise(self) -> dict[Bounds, dict[str, float]]:
        """Relative change of NDCG@10, paired, and the share of the ten best that are others."""
        base = max(float(self._before.mean()), 1e-12)
        # All at once: drawing baskets takes longer than anything that is done with them.
        found = intervals(self._changes, self._queries.basket, self._seed)
        return {
            bounds: {
                **{name: value / base for name, value in change.items()},
                "changed": self._changed[bounds],
            }
            for bounds, change in found.items()
        }

    def _ndcg(self, rows: Int64Array) -> Float64Array:
        return score(rows, self._queries.relevant, self._n_items)["ndcg"]


def _find_hits(
    pairs: VariantPairs, queries: Queries, found: Int64Array, n_items: int
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Where an answer is paired with what was asked: query, place in its answer, and which pair."""
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
    every = [(level, lift, cosine) for level in LEVELS[1:] for lift in LIFTS for cosine in COSINES]
    return [(LEVELS[0], np.inf, -1.0), *every]


def _is_tolerable(bounds: Bounds, tasks: dict[str, dict[str, float]]) -> bool:
    if not tasks:
        # Nobody says what it costs: then nothing is left out.
        return bounds[0] == LEVELS[0]
    return all(task["low"] >= -MAX_NDCG_LOSS for task in tasks.values())
