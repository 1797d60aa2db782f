"""What a product in a cart says for others, all in one table: what carts are blended of, added up.

Co-occurrence, cosines and neighbours each say something for every companion of a product, and what
they say is weighted and summed. The weights are the bundle's, so that the sum of one product and
one companion can be made in advance; a cart then adds up one list a product instead of several.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.model.arrays import Float32Array, Float64Array, Int32Array, Int64Array

if TYPE_CHECKING:
    from components.model.bundle import Bundle


VOICES = ("offsets", "rows", "values", "mix")
"""The arrays of Voices; they lie in voice_NAME.npy."""

BLOCK = 20_000
"""Products whose lists are in memory at once."""


@dataclass(frozen=True)
class ItemScores:
    """`rows[offsets[i]:offsets[i + 1]]`, ascending, are the products that product i says something
    for or against, and `values` is how much, by the weights `mix`; see `get_cart_weights`.
    """

    offsets: Int64Array
    rows: Int32Array
    values: Float32Array
    mix: Float64Array


def get_cart_weights(bundle: "Bundle") -> Float64Array:
    """The cart weights that voices are made of: of neighbours, co-occurrence, cosine, trend."""
    weights = bundle.manifest.cart_weights
    return np.array([weights.neighbours, weights.cooccurrence, weights.cosine, weights.trend])


def build_item_scores(bundle: "Bundle") -> ItemScores:
    """The table of a bundle, linear in its pairs and neighbours."""
    n_items = bundle.manifest.n_items
    blocks = [
        _block(bundle, start, min(start + BLOCK, n_items)) for start in range(0, n_items, BLOCK)
    ]
    sizes = np.concatenate([np.zeros(1, np.int64), *(sizes for sizes, _, _ in blocks)])
    rows = np.concatenate([np.empty(0, np.int32), *(rows for _, rows, _ in blocks)])
    values = np.concatenate([np.empty(0, np.float32), *(values for _, _, values in blocks)])
    return ItemScores(np.cumsum(sizes), rows, values, get_cart_weights(bundle))


def _block(bundle: "Bundle", start: int, end: int) -> tuple[Any, Int32Array, Float32Array]:
    """Sizes, rows and values of the lists of some products."""
    weights, n_items = bundle.manifest.cart_weights, bundle.manifest.n_items
    pairs = slice(int(bundle.pair_offsets[start]), int(bundle.pair_offsets[end]))
    product = np.repeat(np.arange(start, end), np.diff(bundle.pair_offsets[start : end + 1]))
    companion = bundle.pair_rows[pairs]
    counted = weights.cooccurrence * bundle.pair_probability[pairs].astype(np.float64)
    bought = bundle.n_orders
    counted += (
        weights.cosine
        * bundle.pair_support[pairs]
        / np.sqrt(bought[product] * bought[companion].astype(np.float64))
    )
    keys: list[Any] = [product * n_items + companion]
    values: list[Any] = [counted]
    if (neighbours := bundle.neighbours) is not None:
        mine = slice(int(neighbours.offsets[start]), int(neighbours.offsets[end]))
        product = np.repeat(np.arange(start, end), np.diff(neighbours.offsets[start : end + 1]))
        keys.append(product * n_items + neighbours.rows[mine])
        values.append(weights.neighbours * neighbours.scales[product] * neighbours.weights[mine])
    found, where = np.unique(np.concatenate(keys), return_inverse=True)
    sums = np.bincount(where, np.concatenate(values), len(found))
    product, row = np.divmod(found, n_items)
    if weights.trend and bundle.item_features is not None:
        sums *= np.exp(weights.trend * bundle.item_features.items[row, 0])
    said = np.flatnonzero(sums)
    sizes = np.bincount(product[said] - start, minlength=end - start)
    return sizes.astype(np.int64), row[said].astype(np.int32), sums[said].astype(np.float32)
