"""Co-occurrence: pair counts, size-weighted probabilities, and the strongest companions.

A pair in a basket of n products weighs 1/(n - 1): pairs of large baskets are mostly chance.
"""

from pathlib import Path
from typing import Any

import numpy as np

from components.baskets.corpus import Corpus
from components.model.arrays import Float32Array, Int32Array, Int64Array, IntpArray
from components.model.atomic import atomic_write
from components.model.bundle import Pairs
from components.spark import Mapper, map_in_process, split_into_ranges

MAX_COMPANIONS = 200  # 2.4 kB a product

BLOCK = 2_000  # Products counted at once: bounds memory

HEAD_SIZE = 8_000  # Most bought products with a dense matrix of all their pairs: 256 MB

NO_COMPANION = np.iinfo(np.int64).max


class PairCounter:
    """Over the baskets of at least two products."""

    def __init__(self, corpus: Corpus, n_items: int) -> None:
        from scipy.sparse import csr_array

        corpus = corpus.with_at_least(2)
        sizes = corpus.sizes
        # scipy keeps the index type of its inputs: 32 bits halve the memory.
        index_type = np.int32 if len(corpus.items) < np.iinfo(np.int32).max else np.int64
        rows, offsets = corpus.items.astype(index_type), corpus.offsets.astype(index_type)
        # One complex matrix product counts both: support (real) and shares (imaginary).
        counted = np.ones(len(rows), np.complex64)
        counted.imag = np.repeat(corpus.weights / np.maximum(sizes - 1, 1), sizes)
        shape = (len(corpus), n_items)
        self._baskets = csr_array((counted, rows, offsets), shape=shape)
        ones = csr_array((np.ones(len(rows), np.float32), rows, offsets), shape=shape)
        self._by_product = ones.T.tocsr()
        self.product_weights = self._by_product @ corpus.weights
        """Sum of basket weights per product, (n_items,)."""

    def count(self, products: IntpArray | slice) -> Any:
        """Sparse complex64 (n_products, n_items), columns unsorted, diagonal included.

        Over the baskets with both: their number (support) is real, the sum of weight/(n - 1)
        (shares) imaginary.
        """
        return self._by_product[products] @ self._baskets

    def shares(self, products: IntpArray) -> Any:
        return self.count(products).imag


class OrderedPairCounter(PairCounter):
    """Shares are weight/distance, up to a distance of `reach`; items must be in basket order."""

    def __init__(self, corpus: Corpus, n_items: int, reach: int) -> None:
        from scipy.sparse import csr_array

        super().__init__(corpus, n_items)
        basket = np.repeat(np.arange(len(corpus)), corpus.sizes)
        near = csr_array((n_items, n_items), dtype=np.float32)
        for distance in range(1, reach + 1):
            same = np.flatnonzero(basket[distance:] == basket[:-distance])
            one, other = corpus.items[same], corpus.items[same + distance]
            weights = corpus.weights[basket[same]] / np.float32(distance)
            near = near + csr_array((weights, (one, other)), shape=near.shape)
        self._near = (near + near.T).tocsr()
        self.product_weights = np.asarray(self._near.sum(axis=1)).ravel()

    def count(self, products: IntpArray | slice) -> Any:
        counted = super().count(products)
        counted.data.imag = 0
        return counted + 1j * self._near[products]


def make_pair_counter(corpus: Corpus, n_items: int, reach: int = 0) -> PairCounter:
    return OrderedPairCounter(corpus, n_items, reach) if reach else PairCounter(corpus, n_items)


def count_pairs(
    corpus: Corpus, n_items: int, max_companions: int = MAX_COMPANIONS,
    mapper: Mapper = map_in_process, reach: int = 0,
) -> Pairs:  # fmt: skip
    shared = (make_pair_counter(corpus, n_items, reach), max_companions)
    results = mapper(_find_strongest, shared, split_into_ranges(n_items, BLOCK))
    columns = list(zip(*results, strict=True))
    # `pop` frees each column's parts before the next is joined.
    counts, rows, support, probability = (np.concatenate(columns.pop(0)) for _ in range(4))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Pairs(offsets, rows, support, probability)


def compute_shares(pairs: Pairs, corpus: Corpus, n_items: int) -> Float32Array:
    """Sums of weight/(n - 1) (n_pairs,), from probabilities of the same corpus."""
    corpus = corpus.with_at_least(2)
    product_weights = np.bincount(corpus.items, np.repeat(corpus.weights, corpus.sizes), n_items)
    shares = np.repeat(product_weights.astype(np.float64), np.diff(pairs.offsets))
    shares *= pairs.probability
    return shares.astype(np.float32)


def count_head(corpus: Corpus, n_items: int, largest: int = HEAD_SIZE) -> Float32Array:
    """Weights of the baskets with both, (n, n), for the `largest` most bought products."""
    from scipy.sparse import csr_array

    corpus = corpus.with_at_least(2)
    n_head = min(largest, n_items)
    kept = corpus.items < n_head
    basket = np.repeat(np.arange(len(corpus)), corpus.sizes)[kept]
    roots = np.sqrt(corpus.weights)[basket]
    baskets = csr_array((roots, (basket, corpus.items[kept])), shape=(len(corpus), n_head))
    by_product = baskets.T.tocsr()
    head = np.zeros((n_head, n_head), np.float32)
    for part in split_into_ranges(n_head, BLOCK):
        block = slice(part.start, part.stop)
        (by_product[block] @ baskets).toarray(out=head[block])
    return head


def write_pairs(pairs: Pairs, path: str | Path) -> None:
    with atomic_write(path) as aside:
        aside.mkdir(parents=True)
        pairs.save(aside)


def _find_strongest(
    shared: tuple[PairCounter, int], products: range
) -> tuple[Int64Array, Int32Array, Int32Array, Float32Array]:
    """Number of companions of each of `products`, and their rows, support and probability."""
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
    """Ascending by descending share, then row; NO_COMPANION for itself and 0 shares."""
    rows = np.arange(products.start, products.stop, dtype=counted.indices.dtype)
    own = np.repeat(rows, np.diff(counted.indptr))
    # Non-negative floats sort as their bits; integers sort several times faster.
    bits = np.ascontiguousarray(counted.data.imag).view(np.int32)
    keys = (np.iinfo(np.int32).max - bits).astype(np.int64)
    keys <<= 32
    keys |= counted.indices
    keys[(counted.indices == own) | (bits <= 0)] = NO_COMPANION
    return keys


def _find_smallest(keys: Int64Array, n: int) -> IntpArray:
    """Positions in order, without NO_COMPANION."""
    best: IntpArray = np.argpartition(keys, n)[:n] if len(keys) > n else np.arange(len(keys))
    best = best[np.argsort(keys[best])]
    return best[: np.searchsorted(keys[best], NO_COMPANION)]
