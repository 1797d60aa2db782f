"""What was bought together how often: counts, size-weighted probabilities, and their strongest.

A pair counts 1/(n - 1) in a basket of n products, so that every basket spreads one unit per product
over its companions: the hundred products of a monthly shop say less about each other than the two
of a quick one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.baskets.corpus import Corpus
from components.model.arrays import Float32Array, Int32Array, Int64Array, IntpArray
from components.model.atomic import atomic_write
from components.model.bundle import load_array
from components.spark import Mapper, map_in_process, split_into_ranges

MAX_COMPANIONS = 200
"""Pairs kept per product: ten times what a page shows, at 2.4 kB a product."""

BLOCK = 2_000
"""Products counted at once: bounds memory by their companions, not by the catalogue squared."""

HEAD_SIZE = 8_000
"""Most bought products of which all pairs are counted: 256 MB, however large the catalogue."""

NO_COMPANION = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Pairs:
    """The strongest companions of every product, as the bundle keeps them.

    `rows[offsets[i]:offsets[i + 1]]` are product i's companions, most probable first; `support` are
    baskets with both, `probability` the size-weighted P(companion | product).
    """

    offsets: Int64Array
    rows: Int32Array
    support: Int32Array | Float32Array
    probability: Float32Array


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
        # One product of matrices counts both: baskets as real part, shares as imaginary part.
        counted = np.ones(len(rows), np.complex64)
        counted.imag = np.repeat(corpus.weights / np.maximum(sizes - 1, 1), sizes)
        shape = (len(corpus), n_items)
        self._baskets = csr_array((counted, rows, offsets), shape=shape)
        ones = csr_array((np.ones(len(rows), np.float32), rows, offsets), shape=shape)
        self._of_product = ones.T.tocsr()
        self.product_weights = self._of_product @ corpus.weights
        """Sum of the weights of every product's baskets, (n_items,)."""

    def count(self, products: IntpArray | slice) -> Any:
        """Sparse complex64 (n_products, n_items), columns in no order, over the baskets with both.

        Real is their number (support); with itself: all of a product's. Imaginary is the sum of
        weight/(n - 1) (shares).
        """
        return self._of_product[products] @ self._baskets

    def support(self, products: IntpArray) -> Any:
        """Baskets with both, sparse (n_products, n_items); with itself: all of a product's."""
        return self.count(products).real

    def shares(self, products: IntpArray) -> Any:
        """Sum of weight/(n - 1) over the baskets with both, its entries placed as in `support`."""
        return self.count(products).imag


class OrderedPairCounter(PairCounter):
    """Counts alike, but shares only what lies near: weight/places apart, up to `reach` places.

    The corpus' items must be in the order in which baskets grew.
    """

    def __init__(self, corpus: Corpus, n_items: int, reach: int) -> None:
        from scipy.sparse import csr_array

        super().__init__(corpus, n_items)
        basket = np.repeat(np.arange(len(corpus)), corpus.sizes)
        near = csr_array((n_items, n_items), dtype=np.float32)
        for places in range(1, reach + 1):
            same = np.flatnonzero(basket[places:] == basket[:-places])
            one, other = corpus.items[same], corpus.items[same + places]
            worth = corpus.weights[basket[same]] / np.float32(places)
            near = near + csr_array((worth, (one, other)), shape=near.shape)
        self._near = (near + near.T).tocsr()
        self.product_weights = np.asarray(self._near.sum(axis=1)).ravel()

    def count(self, products: IntpArray | slice) -> Any:
        """As `PairCounter.count`, the imaginary part by places apart; 0 where that is too far."""
        counted = super().count(products)
        counted.data.imag = 0
        return counted + 1j * self._near[products]


def make_pair_counter(corpus: Corpus, n_items: int, reach: int = 0) -> PairCounter:
    """By baskets, or where `reach` is above 0 by places inside them."""
    return OrderedPairCounter(corpus, n_items, reach) if reach else PairCounter(corpus, n_items)


def count_pairs(
    corpus: Corpus,
    n_items: int,
    max_companions: int = MAX_COMPANIONS,
    mapper: Mapper = map_in_process,
    reach: int = 0,
) -> Pairs:
    """The `max_companions` companions by probability of all `n_items` products; see `make_pair_counter`."""
    shared = (make_pair_counter(corpus, n_items, reach), max_companions)
    blocks = list(
        zip(*mapper(_find_strongest, shared, split_into_ranges(n_items, BLOCK)), strict=True)
    )
    # Column by column, so that no more than one is held twice.
    counts, rows, support, probability = (np.concatenate(blocks.pop(0)) for _ in range(4))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Pairs(offsets, rows, support, probability)


