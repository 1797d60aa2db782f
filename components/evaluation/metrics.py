"""Ranking metrics with bootstrap intervals."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from components.model.arrays import BoolArray, Float64Array, Int64Array
from components.model.sorted_keys import find_keys

if TYPE_CHECKING:
    # Judging needs the intervals alone, without Arrow.
    from components.baskets.corpus import Corpus

Name = TypeVar("Name", bound=Hashable)

METRICS = ("ndcg", "hr", "recall", "mrr")
RESAMPLES = 1_000


def score(found: Int64Array, relevant: "Corpus", n_items: int) -> dict[str, Float64Array]:
    """METRICS at k, (n_queries,) each; `found` (n_queries, k), -1 being a miss.

    The ideal of NDCG has min(k, relevant) hits; recall divides by all relevant.
    """
    hits = find_hits(found, relevant, n_items)
    discounts = 1 / np.log2(np.arange(found.shape[1]) + 2)
    n_relevant = relevant.sizes
    best = ideal_dcg(n_relevant, found.shape[1])
    first = np.where(hits.any(axis=1), hits.argmax(axis=1), np.inf)
    return {
        "ndcg": (hits * discounts).sum(axis=1) / best,
        "hr": hits.any(axis=1).astype(np.float64),
        "recall": hits.sum(axis=1) / n_relevant,
        "mrr": 1 / (first + 1),
    }


def ideal_dcg(n_relevant: Int64Array, k: int) -> Float64Array:
    """DCG@k of the best ranking, (n_queries,)."""
    ideal = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(k) + 2))])
    best: Float64Array = ideal[np.minimum(n_relevant, k)]
    return best


def find_hits(found: Int64Array, relevant: "Corpus", n_items: int) -> BoolArray:
    """Whether a found product is relevant to its query, (n_queries, k)."""
    right = np.repeat(np.arange(len(relevant)), relevant.sizes) * n_items + relevant.items
    asked = np.arange(len(found))[:, None] * n_items + found
    right.sort()
    return find_keys(right, asked)[1] & (found >= 0)


def coverage(found: Int64Array, n_items: int) -> float:
    """Share of the catalogue that is recommended at least once."""
    return float(len(np.unique(found[found >= 0])) / n_items)


def popularity_percentile(found: Int64Array, n_items: int) -> float:
    """Mean popularity, from 100 for row 0 to 0 for the last; NaN if nothing is found."""
    kept = found[found >= 0]
    return float(100 * (1 - kept.mean() / max(n_items - 1, 1))) if len(kept) else float("nan")


def intervals(
    values: Mapping[Name, Float64Array], basket: Int64Array, seed: int, n: int = RESAMPLES
) -> dict[Name, dict[str, float]]:
    """Mean and 95 % percentile-bootstrap bounds of `values`, (n_queries,) each.

    Resamples baskets, as their queries are not independent.
    """
    if not len(basket):
        return {name: dict.fromkeys(("mean", "low", "high"), float("nan")) for name in values}
    matrix = np.column_stack([*values.values(), np.ones(len(basket))])
    clusters = np.unique(basket, return_inverse=True)[1]
    columns = [np.bincount(clusters, column).astype(np.float64) for column in matrix.T]
    sums = np.stack(columns, axis=1)
    totals = _bootstrap_totals(sums, np.random.default_rng(seed), n)
    means = totals[:, :-1] / totals[:, -1:]
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    mean = matrix[:, :-1].mean(axis=0)
    return {
        name: {"mean": float(mean[i]), "low": float(low[i]), "high": float(high[i])}
        for i, name in enumerate(values)
    }


def _bootstrap_totals(sums: Float64Array, rng: np.random.Generator, n: int) -> Float64Array:
    """Column totals (n, m) of `sums` (n_clusters, m), resampled `n` times."""
    size = len(sums)
    totals = np.empty((n, sums.shape[1]))
    for i in range(n):
        totals[i] = np.bincount(rng.integers(size, size=size), minlength=size) @ sums
    return totals
