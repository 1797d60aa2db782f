"""Neighbours: for every product a small ridge regression over what is bought together with it.

Whether a product is in a basket is explained by its strongest companions at once, so that what two
of them say alike counts once; summed over a cart, that is the best single model of carts. It is
EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data") solved for each product
over its neighbourhood: cost and memory grow with the products, nothing is catalogue by catalogue.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from threadpoolctl import threadpool_limits

from components.bundle.bundle import Neighbours
from components.embeddings.cooccurrence import Pairs
from components.progress import say

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

LEVELS = 127
"""Largest int8 a weight is stored as; finer storage gained nothing."""

SHOWN_EVERY = 5_000
"""Products between two lines of progress."""


class NeighbourSettings(BaseModel):
    """Size and stiffness of the regressions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(default=100, ge=1, le=400)
    """Companions that explain a product; time grows with the cube, memory not at all."""
    kept: int = Field(default=50, ge=1, le=400)
    """Weights kept per product, the largest by size."""
    ridge: float = Field(default=50.0, gt=0)
    """Added to every companion's number of orders: what was seen rarely is believed less."""


@dataclass(frozen=True)
class _Together:
    """Pairs in both directions: `rows[offsets[i]:offsets[i + 1]]` were bought with product i."""

    offsets: npt.NDArray[np.int64]
    rows: Ints
    support: Floats
    n_orders: Floats
    place: Ints
    """Scratch (n_items,), -1 outside of `_gram`."""


def fit_neighbours(
    pairs: Pairs, n_orders: npt.NDArray[np.int64], settings: NeighbourSettings
) -> Neighbours:
    """The regressions of all products, from their strongest pairs and their orders (n_items,).

    Pairs that are not among the strongest of either product count as never bought together.
    """
    n_items = len(n_orders)
    together = _both_directions(pairs, n_orders)
    sources, targets = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    weights = [np.empty(0, np.float32)]
    # Such small systems are solved faster by one thread; several only wait for each other.
    with threadpool_limits(1):
        for target in range(n_items):
            companions, coefficients = _regression(target, together, settings)
            sources.append(companions)
            targets.append(np.full(len(companions), target, np.int32))
            weights.append(coefficients)
            if (target + 1) % SHOWN_EVERY == 0 or target + 1 == n_items:
                say(f"neighbours: {target + 1} of {n_items} products")
    return _by_source(
        np.concatenate(sources), np.concatenate(targets), np.concatenate(weights), n_items
    )


def _both_directions(pairs: Pairs, n_orders: npt.NDArray[np.int64]) -> _Together:
    from scipy.sparse import csr_array

    n_items = len(n_orders)
    support = pairs.support.astype(np.float32)
    one_way = csr_array((support, pairs.rows, pairs.offsets), shape=(n_items, n_items))
    both = one_way.maximum(one_way.T).tocsr()
    place = np.full(n_items, -1, np.int32)
    offsets = both.indptr.astype(np.int64)
    return _Together(offsets, both.indices, both.data, n_orders.astype(np.float32), place)


def _regression(
    target: int, together: _Together, settings: NeighbourSettings
) -> tuple[Ints, Floats]:
    """Companions of the target, and the weight with which each speaks for it."""
    mine = slice(together.offsets[target], together.offsets[target + 1])
    companions, counts = together.rows[mine], together.support[mine]
    # By cosine; the target's own orders are the same for all.
    similar = counts / np.sqrt(together.n_orders[companions])
    best = _largest(similar, settings.candidates)
    companions, counts = companions[best], counts[best]
    gram = _gram(companions, together)
    gram[np.diag_indices_from(gram)] += settings.ridge
    weights = np.linalg.solve(gram, counts).astype(np.float32)
    best = _largest(np.abs(weights), settings.kept)
    return companions[best], weights[best]


def _gram(companions: Ints, together: _Together) -> Floats:
    """Baskets with both of two companions (n, n); on the diagonal, their orders."""
    place, n = together.place, len(companions)
    place[companions] = np.arange(n)
    starts = together.offsets[companions]
    sizes = together.offsets[companions + 1] - starts
    flat = np.arange(sizes.sum()) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    columns = place[together.rows[flat]]
    inside = np.flatnonzero(columns >= 0)
    gram = np.zeros((n, n), np.float32)
    gram[np.repeat(np.arange(n), sizes)[inside], columns[inside]] = together.support[flat[inside]]
    gram[np.diag_indices_from(gram)] = together.n_orders[companions]
    place[companions] = -1
    return gram


def _largest(values: npt.NDArray[np.floating], n: int) -> npt.NDArray[np.intp]:
    if len(values) <= n:
        return np.arange(len(values))
    return np.argpartition(-values, n - 1)[:n]


def _by_source(sources: Ints, targets: Ints, weights: Floats, n_items: int) -> Neighbours:
    """The same weights by the product that speaks, as int8 with a scale per product."""
    order = np.lexsort((targets, -weights, sources))
    sources, targets, weights = sources[order], targets[order], weights[order]
    largest = np.zeros(n_items, np.float32)
    np.maximum.at(largest, sources, np.abs(weights))
    scales = np.where(largest > 0, largest / LEVELS, 1).astype(np.float32)
    levels = np.rint(weights / scales[sources]).astype(np.int8)
    counts = np.bincount(sources, minlength=n_items)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Neighbours(offsets, targets, levels, scales)
