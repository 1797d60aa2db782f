"""VSKNN: the cart's nearest baskets (Ludewig and Jannach 2018).

"Evaluation of session-based recommendation algorithms" weighs the products of a session by how
late they were clicked; baskets have no order, so that products weigh by their rarity alone.
Sampling of the latest sessions, there to save time, is not needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluation.baselines import Ranker
from components.model.arrays import Float32Array, Int32Array
from pipelines.bench.peers.counting import baskets_matrix
from pipelines.bench.peers.peer import CART, ITEM, Model, Peer, Setting, TrainingData
from pipelines.bench.peers.rankers import ScoreRanker


def vsknn() -> Peer:
    """`k` baskets; similarities are divided by basket size to the power `size`."""
    pages = [(k, size) for k in (200, 500, 1000, 5000) for size in (0.375, 0.5)]
    carts = [(k, size) for k in (50, 100, 200, 500) for size in (0.25, 0.5)]
    settings = {
        task: [{"k": k, "size": size} for k, size in tried]
        for task, tried in ((ITEM, pages), (CART, carts))
    }
    rare = [{"idf": one} for one in (0.0, 0.5, 1.0)]
    return Peer("VSKNN", _fit, settings, {ITEM: rare, CART: rare})


@dataclass(frozen=True)
class _Baskets:
    baskets: Any
    """Sparse ones (n_baskets, n_items)."""
    by_product: Any
    """Sparse (n_items, n_baskets): what a product of the cart adds to a basket's similarity."""
    idf: Float32Array
    """(n_items,)"""
    k: int

    @property
    def n_bytes(self) -> int:
        return int(8 * self.baskets.nnz + 4 * sum(self.baskets.shape))

    def ranker(self, mode: Setting) -> Ranker:
        weights = self.idf ** mode["idf"]
        return ScoreRanker(lambda queries: self._score(queries) * weights)

    def _score(self, queries: Sequence[Int32Array]) -> Float32Array:
        from scipy.sparse import csr_matrix

        items, offsets = np.concatenate(queries), np.cumsum([0, *map(len, queries)])
        shape = (len(queries), len(self.idf))
        similar = csr_matrix((self.idf[items], items, offsets), shape=shape) @ self.by_product
        _keep_largest(similar, self.k)
        scores: Float32Array = (similar @ self.baskets).toarray()
        return scores


def _keep_largest(matrix: Any, k: int) -> None:
    """The others of every row become 0."""
    for start, end in zip(matrix.indptr, matrix.indptr[1:], strict=False):
        if end - start > k:
            row = matrix.data[start:end]
            row[np.argpartition(row, end - start - k)[: end - start - k]] = 0
    matrix.eliminate_zeros()


def _fit(data: TrainingData, setting: Setting) -> Model:
    corpus = data.train.with_at_least(2)
    baskets = baskets_matrix(corpus, data.n_items)
    n_orders = np.bincount(corpus.items, minlength=data.n_items)
    idf = np.log(max(len(corpus), 1) / np.maximum(n_orders, 1)).astype(np.float32)
    by_product = baskets.copy()
    by_product.data = np.repeat(corpus.sizes ** -setting["size"], corpus.sizes).astype(np.float32)
    return _Baskets(baskets, by_product.T.tocsr(), idf, setting["k"])
