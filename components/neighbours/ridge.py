"""Neighbours: for every product a small ridge regression over what is bought together with it.

Whether a product is in a basket is explained by its strongest companions at once, so that what two
of them say alike counts once; summed over a cart, that is the best single model of carts. It is
EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data") solved for each product
over its neighbourhood: cost and memory grow with the products, nothing is catalogue by catalogue.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from threadpoolctl import threadpool_limits

from components.embeddings.cooccurrence import Pairs
from components.model.arrays import (
    BoolArray,
    Float32Array,
    Float64Array,
    Int32Array,
    Int64Array,
    IntpArray,
)
from components.model.bundle import Neighbours
from components.progress import log_progress
from components.spark import Mapper, map_in_process, split_into_ranges

INT8_MAX = 127
"""Largest int8 a weight is stored as; finer storage gained nothing."""

BLOCK = 1_000
"""Products fitted by one call: a task, where Spark fits them."""

PROGRESS_EVERY = 5_000
"""Products between two lines of progress."""

MIN_COMPANIONS = 20
"""Companions that every product may have, however rarely it is bought."""


class NeighbourSettings(BaseModel):
    """Size and stiffness of the regressions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(default=150, ge=1, le=400)
    """Companions that explain a product, at most as many as it has orders (but 20 anyway): time
    grows with the cube, memory not at all."""
    kept: int = Field(default=150, ge=1, le=400)
    """Weights kept per product, the largest by size."""
    ridge: float = Field(default=40.0, gt=0)
    """Added to every companion's number of orders: what was seen rarely is believed less."""
    size_exponent: float = Field(default=0.25, ge=0, le=2)
    """A basket of n counts (n - 1) to the minus this. Together with the half-life that ranks carts
    of Online Retail and of the demo data 4 % better (validation baskets) than counting all alike.
    """
    half_life_days: float = Field(default=180.0, ge=0, le=36_500)
    """Age in days at which a basket counts half; 0 = all count alike."""


@dataclass(frozen=True)
class _CooccurrenceCounts:
    """Pairs in both directions: `rows[offsets[i]:offsets[i + 1]]` were bought with product i."""

    offsets: Int64Array
    rows: Int32Array
    support: Float32Array
    n_orders: Float32Array
    head: Float32Array
    """Support (n_head, n_head) of all pairs of the first products."""
    is_cut: BoolArray
    """Products (n_items,) with as many companions as are kept: there may have been more."""


def fit_neighbours(
    pairs: Pairs | None,
    n_orders: npt.NDArray[np.number[Any]],
    settings: NeighbourSettings,
    head: Float32Array | None = None,
    mapper: Mapper = map_in_process,
) -> Neighbours:
    """The regressions of all products, from their strongest pairs and their orders (n_items,).

    Both may be weighed alike: support and orders are then sums of their baskets' weights.
    Pairs that are not among the strongest of either product count as never bought together, unless
    both are in `head`, the counts of all pairs of the most bought products. Where those are all
    products, `pairs` may be None.
    """
    n_items = len(n_orders)
    if pairs is not None:
        together = _symmetrise(pairs, n_orders, head)
    else:
        assert head is not None
        together = _select_from_head(head, n_orders.astype(np.float32), settings.candidates)
    found = []
    for part in mapper(_fit_range, (together, settings), split_into_ranges(n_items, BLOCK)):
        found.append(part)
        n_done = min(len(found) * BLOCK, n_items)
        if n_done % PROGRESS_EVERY == 0 or n_done == n_items:
            log_progress(f"neighbours: {n_done} of {n_items} products")
    sources, targets, weights = (np.concatenate(column) for column in zip(*found, strict=True))
    return _group_by_source(sources, targets, weights, n_items)


