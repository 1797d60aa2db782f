"""EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data")."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluation.baselines import Ranker
from components.model.arrays import Float32Array, Int32Array
from pipelines.bench.peers.counting import count_together
from pipelines.bench.peers.peer import CART, ITEM, Model, Peer, Setting, TrainingData
from pipelines.bench.peers.rankers import ItemItemMatrix, ScoreRanker

MOST_PRODUCTS = 10_000
"""Of the most bought. The dense matrix of all their pairs has 0.4 GB, up to three exist at a time,
and one setting takes half a CPU minute; time grows with the cube."""


def ease() -> Peer:
    """Pairs beyond the most bought products have the weights of regressions on one product."""
    # Strong regularisation favours popular products, which helps for items, less so for carts.
    pages = [{"ridge": one} for one in (200, 800, 1600, 3200, 6400, 12800, 25600, 51200)]
    carts = [{"ridge": one} for one in (2, 5, 10, 20, 50, 100, 200, 800)]
    modes = {ITEM: [{"fuse": "sum"}], CART: [{"fuse": "sum"}]}
    return Peer("EASE", _fit, {ITEM: pages, CART: carts}, modes)


@dataclass(frozen=True)
class _Weights:
    head: Float32Array
    """(n_head, n_head), a row per query item."""
    rest: ItemItemMatrix
    """Of pairs outside the head, (n_items, n_items)."""

    @property
    def n_bytes(self) -> int:
        return self.head.nbytes + self.rest.n_bytes

    def ranker(self, mode: Setting) -> Ranker:
        return ScoreRanker(lambda queries: self._sums(queries, mode))

    def _sums(self, queries: Sequence[Int32Array], mode: Setting) -> Float32Array:
        n_head = len(self.head)
        scores = self.rest.score(queries, mode)
        for row, query in zip(scores, queries, strict=True):
            row[:n_head] += self.head[query[query < n_head]].sum(axis=0)
        return scores


def _fit(data: TrainingData, setting: Setting) -> Model:
    together, n_orders = count_together(data)
    ridge = np.float32(setting["ridge"])
    head = together[:MOST_PRODUCTS, :MOST_PRODUCTS].toarray(order="F")
    head[np.diag_indices_from(head)] = n_orders[: len(head)] + ridge
    rest = _drop_head(together, len(head))
    rest.data /= np.repeat(n_orders + ridge, np.diff(rest.indptr))
    return _Weights(_invert(head, setting), ItemItemMatrix(rest))


def _drop_head(together: Any, n_head: int) -> Any:
    lines = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
    together.data[(lines < n_head) & (together.indices < n_head)] = 0
    together.eliminate_zeros()
    return together


def _invert(gram: Float32Array, setting: Setting) -> Float32Array:
    """The weights, in the memory of `gram`."""
    from scipy.linalg import lapack

    # For symmetric positive definite matrices: half the work of a general inverse, in place.
    factor, failed = lapack.spotrf(gram, lower=True, overwrite_a=True)
    inverse, failed_too = lapack.spotri(factor, lower=True, overwrite_c=True)
    if failed or failed_too:
        raise FloatingPointError(f"EASE: the Gram matrix with {setting} has no inverse")
    inverse = np.tril(inverse)
    inverse += np.tril(inverse, -1).T
    diagonal = np.diag(inverse).copy()
    inverse /= -diagonal[None, :]
    np.fill_diagonal(inverse, 0)
    return np.ascontiguousarray(inverse)
