"""Ranking by an item-item matrix, or by item vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluation.baselines import Ranker
from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.item_ranking import BLOCK
from components.model.top_k import rank_columns
from pipelines.bench.peers.peer import CART, ITEM, Setting

FUSIONS: dict[str, Any] = {"sum": np.add, "max": np.maximum}

DENSE = 0.1
"""Share of non-zero entries above which dense rows are faster."""

SUM_OR_MAX = {ITEM: [{"fuse": "sum"}], CART: [{"fuse": "sum"}, {"fuse": "max"}]}


@dataclass(frozen=True)
class ScoreRanker:
    """By scores (n_queries, n_items) of blocks of queries; ties go to the more popular product."""

    score: Callable[[Sequence[Int32Array]], Float32Array]

    def rank(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        rows = np.full((len(queries), k), -1, np.int64)
        best = np.full((len(queries), k), -np.inf, np.float32)
        for start in range(0, len(queries), BLOCK):
            block = queries[start : start + BLOCK]
            scores = self.score(block)
            for row, query in zip(scores, block, strict=True):
                row[query] = -np.inf
            rows[start : start + BLOCK], best[start : start + BLOCK] = rank_columns(scores, k)
        return rows, best


class ItemItemMatrix:
    """Sparse similarities (n_items, n_items), a row per query item."""

    def __init__(self, similar: Any) -> None:
        self._similar = similar
        # Only small catalogues are dense, so that the dense rows of a block are small.
        self._is_dense = similar.nnz > DENSE * similar.shape[0] * similar.shape[1]

    @property
    def n_bytes(self) -> int:
        """A float32 and an int32 per entry, and an offset per product."""
        return int(8 * self._similar.nnz + 8 * self._similar.shape[0])

    def ranker(self, mode: Setting) -> Ranker:
        return ScoreRanker(lambda queries: self._scores(queries, FUSIONS[mode["fuse"]]))

    def _scores(self, queries: Sequence[Int32Array], fuse: Any) -> Float32Array:
        return (self._score_dense if self._is_dense else self._score_sparse)(queries, fuse)

    def _score_sparse(self, queries: Sequence[Int32Array], fuse: Any) -> Float32Array:
        similar = self._similar
        scores = np.zeros((len(queries), similar.shape[1]), np.float32)
        for row, query in zip(scores, queries, strict=True):
            for product in query:
                mine = slice(similar.indptr[product], similar.indptr[product + 1])
                columns = similar.indices[mine]
                row[columns] = fuse(row[columns], similar.data[mine])
        return scores

    def _score_dense(self, queries: Sequence[Int32Array], fuse: Any) -> Float32Array:
        """By dense rows of the items of a block."""
        products, places = np.unique(np.concatenate(queries), return_inverse=True)
        rows = self._similar[products].toarray()
        ends = np.cumsum([len(query) for query in queries])
        fused: Float32Array = np.stack(
            [fuse.reduce(rows[cart]) for cart in np.split(places, ends[:-1])]
        )
        return fused


class ItemVectors:
    """Item vectors (n_items, dims).

    `fold(queries)` returns the user vectors (n_queries, dims) of carts as new users; `bias`
    (n_items,) is added to their scores.
    """

    def __init__(
        self,
        vectors: Float32Array,
        fold: Callable[[Sequence[Int32Array]], Float32Array] | None = None,
        bias: Float32Array | None = None,
        extra_bytes: int = 0,
    ) -> None:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = vectors
        self._unit = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
        self._fold, self._bias, self._extra_bytes = fold, bias, extra_bytes

    @property
    def n_bytes(self) -> int:
        bias = self._bias.nbytes if self._bias is not None else 0
        return self._vectors.nbytes + bias + self._extra_bytes

    def ranker(self, mode: Setting) -> Ranker:
        """`by`: fold, or the cosine, inner or biased product of items; `fuse`: sum or max."""
        if mode["by"] == "fold":
            return ScoreRanker(self._fold_in_scores)
        items = self._unit if mode["by"] == "cosine" else self._vectors
        bias = self._bias if mode["by"] == "biased" else None
        return ScoreRanker(
            lambda queries: _inner_products(items, queries, mode.get("fuse", "sum"), bias)
        )

    def _fold_in_scores(self, queries: Sequence[Int32Array]) -> Float32Array:
        assert self._fold is not None
        scores: Float32Array = self._fold(queries) @ self._vectors.T
        return scores if self._bias is None else scores + self._bias


def _inner_products(
    items: Float32Array, queries: Sequence[Int32Array], fuse: str, bias: Float32Array | None
) -> Float32Array:
    scores: Float32Array
    if fuse == "max":
        scores = np.stack([(items[query] @ items.T).max(axis=0) for query in queries])
    else:
        # The sum of inner products is the inner product of the sum.
        scores = np.stack([items[query].sum(axis=0) for query in queries]) @ items.T
    return scores if bias is None else scores + bias
