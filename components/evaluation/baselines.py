"""Baselines that a model must beat."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from components.baskets.corpus import Corpus
from components.evaluation.excess import compute_shares
from components.model.arrays import Float32Array, Int32Array, Int64Array, IntpArray
from components.model.item_ranking import BLOCK
from components.model.top_k import rank_columns

CHANCE_SIZE_EXPONENT = 0.75  # Pairs of large baskets are mostly chance; .5 is as good
CHANCE_SHRINKAGE = 5.0  # Baskets added to a product's: rare products of a cart weigh less


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

    def __init__(self, corpus: Corpus, n_items: int, size_exponent: float = 0.0) -> None:
        """A basket of n products counts (n - 1)**-size_exponent."""
        from scipy.sparse import csr_array

        corpus = corpus.with_at_least(2)
        others = corpus.sizes - 1.0
        weights = others**-size_exponent
        # scipy keeps the index type of its inputs: 32 bits halve the memory.
        narrow = np.int32 if len(corpus.items) < np.iinfo(np.int32).max else np.int64
        rows, offsets = corpus.items.astype(narrow), corpus.offsets.astype(narrow)
        ones = np.ones(len(rows), np.float32)
        baskets = csr_array((ones, rows, offsets), shape=(len(corpus), n_items))
        self._by_product = baskets.T.tocsr()
        self._baskets = baskets
        if size_exponent:
            counted = np.repeat(weights, corpus.sizes).astype(np.float32)
            self._baskets = csr_array((counted, rows, offsets), shape=baskets.shape)
        self.n_orders = (self._by_product @ weights).astype(np.float32)
        """Baskets of every product, (n_items,)."""
        self.n_others = (self._by_product @ (weights * others)).astype(np.float32)
        """Lines beside every product in its baskets, (n_items,)."""
        self.shares = compute_shares(corpus, n_items).astype(np.float32)

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
        support.data = self._score(support.data, rows, support.indices)
        return rank_sums(support, products, queries, k)

    def _score(self, support: Float32Array, rows: IntpArray, others: Int32Array) -> Float32Array:
        """(n,) of pairs with `support`."""
        raise NotImplementedError


class Cooccurrence(_SupportRanker):
    """P(other | row); stronger than size-weighted counts (demo data, item task: .101, .093)."""

    def _score(self, support: Float32Array, rows: IntpArray, others: Int32Array) -> Float32Array:
        probability: Float32Array = support / self._counts.n_orders[rows]
        return probability


class Cosine(_SupportRanker):
    def _score(self, support: Float32Array, rows: IntpArray, others: Int32Array) -> Float32Array:
        n_orders = self._counts.n_orders
        cosine: Float32Array = support / np.sqrt(n_orders[rows] * n_orders[others])
        return cosine


class CountsMinusChance(_SupportRanker):
    """Baskets with both beyond those expected by chance, per basket of the product.

    By chance, every line beside a product is any other with the probability of its share. The
    strongest simple baseline of excess NDCG (demo data, item task: .075, co-occurrence .056).
    """

    def __init__(self, corpus: Corpus, n_items: int) -> None:
        super().__init__(BasketCounts(corpus, n_items, CHANCE_SIZE_EXPONENT))

    def _score(self, support: Float32Array, rows: IntpArray, others: Int32Array) -> Float32Array:
        counts = self._counts
        beyond = support - counts.shares[others] * counts.n_others[rows]
        score: Float32Array = beyond / (counts.n_orders[rows] + np.float32(CHANCE_SHRINKAGE))
        return score


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
