"""Excess NDCG: hits beyond those that the same products get by chance.

NDCG pays for products that would be in the basket anyway. Here the hit of every place, 0 or 1, is
reduced by the probability that a basket of the same size holds the product whoever is asked for.
"""

import numpy as np

from components.baskets.corpus import Corpus
from components.evaluation.metrics import find_hits, ideal_dcg
from components.model.arrays import Float64Array, Int64Array


def compute_shares(corpus: Corpus, n_items: int) -> Float64Array:
    """Share of every product of all lines of `corpus`, (n_items,)."""
    counts = np.bincount(corpus.items, minlength=n_items)
    return counts / max(len(corpus.items), 1)


def compute_chance(shares: Float64Array, n_relevant: Int64Array) -> Float64Array:
    """Probability that one of `n_relevant` lines is the product, 1 - (1 - share) ** n_relevant.

    The arguments are broadcast; shares of one product alone are 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = -np.expm1(n_relevant * np.log1p(-shares))
    known: Float64Array = np.where(n_relevant > 0, chance, 0.0)
    return known


def compute_excess_ndcg(
    found: Int64Array, relevant: Corpus, shares: Float64Array, popularity_discount: float = 1.0
) -> Float64Array:
    """(n_queries,), below 0 where there are fewer hits than by chance; the ideal is NDCG's.

    A smaller discount takes that share of chance off; with 0 it is NDCG.

    `found` is (n_queries, k), -1 being a miss without chance; `shares` (n_items,) are those of the
    lines that the queries are drawn from.
    """
    hits = find_hits(found, relevant, len(shares))
    shown = np.where(found >= 0, shares[np.maximum(found, 0)], 0.0)
    gains = hits - popularity_discount * compute_chance(shown, relevant.sizes[:, None])
    discounts = 1 / np.log2(np.arange(found.shape[1]) + 2)
    excess: Float64Array = (gains * discounts).sum(axis=1) / ideal_dcg(
        relevant.sizes, len(discounts)
    )
    return excess
