"""SLIM (Ning and Karypis 2011, "SLIM: Sparse linear methods for top-n recommender systems").

Each product is regressed on its nearest products (fsSLIM of the paper): non-negative weights under
an L1 and an L2 penalty. Time and the model are linear in products.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from components.model.arrays import Float32Array, Int64Array
from pipelines.bench.peers.counting import count_together
from pipelines.bench.peers.peer import Model, Peer, Setting, TrainingData, for_both_tasks
from pipelines.bench.peers.rankers import ItemItemMatrix

N_NEAREST = 200
"""Products that a product is regressed on, by cosine; 100 lose 3 % NDCG of carts (demo data)."""

MOST_PREDICTORS = 30_000
"""Products regressed on are among the most bought: counts of all their pairs have 3.6 GB."""

BLOCK = 128
"""Products fitted together; their counts have 20 MB."""

MOST_SWEEPS, TOLERANCE = 30, 1e-3
"""Of coordinate descent, which ends when no weight changes by more."""


def slim() -> Peer:
    # Two less than allowed: half a CPU minute each for 25,000 products.
    tried = [(0, 5), (1, 20), (0, 50), (1, 50), (0, 400), (0, 6400)]
    settings = [{"l1": l1, "l2": l2} for l1, l2 in tried]
    return Peer("SLIM", _fit, for_both_tasks(settings), for_both_tasks([{"fuse": "sum"}]))


def _fit(data: TrainingData, setting: Setting) -> Model:
    from scipy.sparse import csr_array

    together, n_orders = count_together(data)
    head = together[:MOST_PREDICTORS, :MOST_PREDICTORS].toarray()
    np.fill_diagonal(head, n_orders[: len(head)])
    nearest, support = _find_nearest(together[:, : len(head)], n_orders)
    weights = np.zeros_like(support)
    for start in range(0, len(weights), BLOCK):
        block = slice(start, start + BLOCK)
        pairs = nearest[block, :, None] * len(head) + nearest[block, None, :]
        gram = head.reshape(-1).take(pairs)
        weights[block] = _descend(gram, support[block], setting["l1"], setting["l2"])
    targets, places = np.nonzero(weights)
    fitted = weights[targets, places], (nearest[targets, places], targets)
    return ItemItemMatrix(csr_array(fitted, shape=together.shape))


def _find_nearest(together: Any, n_orders: Float32Array) -> tuple[Int64Array, Float32Array]:
    """By product, its nearest products and their support, (n_items, N_NEAREST) each.

    Those that a product has too few of have no support, and so get no weight.
    """
    nearest = np.zeros((together.shape[0], N_NEAREST), np.int64)
    support = np.zeros(nearest.shape, np.float32)
    for product, (start, end) in enumerate(pairwise(together.indptr)):
        others, counts = together.indices[start:end], together.data[start:end]
        # Cosine, but for the product's own orders, a constant.
        best = np.argsort(-counts / np.sqrt(n_orders[others]))[:N_NEAREST]
        nearest[product, : len(best)], support[product, : len(best)] = others[best], counts[best]
    return nearest, support


def _descend(gram: Float32Array, support: Float32Array, l1: float, l2: float) -> Float32Array:
    """Weights (n, k) for `gram` (n, k, k), by cyclic coordinate descent."""
    weights = np.zeros_like(support)
    own = np.einsum("nkk->nk", gram)
    for _ in range(MOST_SWEEPS):
        before = weights.copy()
        for i in range(support.shape[1]):
            explained = np.einsum("nk,nk->n", gram[:, i], weights) - own[:, i] * weights[:, i]
            left = support[:, i] - explained - np.float32(l1)
            weights[:, i] = np.maximum(left, 0) / (own[:, i] + np.float32(l2))
        if np.abs(weights - before).max() <= TOLERANCE:
            break
    return weights
