"""Measures of the first five recommendations that a shopper sees without a count of hits."""

from collections.abc import Sequence

import numpy as np

from components.model.arrays import AnyArray, Float64Array, Int32Array, Int64Array
from components.model.kind_limits import N_VISIBLE

N_BESTSELLERS = 10

VISIBLE_MEASURES = ("bestsellers_at_5", "own_kind_at_5", "kinds_at_5")


def measure_visible(
    found: Int64Array, asked: Sequence[Int32Array], kinds: AnyArray | None
) -> dict[str, Float64Array]:
    """VISIBLE_MEASURES of rows `found` (n_queries, k), (n_queries,) each.

    The shares of the first five that are among the ten bestsellers and of the kind of an asked
    product, and the number of kinds; NaN where kinds are unknown, 0 without recommendations.
    """
    first = found[:, :N_VISIBLE]
    is_shown = first >= 0
    n_shown = np.maximum(is_shown.sum(axis=1), 1)
    bestsellers = ((first < N_BESTSELLERS) & is_shown).sum(axis=1) / n_shown
    if kinds is None:
        own = n_kinds = np.full(len(found), np.nan)
    else:
        shown = np.where(is_shown, kinds[np.maximum(first, 0)], -1)
        own = _mark_own_kinds(shown, asked, kinds).sum(axis=1) / n_shown
        n_kinds = _count_distinct(shown).astype(np.float64)
    return dict(zip(VISIBLE_MEASURES, (bestsellers, own, n_kinds), strict=True))


def _mark_own_kinds(shown: Int64Array, asked: Sequence[Int32Array], kinds: AnyArray) -> Int64Array:
    """1 where a kind is that of an asked product, in the shape of `shown`."""
    own = [np.isin(row, kinds[query]) for row, query in zip(shown, asked, strict=True)]
    return np.array(own, np.int64).reshape(shown.shape)


def _count_distinct(shown: Int64Array) -> Int64Array:
    """Kinds from 0 up in each row, (n_queries,)."""
    ordered = np.sort(shown, axis=1)
    is_new = np.diff(ordered, axis=1, prepend=-1) != 0
    counts: Int64Array = (is_new & (ordered >= 0)).sum(axis=1)
    return counts
