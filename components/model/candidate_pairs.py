"""Candidates of carts by co-occurrence and neighbours, for a batch of carts at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from components.model.arrays import (
    Float32Array,
    Float64Array,
    Int32Array,
    Int64Array,
    concat_arrays,
)
from components.model.bundle import Bundle
from components.model.sorted_keys import find_present, lookup_values
from components.model.top_k import find_top_k


@dataclass(frozen=True)
class CandidatePairs:
    """Flat lookups: an entry per cart, product of the cart and candidate.

    `keys` are the distinct cart * n_items + candidate, ascending; `..._place` are places in `keys`,
    `pair` are places in the bundle's pairs.
    """

    bundle: Bundle
    carts: Sequence[Int32Array]
    keys: Int64Array
    pair_place: Int64Array
    pair: Int64Array
    pair_product: Int32Array
    pair_weight: Float32Array
    neighbour_place: Int64Array
    neighbour_values: Float32Array

    def sum_scores(self) -> Float64Array:
        """By all cart weights but that of vectors, one per key."""
        bundle, weights, n = self.bundle, self.bundle.manifest.cart_weights, len(self.keys)
        values = weights.neighbours * self.neighbour_values
        sums: Float64Array = np.bincount(self.neighbour_place, values, n).astype(np.float64)
        if weights.cooccurrence or weights.cosine:
            values = weights.cooccurrence * bundle.pairs.probability[self.pair]
            if weights.cosine:
                cosine = compute_basket_cosines(bundle, self.pair, self.pair_product)
                values += weights.cosine * cosine
            sums += np.bincount(self.pair_place, self.pair_weight * values, n)
        if weights.trend:
            rows = self.keys % bundle.manifest.n_items
            sums *= np.exp(weights.trend * bundle.item_features.sales[rows, 0])
        return sums

    def sum_excess(self) -> Float64Array:
        """Probability beyond chance, one per key."""
        chance, n = self.bundle.chance, len(self.keys)
        if chance is None:
            return np.zeros(n)
        values = self.pair_weight * chance.excess[self.pair]
        return np.bincount(self.pair_place, values, n).astype(np.float64)

    def lookup(self, sums: Float64Array, cart: int, rows: Int64Array) -> Float64Array:
        """Sums of candidates; 0 where there are no entries."""
        return lookup_values(self.keys, sums, cart * self.bundle.manifest.n_items + rows)

    def select_best(self, sums: Float64Array, depth: int) -> tuple[Int64Array, Float32Array]:
        """Candidates and sums (n_carts, depth), those above 0; filled up with -1 and 0."""
        n_items, carts = self.bundle.manifest.n_items, self.carts
        sums = sums.copy()
        cart, product = flatten(carts)
        sums[find_present(self.keys, cart * n_items + product)] = -np.inf
        rows = np.full((len(carts), depth), -1, np.int64)
        scores = np.zeros((len(carts), depth), np.float32)
        bounds = np.searchsorted(self.keys, np.arange(len(carts) + 1) * n_items)
        for i, (start, end) in enumerate(pairwise(bounds)):
            best = start + find_top_k(sums[start:end], depth)
            best = best[sums[best] > 0]
            rows[i, : len(best)] = self.keys[best] - i * n_items
            scores[i, : len(best)] = sums[best]
        return rows, scores


def find_candidate_pairs(
    bundle: Bundle, carts: Sequence[Int32Array], blend_only: bool = False
) -> CandidatePairs:
    """`blend_only` skips pairs where the cart weights do not need them."""
    n_items, weights = bundle.manifest.n_items, bundle.manifest.cart_weights
    cart, product = flatten(carts)
    if blend_only and not (weights.cooccurrence or weights.cosine):
        pair, owner = np.empty((2, 0), np.int64)
    else:
        pair, owner = bundle.pairs.expand(product)
    entry, neighbour_owner = bundle.neighbours.expand(product)
    weight = compute_cart_weights(bundle, carts)
    values = bundle.neighbours.scales[product[neighbour_owner]] * bundle.neighbours.weights[entry]
    pair_keys = cart[owner] * n_items + bundle.pairs.rows[pair]
    neighbour_keys = cart[neighbour_owner] * n_items + bundle.neighbours.rows[entry]
    keys, place = find_unique(np.concatenate([pair_keys, neighbour_keys]), len(carts) * n_items)
    pair_place, neighbour_place = np.split(place, [len(pair_keys)])
    return CandidatePairs(
        bundle, carts, keys, pair_place, pair, product[owner], weight[owner], neighbour_place,
        values * weight[neighbour_owner],
    )  # fmt: skip


def compute_basket_cosines(bundle: Bundle, pair: Int64Array, product: Int32Array) -> Float32Array:
    """Between the baskets of pairs; `product` (n_pairs,) is the first of each."""
    companion, n_orders = bundle.pairs.rows[pair], bundle.n_orders
    norms = np.sqrt(n_orders[product] * n_orders[companion].astype(np.float64))
    cosines: Float32Array = (bundle.pairs.support[pair] / norms).astype(np.float32)
    return cosines


def compute_cart_weights(bundle: Bundle, carts: Sequence[Int32Array]) -> Float32Array:
    """Of the products of all carts."""
    recency = bundle.manifest.cart_recency
    if recency == 1:
        return np.ones(sum(map(len, carts)), np.float32)
    return concat_arrays([compute_cart_recency(recency, len(cart)) for cart in carts], np.float32)


def compute_cart_recency(factor: float, n: int) -> Float32Array:
    """Weights (n,), 1 in the mean; the last product was added last."""
    weights = np.power(np.float32(factor), np.arange(n - 1, -1, -1, dtype=np.float32))
    even: Float32Array = weights * (n / max(weights.sum(), 1e-9))
    return even.astype(np.float32)


def flatten(carts: Sequence[Int32Array]) -> tuple[Int64Array, Int32Array]:
    """Cart and product, one entry per product."""
    sizes = [len(cart) for cart in carts]
    return np.repeat(np.arange(len(carts)), sizes), np.concatenate([*carts, np.empty(0, np.int32)])


def find_unique(keys: Int64Array, size: int) -> tuple[Int64Array, Int64Array]:
    """As np.unique with inverse; keys are below `size`."""
    if size > 32 * len(keys):
        found, place = np.unique(keys, return_inverse=True)
        return found, place.astype(np.int64)
    # Marking is several times faster than sorting while the marks are few.
    marks = np.zeros(size, np.bool_)
    marks[keys] = True
    found = np.flatnonzero(marks).astype(np.int64)
    places = np.empty(size, np.int32)
    places[found] = np.arange(len(found))
    return found, places[keys].astype(np.int64)
