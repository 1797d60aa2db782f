"""Precomputed item-to-item scores: co-occurrence, cosines and neighbours, weighted and summed.

A cart then adds up one list per product instead of several.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.model.arrays import (
    Float32Array,
    Float64Array,
    Int32Array,
    Int64Array,
    concat_arrays,
    to_offsets,
)
from components.model.ragged import RaggedRows

if TYPE_CHECKING:
    from components.model.bundle import Bundle

BLOCK = 20_000  # Products whose lists are in memory at once


@dataclass(frozen=True)
class ItemScores(RaggedRows, prefix="item_scores"):
    """`values` that product i in a cart adds to scores; lists ascend.

    `weights` are those that the values were computed with, see `get_cart_weights`.
    """

    values: Float32Array
    weights: Float64Array

    def sum_lists(
        self, cart: Int32Array, factors: Float32Array | None
    ) -> tuple[Int32Array, Float64Array]:
        """Rows, ascending, and the sums of their values."""
        ends = zip(self.offsets[cart].tolist(), self.offsets[cart + 1].tolist(), strict=True)
        entries = [slice(*pair) for pair in ends]
        rows = np.concatenate([self.rows[one] for one in entries])
        values = np.concatenate([self.values[one] for one in entries])
        if factors is not None:
            values = values * np.repeat(factors, [one.stop - one.start for one in entries])
        order = rows.argsort()
        rows, values = rows[order], values[order]
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        if not len(first):
            return rows, values.astype(np.float64)
        return rows[first], np.add.reduceat(values.astype(np.float64), first)


def get_cart_weights(bundle: "Bundle") -> Float64Array:
    """Of neighbours, co-occurrence, cosine, trend."""
    weights = bundle.manifest.cart_weights
    return np.array([weights.neighbours, weights.cooccurrence, weights.cosine, weights.trend])


def build_item_scores(bundle: "Bundle") -> ItemScores:
    n_items = bundle.manifest.n_items
    starts = range(0, n_items, BLOCK)
    blocks = [_build_block(bundle, start, min(start + BLOCK, n_items)) for start in starts]
    return ItemScores(
        to_offsets(concat_arrays([sizes for sizes, _, _ in blocks], np.int64)),
        concat_arrays([rows for _, rows, _ in blocks], np.int32),
        concat_arrays([values for _, _, values in blocks], np.float32),
        get_cart_weights(bundle),
    )


def _build_block(
    bundle: "Bundle", start: int, end: int
) -> tuple[Int64Array, Int32Array, Float32Array]:
    """Sizes, rows and values of the lists."""
    weights, n_items = bundle.manifest.cart_weights, bundle.manifest.n_items
    pairs, neighbours, n_orders = bundle.pairs, bundle.neighbours, bundle.n_orders
    items = np.arange(start, end, dtype=np.int32)
    pair, owner = pairs.expand(items)
    item, companion = items[owner], pairs.rows[pair]
    pair_values = weights.cooccurrence * pairs.probability[pair].astype(np.float64)
    bought = np.sqrt(n_orders[item] * n_orders[companion].astype(np.float64))
    pair_values += weights.cosine * pairs.support[pair] / bought
    entry, neighbour_owner = neighbours.expand(items)
    source = items[neighbour_owner]
    neighbour_values = weights.neighbours * neighbours.scales[source] * neighbours.weights[entry]
    keys = np.concatenate(
        [owner * n_items + companion, neighbour_owner * n_items + neighbours.rows[entry]]
    )
    found, place = np.unique(keys, return_inverse=True)
    sums = np.bincount(place, np.concatenate([pair_values, neighbour_values]), len(found))
    owner, row = np.divmod(found, n_items)
    if weights.trend:
        sums *= np.exp(weights.trend * bundle.item_features.sales[row, 0])
    kept = np.flatnonzero(sums)
    sizes = np.bincount(owner[kept], minlength=end - start)
    return sizes.astype(np.int64), row[kept].astype(np.int32), sums[kept].astype(np.float32)
