"""The best of many scores, in order."""

import numpy as np

from components.model.arrays import AnyArray, BoolArray, Float32Array, Int64Array, IntpArray

N_GROUPS = 512  # Of columns, whose maxima bound the k-th best

RankedRows = tuple[Int64Array, Float32Array]  # Rows and scores, best first


def find_top_k(values: AnyArray, k: int) -> IntpArray:
    """Places of the `k` largest, in order; ties by place."""
    places = np.arange(len(values))
    if len(values) > k:
        least = np.partition(values, len(values) - k)[len(values) - k]
        above = np.flatnonzero(values > least)
        # There may be as many ties as values: not all are to be sorted.
        ties = np.flatnonzero(values == least)[: k - len(above)]
        places = np.sort(np.concatenate([above, ties]))
    return places[np.argsort(-values[places], kind="stable")][:k]


def rank_columns(scores: Float32Array, k: int) -> RankedRows:
    """Columns and scores (n, k) of the k largest per row; -1 for -inf. Ties: the lower column."""
    n, width = scores.shape
    columns = np.full((n, k), -1, np.int64)
    best = np.full((n, k), -np.inf, np.float32)
    depth = min(k, width)
    for i, (row, bound) in enumerate(zip(scores, _find_lower_bounds(scores, depth), strict=True)):
        above = np.flatnonzero(row > bound)
        order = above[np.argsort(-row[above], kind="stable")][:depth]
        if len(order) < depth:
            # Sparse scores tie by the thousand at zero: those need cutting, not sorting.
            order = np.concatenate([order, np.flatnonzero(row == bound)[: depth - len(order)]])
        order = order[row[order] > -np.inf]
        columns[i, : len(order)] = order
        best[i, : len(order)] = row[order]
    return columns, best


def rank_candidates(
    query: Int64Array, rows: Int64Array, scores: Float32Array, n_queries: int, k: int
) -> RankedRows:
    """As `rank_columns`, of flat candidates, whose `query` ascends."""
    order = np.lexsort((rows, -scores, query))
    starts = np.searchsorted(query, np.arange(n_queries))
    place = np.arange(len(query)) - starts[query]
    order, query, place = (one[place < k] for one in (order, query, place))
    is_ranked = scores[order] > -np.inf
    found = np.full((n_queries, k), -1, np.int64)
    best = np.full((n_queries, k), -np.inf, np.float32)
    found[query[is_ranked], place[is_ranked]] = rows[order[is_ranked]]
    best[query[is_ranked], place[is_ranked]] = scores[order[is_ranked]]
    return found, best


def sort_rows(rows: Int64Array, scores: Float32Array) -> RankedRows:
    """By falling scores (n, k); ties go to the lower row."""
    if (scores[:, 1:] < scores[:, :-1]).all():
        return rows, scores
    if len(rows) == 1:
        best = np.lexsort((rows[0], -scores[0]))
        return rows[:, best], scores[:, best]
    order = np.lexsort((rows, -scores), axis=1)
    return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)


def find_in_rows(wanted: Int64Array, rows: Int64Array) -> BoolArray:
    """Whether each of `wanted` (n, k) is in the same row of `rows` (n, depth)."""
    found: BoolArray = (wanted[:, :, None] == rows[:, None, :]).any(axis=2)
    return found


def _find_lower_bounds(scores: Float32Array, depth: int) -> Float32Array:
    """Values (n,) that at least `depth` scores of the row reach, and few more.

    Maxima of groups are several times cheaper than a partition of the row.
    """
    n, width = scores.shape
    groups = min(width, max(N_GROUPS, 2 * depth))
    per_group = width // groups
    whole = scores[:, : per_group * groups].reshape(n, per_group, groups)
    maxima = whole.max(axis=1)
    bounds: Float32Array = np.partition(maxima, groups - depth, axis=1)[:, groups - depth]
    return bounds