def compute_shares(pairs: Pairs, corpus: Corpus, n_items: int) -> Float32Array:
    """What the `pairs` of that corpus have in common, (n_pairs,): their probability times all."""
    corpus = corpus.with_at_least(2)
    product_weights = np.bincount(corpus.items, np.repeat(corpus.weights, corpus.sizes), n_items)
    shares = np.repeat(product_weights.astype(np.float64), np.diff(pairs.offsets))
    shares *= pairs.probability
    return shares.astype(np.float32)


def count_head(corpus: Corpus, n_items: int, largest: int = HEAD_SIZE) -> Float32Array:
    """Weight of the baskets with both, of all pairs of the `largest` first (most bought); dense."""
    from scipy.sparse import csr_array

    corpus = corpus.with_at_least(2)
    n_head = min(largest, n_items)
    kept = corpus.items < n_head
    basket = np.repeat(np.arange(len(corpus)), corpus.sizes)[kept]
    shape = (len(corpus), n_head)
    roots = np.sqrt(corpus.weights)[basket]
    baskets = csr_array((roots, (basket, corpus.items[kept])), shape=shape)
    of_product = baskets.T.tocsr()
    head = np.zeros((n_head, n_head), np.float32)
    for part in split_into_ranges(n_head, BLOCK):
        mine = slice(part.start, part.stop)
        (of_product[mine] @ baskets).toarray(out=head[mine])
    return head


def write_pairs(pairs: Pairs, path: str | Path) -> None:
    """Write the pairs as the directory `path` of pair_NAME.npy files, whole or not at all."""
    with atomic_write(path) as aside:
        aside.mkdir(parents=True)
        for name, array in vars(pairs).items():
            np.save(aside / f"pair_{name}.npy", array)


def read_pairs(path: str | Path) -> Pairs:
    """The pairs that `write_pairs` wrote to the directory `path`, memory-mapped."""
    names = ("offsets", "rows", "support", "probability")
    return Pairs(**{name: load_array(Path(path) / f"pair_{name}.npy") for name in names})


def _find_strongest(
    shared: tuple[PairCounter, int], products: range
) -> tuple[Int64Array, Int32Array, Int32Array, Float32Array]:
    """How many, and rows, support and probability of the strongest companions of `products`."""
    counter, max_companions = shared
    counted = counter.count(slice(products.start, products.stop))
    keys = _build_sort_keys(counted, products)
    bounds = zip(counted.indptr[:-1], counted.indptr[1:], strict=True)
    best = [start + _find_smallest(keys[start:end], max_companions) for start, end in bounds]
    counts = np.array([len(one) for one in best], np.int64)
    chosen = np.concatenate(best)
    weights = np.repeat(counter.product_weights[products.start : products.stop], counts)
    return (
        counts,
        counted.indices[chosen].astype(np.int32),
        counted.data.real[chosen].astype(np.int32),
        (counted.data.imag[chosen] / weights).astype(np.float32),
    )


def _build_sort_keys(counted: Any, products: range) -> Int64Array:
    """Keys that sort every product's companions: the largest share first, ties by row.

    A product itself is no companion, neither is one whose baskets weigh nothing: NO_COMPANION.
    """
    rows = np.arange(products.start, products.stop, dtype=counted.indices.dtype)
    own = np.repeat(rows, np.diff(counted.indptr))
    # Floats that are not negative sort as their bits do: sorting integers is several times faster.
    bits = np.ascontiguousarray(counted.data.imag).view(np.int32)
    keys = (np.iinfo(np.int32).max - bits).astype(np.int64)
    keys <<= 32
    keys |= counted.indices
    keys[(counted.indices == own) | (bits <= 0)] = NO_COMPANION
    return keys


def _find_smallest(keys: Int64Array, n: int) -> IntpArray:
    """Places of the `n` smallest keys in order, without NO_COMPANION."""
    if len(keys) > n:
        nearest = np.argpartition(keys, n)[:n]
        best = nearest[np.argsort(keys[nearest])]
    else:
        best = np.argsort(keys)
    found: IntpArray = best[: np.searchsorted(keys[best], NO_COMPANION)]
    return found
