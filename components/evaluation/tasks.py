"""The two questions a model is judged by.

Task A, a product page: one product is asked, the rest of its basket is relevant.
Task B, a cart: the basket without one product is asked, that product alone is relevant.

Every basket asks once, so that long baskets count no more than short ones.
"""

from dataclasses import dataclass

import numpy as np

from components.baskets.corpus import Corpus
from components.model.arrays import Int32Array, Int64Array

TASKS = {"a": 2, "b": 3}
"""Products a basket needs: for a cart two others, because a cart of one is task A again."""


@dataclass(frozen=True)
class Queries:
    """What is asked, and what would be right; products are rows of the catalogue."""

    asked: list[Int32Array]
    relevant: Corpus
    basket: Int64Array
    """Which basket asks, (n_queries,), by its place among those that are large enough: the cluster
    of the bootstrap."""

    def __len__(self) -> int:
        return len(self.asked)


def draw_queries(corpus: Corpus, task: str, n_baskets: int, seed: int, times: int = 1) -> Queries:
    """Queries of task `a` or `b` from up to `n_baskets` baskets, drawn without replacement.

    There may be none at all: when no basket holds enough products of the catalogue. Every basket
    asks `times` times, each time with a product of its own chance.
    """
    rng = np.random.default_rng(seed)
    large = corpus.with_at_least(TASKS[task])
    baskets = rng.permutation(len(large))[:n_baskets]
    drawn = large.take(np.tile(baskets, times))
    chosen = drawn.offsets[:-1] + rng.integers(drawn.sizes) if len(drawn) else drawn.offsets[:-1]
    alone, rest = _split_baskets(drawn, chosen)
    asked, relevant = (alone, rest) if task == "a" else (rest, alone)
    basket = np.tile(baskets, times)
    return Queries([asked[i] for i in range(len(asked))], relevant, basket)


def _split_baskets(corpus: Corpus, chosen: Int64Array) -> tuple[Corpus, Corpus]:
    """Every basket's product at the flat position `chosen`, and its other products."""
    others = np.ones(len(corpus.items), bool)
    others[chosen] = False
    counts = np.arange(len(corpus) + 1)
    alone = Corpus(corpus.items[chosen], counts, corpus.weights)
    return alone, Corpus(corpus.items[others], corpus.offsets - counts, corpus.weights)