def _symmetrise(
    pairs: Pairs, n_orders: npt.NDArray[np.number[Any]], head: Float32Array | None
) -> _CooccurrenceCounts:
    from scipy.sparse import csr_array

    n_items = len(n_orders)
    support = pairs.support.astype(np.float32)
    # scipy carries the index type of its inputs along: 32 bits halve the memory.
    narrow = np.int32 if 2 * len(support) < np.iinfo(np.int32).max else np.int64
    rows, offsets = pairs.rows.astype(narrow), pairs.offsets.astype(narrow)
    one_way = csr_array((support, rows, offsets), shape=(n_items, n_items))
    both = one_way.maximum(one_way.T).tocsr()
    both.sort_indices()
    n_kept = np.diff(pairs.offsets)
    return _CooccurrenceCounts(
        both.indptr.astype(np.int64),
        both.indices,
        both.data,
        n_orders.astype(np.float32),
        np.zeros((0, 0), np.float32) if head is None else head,
        n_kept == n_kept.max(initial=0),
    )


def _select_from_head(head: Float32Array, n_orders: Float32Array, n: int) -> _CooccurrenceCounts:
    """The `n` companions of every product that are most similar, by the counts of all pairs."""
    n_items, found = len(head), []
    roots = np.sqrt(np.maximum(n_orders, np.finfo(np.float32).tiny))
    for part in split_into_ranges(n_items, BLOCK):
        counts = head[part.start : part.stop]
        similar = counts / roots
        similar[np.arange(len(part)), part] = 0
        best = np.argpartition(-similar, min(n, n_items) - 1, axis=1)[:, :n]
        best.sort(axis=1)
        kept = np.take_along_axis(similar, best, axis=1) > 0
        support = np.take_along_axis(counts, best, axis=1)
        found.append((kept.sum(axis=1), best[kept].astype(np.int32), support[kept]))
    n_each, rows, support = (np.concatenate(column) for column in zip(*found, strict=True))
    offsets = np.concatenate([[0], np.cumsum(n_each)]).astype(np.int64)
    return _CooccurrenceCounts(offsets, rows, support, n_orders, head, np.zeros(n_items, np.bool_))


def _fit_range(
    shared: tuple[_CooccurrenceCounts, NeighbourSettings], products: range
) -> tuple[Int32Array, Int32Array, Float32Array]:
    """Who speaks (source) for whom (target) with which weight, for the targets `products`."""
    together, settings = shared
    place = np.full(len(together.n_orders), -1, np.int32)
    # Such small systems are solved faster by one thread; several only wait for each other.
    with threadpool_limits(1):
        fitted = [_fit_target(target, together, settings, place) for target in products]
    sources, weights = zip(*fitted, strict=True)
    targets = np.repeat(np.array(products, np.int32), [len(one) for one in sources])
    return np.concatenate(sources), targets, np.concatenate(weights)


def _fit_target(
    target: int, together: _CooccurrenceCounts, settings: NeighbourSettings, place: Int32Array
) -> tuple[Int32Array, Float32Array]:
    """Companions of the target, and the weight with which each speaks for it.

    `place` (n_items,) is scratch, -1 throughout.
    """
    mine = slice(together.offsets[target], together.offsets[target + 1])
    companions, counts = together.rows[mine], together.support[mine]
    # By cosine; the target's own orders are the same for all.
    similar = counts / np.sqrt(together.n_orders[companions])
    # What was bought five times cannot tell a hundred companions apart.
    most = min(settings.candidates, max(MIN_COMPANIONS, int(together.n_orders[target])))
    best = np.sort(_find_largest(similar, most))
    companions, counts = companions[best], counts[best]
    weights = _solve_ridge(companions, counts, together, settings.ridge, place)
    best = _find_largest(np.abs(weights), settings.kept)
    return companions[best], weights[best]


