"""Counts of baskets by size; the probability of pairs beyond chance, and their evidence."""

from dataclasses import replace

import numpy as np

from components.baskets.corpus import Corpus
from components.baskets.weighting import BasketWeighting
from components.evaluation.excess import compute_shares
from components.model.arrays import AnyArray, Float32Array
from components.model.bundle import Pairs
from components.model.chance import Chance
from components.model.evidence import LIKELY_LEVEL, MIN_BASKETS, REAL_LEVEL
from components.spark import split_into_ranges

# Lines beside a product from which on a bin begins.
BINS = (1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97)
BLOCK = 1_000  # Products whose pairs are compared with chance at once


def build_chance(corpus: Corpus, pairs: Pairs, weighting: BasketWeighting) -> Chance:
    """From the baskets of at least two products; ages do not count."""
    n_items = len(pairs.offsets) - 1
    corpus = corpus.with_at_least(2)
    others = corpus.sizes - 1
    bins = np.searchsorted(BINS, others, side="right") - 1
    means = np.bincount(bins, others, len(BINS)) / np.maximum(
        np.bincount(bins, minlength=len(BINS)), 1
    )
    cells = corpus.items.astype(np.int64) * len(BINS) + np.repeat(bins, corpus.sizes)
    counts = np.bincount(cells, minlength=n_items * len(BINS)).reshape(n_items, len(BINS))
    shares = compute_shares(corpus, n_items).astype(np.float32)
    means = np.maximum(means, 1)
    chance = Chance(shares, means.astype(np.float32), counts.astype(np.float32), pairs.probability)
    excess = _compute_excess(chance, pairs, weighting)
    return replace(chance, excess=excess, grades=grade_pairs(chance, pairs))


def grade_pairs(chance: Chance, pairs: Pairs) -> AnyArray:
    """UNPROVEN, LIKELY or REAL, (n_pairs,): an exact test of the baskets with both (Poisson)."""
    from scipy.special import gammaincinv

    support, place = np.unique(pairs.support, return_inverse=True)
    # At a level, the smallest mean of baskets with both by which as many are not surprising.
    bounds = [gammaincinv(support, level)[place] for level in (LIKELY_LEVEL, REAL_LEVEL)]
    grades = np.zeros(len(place), np.uint8)
    for part in split_into_ranges(len(chance.shares), BLOCK):
        products = np.arange(part.start, part.stop, dtype=np.int32)
        pair, owner = pairs.expand(products)
        expected = chance.count_expected(products[owner], pairs.rows[pair])
        grades[pair] = sum(expected < bound[pair] for bound in bounds)
    grades[pairs.support < MIN_BASKETS] = 0
    return grades


def _compute_excess(chance: Chance, pairs: Pairs, weighting: BasketWeighting) -> Float32Array:
    excess = pairs.probability.astype(np.float32).copy()
    if weighting.reach:
        # Neighbours in a basket of any size: their probabilities sum to 1.
        excess -= chance.shares[pairs.rows]
        return excess
    for part in split_into_ranges(len(chance.shares), BLOCK):
        products = np.arange(part.start, part.stop, dtype=np.int32)
        pair, owner = pairs.expand(products)
        excess[pair] -= chance.compute_probability(
            products[owner], pairs.rows[pair], weighting.size_exponent
        )
    return excess
