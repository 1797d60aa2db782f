"""Baselines that a model must beat."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from components.baskets.corpus import Corpus
from components.model.arrays import Float32Array, Int32Array, Int64Array, IntpArray
from components.model.item_ranking import BLOCK
from components.model.top_k import rank_columns


class Ranker(Protocol):
    """Ranks the catalogue for queries, as `Recommender.rank` does."""

    def rank(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]: ...


class Popularity:
    def __init__(self, n_orders: Int64Array) -> None:
        self._n_orders = n_orders.astype(np.float32)

    def rank(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        """Scores are orders."""
        # The best k others are among the best k + queried products.
        depth = min(k + max(map(len, queries), default=0), len(self._n_orders))
        scores = np.tile(self._n_orders[:depth], (len(queries), 1))
        for row, query in zip(scores, queries, strict=True):
            row[query[query < depth]] = -np.inf
        return rank_columns(scores, k)


class BasketCounts:
    """Counts of baskets by code that the model does not share."""

    def __init__(self, corpus: Corpus, n_items: int) -> None:
        from scipy.sparse import csr_array

        corpus = corpus.with_at_least(2)
        # scipy keeps the index type of its inputs: 32 bits halve the memory.
        narrow = np.int32 if len(corpus.items) < np.iinfo(np.int32).max else np.int64
        rows, offsets = corpus.items.astype(narrow), corpus.offsets.astype(narrow)
        ones = np.ones(len(rows), np.float32)
        self._baskets = csr_array((ones, rows, offsets), shape=(len(corpus), n_items))
        self._by_product = self._baskets.T.tocsr()
        self.n_orders = np.diff(self._by_product.indptr).astype(np.float32)
        """Baskets of every product, (n_items,)."""

    def support(self, products: IntpArray) -> Any:
        """Baskets with both, sparse (n_products, n_items)."""
        return self._by_product[products] @ self._baskets


class _SupportRanker:
    """Ranks by a similarity computed from support, summed over a cart."""

    def __init__(self, basket_counts: BasketCounts) -> None:
        self._counts = basket_counts

    def rank(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        products = distinct_products(queries)
        support = self._counts.support(products)
        rows = np.repeat(products, np.diff(support.indptr))
        support.data = support.data / self._normaliser(rows, support.indices)
        return rank_sums(support, products, queries, k)

    def _normaliser(self, rows: IntpArray, others: Int32Array) -> Float32Array:
        raise NotImplementedError


class Cooccurrence(_SupportRanker):
    """P(other | row); stronger than size-weighted counts (demo data, item task: .101, .093)."""

    def _normaliser(self, rows: IntpArray, others: Int32Array) -> Float32Array:
        n_orders: Float32Array = self._counts.n_orders[rows]
        return n_orders


class Cosine(_SupportRanker):
    def _normaliser(self, rows: IntpArray, others: Int32Array) -> Float32Array:
        cosine: Float32Array = np.sqrt(self._counts.n_orders[rows] * self._counts.n_orders[others])
        return cosine


def distinct_products(queries: Sequence[Int32Array]) -> IntpArray:
    return np.unique(np.concatenate([np.empty(0, np.intp), *queries])).astype(np.intp)


def rank_sums(
    similar: Any,
    products: IntpArray,
    queries: Sequence[Int32Array],
    k: int,
    weights: Callable[[int], Float32Array] | None = None,
) -> tuple[Int64Array, Float32Array]:
    """Rank by the weighted sum of a query's rows in `similar`, sparse (n_products, n_items)."""
    from scipy.sparse import csr_array

    rows = np.full((len(queries), k), -1, np.int64)
    best = np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        columns = np.searchsorted(products, np.concatenate(block))
        offsets = np.concatenate([[0], np.cumsum([len(query) for query in block])])
        counts = np.ones(len(columns), np.float32)
        if weights is not None:
            counts = np.concatenate([weights(len(query)) for query in block])
        asked = csr_array((counts, columns, offsets), shape=(len(block), len(products)))
        scores = (asked @ similar).toarray()
        for row, query in zip(scores, block, strict=True):
            row[query] = -np.inf
        rows[start : start + BLOCK], best[start : start + BLOCK] = rank_columns(scores, k)
    return rows, best
