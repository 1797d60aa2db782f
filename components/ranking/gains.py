"""What re-rankers learn from: candidates, and what they were worth to the baskets that ask.

A cart asks once. A page is asked for by every validation basket with its product: what all of them
say of a candidate is one lesson of many, not many of one. That ranks the demo data's pages 1 %
better than ten thousand baskets that ask once each, in a third of the time.
"""

from dataclasses import dataclass

import numpy as np

from components.baskets.corpus import Corpus
from components.evaluation.metrics import ideal_dcg
from components.evaluation.tasks import TASKS
from components.model.arrays import Float64Array
from components.model.sorted_keys import lookup_values
from components.ranking.queries import K, LabelledQueries


@dataclass(frozen=True)
class Gains:
    """What candidates were worth, summed over the baskets that ask."""

    total: Float64Array
    """(n_asked, DEPTH): what a first place would have added to their NDCG@10."""
    weight: Float64Array
    """(n_asked,): how many asked; where 0 there is nothing to learn from."""

    def __add__(self, other: "Gains") -> "Gains":
        return Gains(self.total + other.total, self.weight + other.weight)


def split_folds(queries: LabelledQueries, validation: Corpus) -> tuple[Gains, Gains]:
    """What candidates were worth to the even and to the odd baskets, as `LabelledQueries` number them."""
    if queries.products is None:
        return _compute_cart_gains(queries, 0), _compute_cart_gains(queries, 1)
    large = validation.with_at_least(TASKS["a"])
    every = np.arange(len(large))
    even, odd = large.take(every[::2]), large.take(every[1::2])
    return _compute_item_gains(queries, even), _compute_item_gains(queries, odd)


def _compute_cart_gains(queries: LabelledQueries, half: int) -> Gains:
    mine = (queries.basket % 2 == half).astype(np.float64)
    return Gains(queries.hits * (mine * queries.gain)[:, None], mine)


def _compute_item_gains(queries: LabelledQueries, baskets: Corpus) -> Gains:
    """Every basket counts 1, shared by its products, as if it drew one of them to ask for."""
    from scipy.sparse import csr_array

    products, rows = queries.products, queries.rows
    assert products is not None
    n_items = 1 + int(max(one.max(initial=0) for one in (rows, products, baskets.items)))
    ones = np.ones(len(baskets.items))
    holds = csr_array((ones, baskets.items, baskets.offsets), shape=(len(baskets), n_items))
    asks = holds.T.tocsr()[products]
    share = 1 / np.maximum(baskets.sizes, 1)
    gains = (asks * (share / ideal_dcg(baskets.sizes - 1, K))) @ holds
    gains.sort_indices()
    found = np.repeat(np.arange(len(products)), np.diff(gains.indptr)) * n_items + gains.indices
    wanted = np.arange(len(products))[:, None] * n_items + np.maximum(rows, 0)
    total = lookup_values(found, gains.data, wanted.ravel()).reshape(rows.shape)
    return Gains(np.where(rows >= 0, total, 0), asks @ share)
