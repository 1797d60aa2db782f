"""Neighbours: one small ridge regression per product over its strongest companions.

This is EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data") per neighbourhood:
cost and memory are linear in the catalogue. The best single model of carts, summed over the cart.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from threadpoolctl import threadpool_limits

from components.model.arrays import (
    BoolArray,
    Float32Array,
    Float64Array,
    Int32Array,
    Int64Array,
    IntpArray,
)
from components.model.bundle import Neighbours, Pairs
from components.progress import log_progress
from components.spark import Mapper, map_in_process, split_into_ranges

INT8_MAX = 127  # Weights are stored as int8; finer storage gained nothing

BLOCK = 1_000  # Products per task of the mapper

PROGRESS_EVERY = 5_000
MIN_COMPANIONS = 20  # Companions of a rarely bought product


class NeighbourSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(default=150, ge=1, le=400)
    """Companions per product, at most max(20, its orders). Time is cubic."""
    kept: int = Field(default=150, ge=1, le=400)
    """Weights kept per product, the largest in absolute value."""
    ridge: float = Field(default=40.0, gt=0)
    """L2 penalty in orders: shrinks the weights of rare companions."""
    size_exponent: float = Field(default=0.25, ge=0, le=2)
    """A basket of n weighs (n - 1) to the minus this; with the half-life +4 % NDCG of carts."""
    half_life_days: float = Field(default=180.0, ge=0, le=36_500)
    """Age in days at which a basket weighs half; 0 is off."""


@dataclass(frozen=True)
class _CooccurrenceCounts:
    """Symmetric pairs: `rows[offsets[i]:offsets[i + 1]]` are the companions of product i."""

    offsets: Int64Array
    rows: Int32Array
    support: Float32Array
    n_orders: Float32Array
    head: Float32Array  # (n_head, n_head): support of all pairs of the most bought products
    is_cut: BoolArray
    """(n_items,): products with the most companions allowed, so that some may be missing."""


def fit_neighbours(
    pairs: Pairs | None, n_orders: npt.NDArray[np.number[Any]], settings: NeighbourSettings,
    head: Float32Array | None = None, mapper: Mapper = map_in_process,
) -> Neighbours:  # fmt: skip
    """`n_orders` (n_items,) and support may be sums of basket weights.

    `head` (n_head, n_head) counts all pairs of the most bought products; pairs outside both are 0.
    `pairs` may be None where the head is the whole catalogue.
    """
    n_items = len(n_orders)
    if pairs is not None:
        counts = _symmetrise(pairs, n_orders, head)
    else:
        assert head is not None
        counts = _select_from_head(head, n_orders.astype(np.float32), settings.candidates)
    parts = []
    for part in mapper(_fit_range, (counts, settings), split_into_ranges(n_items, BLOCK)):
        parts.append(part)
        n_done = min(len(parts) * BLOCK, n_items)
        if n_done % PROGRESS_EVERY == 0 or n_done == n_items:
            log_progress(f"neighbours: {n_done} of {n_items} products")
    sources, targets, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _group_by_source(sources, targets, weights, n_items)


def _symmetrise(
    pairs: Pairs, n_orders: npt.NDArray[np.number[Any]], head: Float32Array | None
) -> _CooccurrenceCounts:
    from scipy.sparse import csr_array

    n_items = len(n_orders)
    support = pairs.support.astype(np.float32)
    # scipy keeps the index type of its inputs: 32 bits halve the memory.
    index_type = np.int32 if 2 * len(support) < np.iinfo(np.int32).max else np.int64
    rows, offsets = pairs.rows.astype(index_type), pairs.offsets.astype(index_type)
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
    """The `n` companions of every product with the highest cosine."""
    n_items, parts = len(head), []
    roots = np.sqrt(np.maximum(n_orders, np.finfo(np.float32).tiny))
    for part in split_into_ranges(n_items, BLOCK):
        counts = head[part.start : part.stop]
        cosine = counts / roots
        cosine[np.arange(len(part)), part] = 0
        best = np.argpartition(-cosine, min(n, n_items) - 1, axis=1)[:, :n]
        best.sort(axis=1)
        kept = np.take_along_axis(cosine, best, axis=1) > 0
        support = np.take_along_axis(counts, best, axis=1)
        parts.append((kept.sum(axis=1), best[kept].astype(np.int32), support[kept]))
    n_kept, rows, support = (np.concatenate(column) for column in zip(*parts, strict=True))
    offsets = np.concatenate([[0], np.cumsum(n_kept)]).astype(np.int64)
    return _CooccurrenceCounts(offsets, rows, support, n_orders, head, np.zeros(n_items, np.bool_))


def _fit_range(
    shared: tuple[_CooccurrenceCounts, NeighbourSettings], products: range
) -> tuple[Int32Array, Int32Array, Float32Array]:
    """Sources (companions), targets and weights, (n,) each."""
    counts, settings = shared
    scratch = np.full(len(counts.n_orders), -1, np.int32)
    # Systems this small are solved fastest by one thread.
    with threadpool_limits(1):
        fitted = [_fit_target(target, counts, settings, scratch) for target in products]
    sources, weights = zip(*fitted, strict=True)
    targets = np.repeat(np.array(products, np.int32), [len(one) for one in sources])
    return np.concatenate(sources), targets, np.concatenate(weights)


def _fit_target(
    target: int, counts: _CooccurrenceCounts, settings: NeighbourSettings, scratch: Int32Array
) -> tuple[Int32Array, Float32Array]:
    """Companions of the target and their weights. `scratch` (n_items,) is -1 throughout."""
    own = slice(counts.offsets[target], counts.offsets[target + 1])
    companions, support = counts.rows[own], counts.support[own]
    # Cosine, but for the target's own orders, a constant.
    similarity = support / np.sqrt(counts.n_orders[companions])
    # Few orders cannot determine the weights of many companions.
    most = min(settings.candidates, max(MIN_COMPANIONS, int(counts.n_orders[target])))
    best = np.sort(_find_largest(similarity, most))
    companions = companions[best]
    weights = _solve_ridge(companions, support[best], counts, settings.ridge, scratch)
    best = _find_largest(np.abs(weights), settings.kept)
    return companions[best], weights[best]


def _solve_ridge(
    companions: Int32Array, support: Float32Array, counts: _CooccurrenceCounts, ridge: float,
    scratch: Int32Array,
) -> Float32Array:  # fmt: skip
    """Weights (n,) of the `companions`, ascending rows, from their `support` with the target."""
    from scipy.linalg.lapack import dposv

    if not len(companions):
        return np.zeros(0, np.float32)
    gram = _build_gram(companions, counts, scratch)
    n_head = int(np.searchsorted(companions, len(counts.head)))
    if counts.is_cut[companions[n_head:]].any() and not _is_positive_definite(gram, ridge):
        # Keep only complete counts: those of the head, and each companion's own orders.
        gram[n_head:] = 0
        _diagonal(gram)[:] = counts.n_orders[companions]
    _diagonal(gram)[:] += ridge
    # LAPACK is column-major: the upper half of the transpose is the lower half of `gram`.
    _, weights, failed = dposv(gram.T, support, overwrite_a=True)
    if failed:
        raise ArithmeticError(
            f"neighbours: a regression over {len(companions)} companions has no solution with a "
            f"ridge of {ridge}; use a larger one"
        )
    solved: Float32Array = weights.astype(np.float32)
    return solved


def _build_gram(
    companions: Int32Array, counts: _CooccurrenceCounts, scratch: Int32Array
) -> Float64Array:
    """Support (n, n), lower half, with orders on the diagonal; single precision loses the ridge."""
    n, n_head = len(companions), int(np.searchsorted(companions, len(counts.head)))
    gram = np.zeros((n, n))
    in_head = companions[:n_head].astype(np.int64)
    # Element by element: whole rows of the head are a hundred times as much.
    gram[:n_head, :n_head] = counts.head.reshape(-1).take(
        in_head[:, None] * len(counts.head) + in_head
    )
    if n_head < n:
        # Only lists of the less bought companions, which are short.
        starts = counts.offsets[companions[n_head:]]
        sizes = counts.offsets[companions[n_head:] + 1] - starts
        flat = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
        flat += np.arange(len(flat))
        scratch[companions] = np.arange(n)
        columns = scratch[counts.rows[flat]]
        scratch[companions] = -1
        inside = np.flatnonzero(columns >= 0)
        lines = n_head + np.repeat(np.arange(n - n_head), sizes)[inside]
        gram[lines, columns[inside]] = counts.support[flat[inside]]
    _diagonal(gram)[:] = counts.n_orders[companions]
    return gram


def _is_positive_definite(gram: Float64Array, ridge: float) -> bool:
    """With half of the ridge. Cut lists may contradict each other, and weights then explode."""
    from scipy.linalg.lapack import dpotrf

    shifted = gram.copy()
    _diagonal(shifted)[:] += ridge / 2
    return not dpotrf(shifted.T, overwrite_a=True)[1]


def _diagonal(matrix: Float64Array) -> Float64Array:
    """A writable view."""
    return matrix.reshape(-1)[:: len(matrix) + 1]


def _find_largest(values: npt.NDArray[np.floating], n: int) -> IntpArray:
    return np.argpartition(-values, n - 1)[:n] if len(values) > n else np.arange(len(values))


def _group_by_source(
    sources: Int32Array, targets: Int32Array, weights: Float32Array, n_items: int
) -> Neighbours:
    """The weights by companion, as int8 with a scale per companion."""
    order = np.lexsort((targets, -weights, sources))
    sources, targets, weights = sources[order], targets[order], weights[order]
    largest = np.zeros(n_items, np.float32)
    np.maximum.at(largest, sources, np.abs(weights))
    scales = np.where(largest > 0, largest / INT8_MAX, 1).astype(np.float32)
    levels = np.rint(weights / scales[sources]).astype(np.int8)
    counts = np.bincount(sources, minlength=n_items)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Neighbours(offsets, targets, levels, scales)