def _solve_ridge(
    companions: Int32Array,
    counts: Float32Array,
    together: _CooccurrenceCounts,
    ridge: float,
    place: Int32Array,
) -> Float32Array:
    """Weights (n,) of the companions, whose rows ascend and who were `counts` (n,) times there."""
    from scipy.linalg.lapack import dposv

    if not len(companions):
        return np.zeros(0, np.float32)
    gram = _build_gram(companions, together, place)
    n_head = int(np.searchsorted(companions, len(together.head)))
    if together.is_cut[companions[n_head:]].any() and not _is_positive_definite(gram, ridge):
        # Leaves the head's counts, which are all there, and every companion's own orders.
        gram[n_head:] = 0
        _diagonal(gram)[:] = together.n_orders[companions]
    _diagonal(gram)[:] += ridge
    # Transposed is the order of LAPACK, whose upper half then is the lower one that `_build_gram` fills.
    _, weights, failed = dposv(gram.T, counts, overwrite_a=True)
    if failed:
        raise ArithmeticError(
            f"neighbours: a regression over {len(companions)} companions has no solution with a "
            f"ridge of {ridge}; use a larger one"
        )
    found: Float32Array = weights.astype(np.float32)
    return found


def _build_gram(
    companions: Int32Array, together: _CooccurrenceCounts, place: Int32Array
) -> Float64Array:
    """Baskets with both of two companions (n, n), in the lower half; on the diagonal, orders.

    In double precision: single loses the ridge beside the counts of millions of baskets.
    """
    n, n_head = len(companions), int(np.searchsorted(companions, len(together.head)))
    gram = np.zeros((n, n))
    often = companions[:n_head].astype(np.int64)
    # Number by number: whole rows of the head are a hundred times what is wanted of them.
    gram[:n_head, :n_head] = together.head.reshape(-1).take(
        often[:, None] * len(together.head) + often
    )
    if n_head < n:
        # Lists of those bought less are short; the head's would be the longest of all.
        starts = together.offsets[companions[n_head:]]
        sizes = together.offsets[companions[n_head:] + 1] - starts
        flat = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
        flat += np.arange(len(flat))
        place[companions] = np.arange(n)
        columns = place[together.rows[flat]]
        place[companions] = -1
        inside = np.flatnonzero(columns >= 0)
        lines = n_head + np.repeat(np.arange(n - n_head), sizes)[inside]
        gram[lines, columns[inside]] = together.support[flat[inside]]
    _diagonal(gram)[:] = together.n_orders[companions]
    return gram


def _is_positive_definite(gram: Float64Array, ridge: float) -> bool:
    """Whether baskets could give these counts, or nearly: half the ridge makes up for the rest.

    Counts of cut lists may contradict each other where baskets are large: two that are nearly the
    same product, of whom only one is known to go with a third. Weights then grow without bounds.
    """
    from scipy.linalg.lapack import dpotrf

    tried = gram.copy()
    _diagonal(tried)[:] += ridge / 2
    return not dpotrf(tried.T, overwrite_a=True)[1]


def _diagonal(matrix: Float64Array) -> Float64Array:
    return matrix.reshape(-1)[:: len(matrix) + 1]


def _find_largest(values: npt.NDArray[np.floating], n: int) -> IntpArray:
    if len(values) <= n:
        return np.arange(len(values))
    return np.argpartition(-values, n - 1)[:n]


def _group_by_source(
    sources: Int32Array, targets: Int32Array, weights: Float32Array, n_items: int
) -> Neighbours:
    """The same weights by the product that speaks, as int8 with a scale per product."""
    order = np.lexsort((targets, -weights, sources))
    sources, targets, weights = sources[order], targets[order], weights[order]
    largest = np.zeros(n_items, np.float32)
    np.maximum.at(largest, sources, np.abs(weights))
    scales = np.where(largest > 0, largest / INT8_MAX, 1).astype(np.float32)
    levels = np.rint(weights / scales[sources]).astype(np.int8)
    counts = np.bincount(sources, minlength=n_items)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Neighbours(offsets, targets, levels, scales)
