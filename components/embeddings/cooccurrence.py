"""What was bought together how often: counts, size-weighted probabilities, and their strongest.

A pair counts 1/(n - 1) in a basket of n products, so that every basket spreads one unit per product
over its companions: the hundred products of a monthly shop say less about each other than the two
of a quick one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.baskets.corpus import Corpus
from components.contracts import written_aside

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

STRONGEST = 200
"""Pairs kept per product: ten times what a page shows, at 2.4 kB a product."""

BLOCK = 2_000
"""Products counted at once: bounds memory by their companions, not by the catalogue squared."""


@dataclass(frozen=True)
class Pairs:
    """The strongest companions of every product, as the bundle keeps them.

    `rows[offsets[i]:offsets[i + 1]]` are product i's companions, most probable first; `support` are
    baskets with both, `probability` the size-weighted P(companion | product).
    """

    offsets: npt.NDArray[np.int64]
    rows: Ints
    support: Ints
    probability: Floats


class PairCounter:
    """Counts companions of chosen products over the baskets of at least two.

    Memory grows with the companions of the products asked for; nothing is catalogue by catalogue.
    """

    def __init__(self, corpus: Corpus, n_items: int) -> None:
        from scipy.sparse import csr_array

        corpus = corpus.with_at_least(2)
        sizes = corpus.sizes
        # scipy carries the index type of its inputs along: 32 bits halve the memory.
        narrow = np.int32 if len(corpus.items) < np.iinfo(np.int32).max else np.int64
        rows, offsets = corpus.items.astype(narrow), corpus.offsets.astype(narrow)
        ones = np.ones(len(rows), np.float32)
        shares = np.repeat(corpus.weights / np.maximum(sizes - 1, 1), sizes).astype(np.float32)
        shape = (len(corpus), n_items)
        self._baskets = csr_array((ones, rows, offsets), shape=shape)
        self._shares = csr_array((shares, rows, offsets), shape=shape)
        self._of_product = self._baskets.T.tocsr()
        self.weight_of = self._of_product @ corpus.weights
        """Sum of the weights of every product's baskets, (n_items,)."""

    def support(self, products: npt.NDArray[np.intp]) -> Any:
        """Baskets with both, sparse (n_products, n_items); with itself: all of a product's."""
        return self._of_product[products] @ self._baskets

    def shares(self, products: npt.NDArray[np.intp]) -> Any:
        """Sum of weight/(n - 1) over the baskets with both, its entries placed as in `support`."""
        return self._of_product[products] @ self._shares


def count_pairs(corpus: Corpus, n_items: int, strongest: int = STRONGEST) -> Pairs:
    """The `strongest` companions by probability of all `n_items` products."""
    counter = PairCounter(corpus, n_items)
    blocks = [
        _strongest(counter, np.arange(start, min(start + BLOCK, n_items)), strongest)
        for start in range(0, n_items, BLOCK)
    ]
    counts, rows, support, probability = (
        np.concatenate(part) for part in zip(*blocks, strict=True)
    )
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Pairs(offsets, rows, support, probability)


def write_pairs(pairs: Pairs, path: str | Path) -> None:
    """Write the pairs as the directory `path` of pair_NAME.npy files, whole or not at all."""
    with written_aside(path) as aside:
        aside.mkdir(parents=True)
        for name, array in vars(pairs).items():
            np.save(aside / f"pair_{name}.npy", array)


def read_pairs(path: str | Path) -> Pairs:
    """The pairs that `write_pairs` wrote to the directory `path`."""
    names = ("offsets", "rows", "support", "probability")
    return Pairs(**{name: np.load(Path(path) / f"pair_{name}.npy") for name in names})


def _strongest(
    counter: PairCounter, products: npt.NDArray[np.intp], strongest: int
) -> tuple[npt.NDArray[np.int64], Ints, Ints, Floats]:
    support, shares = counter.support(products), counter.shares(products)
    kept = np.flatnonzero(_above_threshold(shares, products, strongest))
    product = np.repeat(np.arange(len(products)), np.diff(shares.indptr))[kept]
    order = np.lexsort((shares.indices[kept], -shares.data[kept], product))
    # What was kept may hold more than `strongest` where several tie at the threshold.
    starts = np.searchsorted(product, np.arange(len(products)))
    rank = np.arange(len(kept)) - starts[product]
    chosen = kept[order[rank < strongest]]
    counts = np.bincount(product[order[rank < strongest]], minlength=len(products))
    probability = shares.data[chosen] / np.repeat(counter.weight_of[products], counts)
    return (
        counts,
        shares.indices[chosen].astype(np.int32),
        support.data[chosen].astype(np.int32),
        probability.astype(np.float32),
    )


def _above_threshold(
    shares: Any, products: npt.NDArray[np.intp], strongest: int
) -> npt.NDArray[np.bool_]:
    """Entries that may be among the `strongest` of their product: sorting all would take longest.

    A product itself is none, neither is a pair whose baskets weigh nothing.
    """
    row = np.repeat(np.arange(len(products)), np.diff(shares.indptr))
    shares.data[shares.indices == products[row]] = 0
    thresholds = np.zeros(len(products), np.float32)
    for i, (start, end) in enumerate(zip(shares.indptr[:-1], shares.indptr[1:], strict=True)):
        if end - start > strongest:
            data = shares.data[start:end]
            thresholds[i] = np.partition(data, len(data) - strongest)[len(data) - strongest]
    kept: npt.NDArray[np.bool_] = (shares.data > 0) & (shares.data >= thresholds[row])
    return kept
