"""The two prediction tasks that a model is evaluated by.

item: one product is the query, the rest of its basket is relevant (a product page).
cart: a basket without one product is the query, only that product is relevant.
"""

from dataclasses import dataclass

import numpy as np

from components.baskets.corpus import Corpus
from components.model.arrays import Int32Array, Int64Array

TASKS = {"item": 2, "cart": 3}
"""Least basket sizes: a cart of one product would be the item task."""


@dataclass(frozen=True)
class Queries:
    """Query products and relevant products, as catalogue rows."""

    asked: list[Int32Array]
    relevant: Corpus
    basket: Int64Array
    """Basket of each query, (n_queries,): the cluster of the bootstrap."""

    def __len__(self) -> int:
        return len(self.asked)


def draw_queries(corpus: Corpus, task: str, n_baskets: int, seed: int, times: int = 1) -> Queries:
    """Draw `times` queries from each of up to `n_baskets` baskets that are large enough."""
    rng = np.random.default_rng(seed)
    large = corpus.with_at_least(TASKS[task])
    baskets = rng.permutation(len(large))[:n_baskets]
    drawn = large.take(np.tile(baskets, times))
    chosen = drawn.offsets[:-1] + rng.integers(drawn.sizes) if len(drawn) else drawn.offsets[:-1]
    alone, rest = _split_baskets(drawn, chosen)
    asked, relevant = (alone, rest) if task == "item" else (rest, alone)
    basket = np.tile(baskets, times)
    return Queries([asked[i] for i in range(len(asked))], relevant, basket)


def _split_baskets(corpus: Corpus, chosen: Int64Array) -> tuple[Corpus, Corpus]:
    """Every basket's product at the flat position in `chosen`, and its other products."""
    others = np.ones(len(corpus.items), bool)
    others[chosen] = False
    counts = np.arange(len(corpus) + 1)
    alone = Corpus(corpus.items[chosen], counts, corpus.weights)
    return alone, Corpus(corpus.items[others], corpus.offsets - counts, corpus.weights)
