"""EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data")."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.evaluation.baselines import Ranker
from components.model.arrays import Float32Array, Int32Array
from pipelines.bench.peers.counting import count_together
from pipelines.bench.peers.peer import CART, ITEM, Model, Peer, Setting, TrainingData
from pipelines.bench.peers.rankers import ScoreRanker

MOST_PRODUCTS = 10_000
"""The dense matrix of all pairs has 0.4 GB, up to three exist at a time, and one setting takes half
a CPU minute; time grows with the cube."""


def ease() -> Peer:
    # Strong regularisation favours popular products, which helps for items, less so for carts.
    pages = [{"ridge": one} for one in (200, 800, 1600, 3200, 6400, 12800, 25600, 51200)]
    carts = [{"ridge": one} for one in (2, 5, 10, 20, 50, 100, 200, 800)]
    modes = {ITEM: [{"fuse": "sum"}], CART: [{"fuse": "sum"}]}
    return Peer(
        "EASE", _fit, {ITEM: pages, CART: carts}, modes, unavailable_reason=_unavailable_reason
    )


def _unavailable_reason(data: TrainingData) -> str:
    if data.n_items <= MOST_PRODUCTS:
        return ""
    gb = 4 * data.n_items**2 / 1e9
    return (
        f"{data.n_items} products make dense matrices of {gb:.1f} GB each; the limit is "
        f"{MOST_PRODUCTS} products"
    )


@dataclass(frozen=True)
class _Dense:
    weights: Float32Array
    """(n_items, n_items), a row per query item."""

    @property
    def n_bytes(self) -> int:
        return self.weights.nbytes

    def ranker(self, mode: Setting) -> Ranker:
        return ScoreRanker(self._sums)

    def _sums(self, queries: Sequence[Int32Array]) -> Float32Array:
        return np.stack([self.weights[query].sum(axis=0) for query in queries])


def _fit(data: TrainingData, setting: Setting) -> Model:
    from scipy.linalg import lapack

    together, n_orders = count_together(data)
    gram = together.toarray(order="F")
    gram[np.diag_indices_from(gram)] = n_orders + np.float32(setting["ridge"])
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
    return _Dense(np.ascontiguousarray(inverse))
