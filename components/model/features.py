"""Features of candidates for the re-rankers of carts and item pages."""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from components.model.arrays import AnyArray, Float32Array, Float64Array, Int32Array, Int64Array
from components.model.bundle import Bundle
from components.model.candidate_pairs import CandidatePairs, compute_basket_cosines, flatten
from components.model.float16 import to_float32
from components.model.sorted_keys import find_keys

LIFT_SMOOTHING = 2.0  # Baskets added to observed and expected ones

# Sums, maxima and means run over the products of the cart.
FEATURES = (
    *("neighbours_sum", "neighbours_max", "neighbours_min"),
    *("probability_sum", "probability_max", "recent_sum", "recent_max"),
    *("cosine_sum", "cosine_max", "lift_sum", "lift_max", "support_max", "reverse_max"),
    *("share_paired", "vector_max", "vector_sum", "vector_mean", "reverse_vector_max", "alike_max"),
    *("log_popularity", "trend_short", "trend_long", "basket_size", "days_unsold"),
    *("n_asked", "asked_popularity", "asked_trend", "asked_basket_size"),
    *("category_lift", "category_share", "same_category", "same_brand", "price_ratio"),
    *("excess_sum", "excess_max"),
)  # New ones go to the end: the trees of released bundles know them by place.
COLUMN = {name: column for column, name in enumerate(FEATURES)}


class FeatureBuilder:
    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._items = bundle, bundle.item_features

    def compute(self, pairs: CandidatePairs, rows: Int64Array) -> Float32Array:
        """FEATURES of candidate `rows` (n_carts, depth), 0 where unknown; -1 gets anything."""
        table = np.zeros((*rows.shape, len(FEATURES)), np.float32)
        keys = np.arange(len(rows))[:, None] * self._bundle.manifest.n_items + rows
        self._add_pairs(table, pairs, np.where(rows >= 0, keys, -1).ravel())
        rows = np.maximum(rows, 0)
        self._add_vectors(table, pairs, rows)
        self._add_candidates(table, rows)
        self._add_carts(table, pairs, rows)
        self._add_matches(table, pairs, rows)
        return table

    @cached_property
    def _category_orders(self) -> Float64Array:
        codes, n_orders = self._items.category_codes, self._bundle.n_orders
        return np.bincount(codes, n_orders).astype(np.float64)

    def _add_pairs(self, table: Float32Array, pairs: CandidatePairs, wanted: Int64Array) -> None:
        bundle, n = self._bundle, len(wanted)
        flat = table.reshape(n, len(FEATURES))
        place_of_key = _find_positions(pairs.keys, wanted)
        place = place_of_key[pairs.pair_place]
        kept = np.flatnonzero(place >= 0)
        place, pair, product = place[kept], pairs.pair[kept], pairs.pair_product[kept]
        companion, support = bundle.pairs.rows[pair], bundle.pairs.support[pair].astype(np.float32)
        chance = bundle.n_orders[product] * (bundle.n_orders[companion] / bundle.manifest.n_orders)
        lift = np.log((support + LIFT_SMOOTHING) / (chance + LIFT_SMOOTHING))
        values: dict[str, Float32Array] = {
            "probability": bundle.pairs.probability[pair],
            "recent": self._items.recent[pair],
            "cosine": compute_basket_cosines(bundle, pair, product),
            "lift": lift.astype(np.float32),
        }
        if bundle.chance is not None:
            values["excess"] = bundle.chance.excess[pair]
        weight = pairs.pair_weight[kept]
        for name, value in values.items():
            flat[:, COLUMN[f"{name}_sum"]] = np.bincount(place, weight * value, n)
            flat[:, COLUMN[f"{name}_max"]] = _max_by_place(place, value, n)
        flat[:, COLUMN["support_max"]] = np.log1p(_max_by_place(place, support, n))
        reverse = (support / bundle.n_orders[companion]).astype(np.float32)
        flat[:, COLUMN["reverse_max"]] = _max_by_place(place, reverse, n)
        flat[:, COLUMN["share_paired"]] = np.bincount(place, minlength=n)
        place = place_of_key[pairs.neighbour_place]
        kept = np.flatnonzero(place >= 0)
        place, value = place[kept], pairs.neighbour_values[kept]
        flat[:, COLUMN["neighbours_sum"]] = np.bincount(place, value, n)
        flat[:, COLUMN["neighbours_max"]] = _max_by_place(place, value, n)
        flat[:, COLUMN["neighbours_min"]] = -_max_by_place(place, -value, n)

    def _add_vectors(self, table: Float32Array, pairs: CandidatePairs, rows: Int64Array) -> None:
        bundle, starts = self._bundle, _find_starts(pairs.carts)
        cart, product = flatten(pairs.carts)
        inward = bundle.in_vectors.take(rows, axis=0)
        outward = to_float32(bundle.out_vectors.take(rows, axis=0))
        asked_in, asked_out = bundle.in_vectors[product], to_float32(bundle.out_vectors[product])
        # The products of all carts one below the other, (n_products, depth).
        likely, back, alike = np.empty((3, len(product), rows.shape[1]), np.float32)
        for i, (start, end) in enumerate(pairwise([*starts, len(product)])):
            own = slice(start, end)
            np.matmul(asked_in[own], outward[i].T, out=likely[own])
            np.matmul(asked_out[own], inward[i].T, out=back[own])
            np.matmul(asked_in[own], inward[i].T, out=alike[own])
        log_popularity = compute_log_popularity(bundle, rows)
        likely += np.float32(bundle.manifest.beta_cart) * log_popularity[cart]
        likely -= self._items.log_norms[product][:, None]
        alike *= (1 / _compute_norms(inward))[cart]
        alike *= (1 / _compute_norms(asked_in))[:, None]
        n_asked = np.diff(starts, append=len(product))[:, None]
        table[..., COLUMN["vector_max"]] = np.maximum.reduceat(likely, starts)
        table[..., COLUMN["vector_mean"]] = np.add.reduceat(likely, starts) / n_asked
        table[..., COLUMN["vector_sum"]] = np.log(np.add.reduceat(np.exp(likely), starts))
        table[..., COLUMN["reverse_vector_max"]] = np.maximum.reduceat(back, starts)
        table[..., COLUMN["alike_max"]] = np.maximum.reduceat(alike, starts)

    def _add_candidates(self, table: Float32Array, rows: Int64Array) -> None:
        table[..., COLUMN["log_popularity"]] = compute_log_popularity(self._bundle, rows)
        category_orders = self._category_orders[self._items.category_codes[rows]]
        share = self._bundle.n_orders[rows] / category_orders
        table[..., COLUMN["category_share"]] = np.log(share)
        first = COLUMN["trend_short"]
        table[..., first : first + self._items.sales.shape[1]] = self._items.sales[rows]

    def _add_carts(self, table: Float32Array, pairs: CandidatePairs, rows: Int64Array) -> None:
        sales, (cart, product) = self._items.sales, flatten(pairs.carts)
        n_asked = np.array([len(one) for one in pairs.carts], np.float32)

        def mean(values: Float32Array) -> Float32Array:
            return (np.bincount(cart, values, len(n_asked)) / n_asked).astype(np.float32)

        table[..., COLUMN["share_paired"]] /= n_asked[:, None]
        table[..., COLUMN["n_asked"]] = n_asked[:, None]
        popularity = mean(compute_log_popularity(self._bundle, product))
        table[..., COLUMN["asked_popularity"]] = popularity[:, None]
        table[..., COLUMN["asked_trend"]] = mean(sales[product, 0])[:, None]
        table[..., COLUMN["asked_basket_size"]] = mean(sales[product, 2])[:, None]
        price = self._compute_log_prices(product)
        priced = mean(np.isfinite(price).astype(np.float32))
        typical = mean(np.nan_to_num(price)) / np.maximum(priced, 1e-9)
        ratio = np.nan_to_num(self._compute_log_prices(rows) - typical[:, None])
        table[..., COLUMN["price_ratio"]] = np.where(priced[:, None] > 0, ratio, 0)

    def _add_matches(self, table: Float32Array, pairs: CandidatePairs, rows: Int64Array) -> None:
        """Of categories and brands."""
        starts, (cart, product) = _find_starts(pairs.carts), flatten(pairs.carts)
        n_asked = np.array([len(one) for one in pairs.carts], np.float32)[:, None]

        def count_equal(asked: AnyArray, candidate: AnyArray) -> Float32Array:
            is_equal = (asked == candidate) & (candidate > 0)
            counts: Float32Array = np.add.reduceat(is_equal, starts, dtype=np.float32)
            return counts

        codes, candidates = self._items.category_codes, rows[cart]
        asked, candidate = codes[product][:, None], codes[candidates]
        lift = np.add.reduceat(self._items.category_lift[asked, candidate], starts)
        table[..., COLUMN["category_lift"]] = lift / n_asked
        table[..., COLUMN["same_category"]] = count_equal(asked, candidate)
        codes = self._bundle.records.brand_codes
        same_brand = count_equal(codes[product][:, None], codes[candidates])
        table[..., COLUMN["same_brand"]] = same_brand / n_asked

    def _compute_log_prices(self, rows: Int64Array | Int32Array) -> Float32Array:
        """NaN where unknown."""
        prices = self._bundle.records.price[rows]
        is_known = (prices > 0) & np.isfinite(prices)
        logs: Float32Array = np.log(np.where(is_known, prices, np.nan)).astype(np.float32)
        return logs


def compute_log_popularity(bundle: Bundle, rows: Int64Array | Int32Array) -> Float32Array:
    """Of the share of baskets, in the shape of `rows`."""
    logs: Float32Array = np.log(bundle.n_orders[rows] / bundle.manifest.n_orders)
    return logs.astype(np.float32)


def compute_logits(bundle: Bundle, cart: Int32Array, rows: Int64Array) -> Float32Array:
    """Log of the vectors' softmax probabilities, (n_cart, n_rows)."""
    logits: Float32Array = bundle.in_vectors[cart] @ to_float32(bundle.out_vectors[rows]).T
    logits += np.float32(bundle.manifest.beta_cart) * compute_log_popularity(bundle, rows)
    logits -= bundle.item_features.log_norms[cart][:, None]
    return logits


def normalize_vectors(vectors: Float32Array) -> Float32Array:
    unit: Float32Array = vectors / _compute_norms(vectors)[:, None]
    return unit


def _compute_norms(vectors: Float32Array) -> Float32Array:
    """(...) of vectors (..., dims), above 0."""
    squares = np.einsum("...i,...i->...", vectors, vectors)
    norms: Float32Array = np.maximum(np.sqrt(squares), 1e-9)
    return norms


def _find_starts(carts: Sequence[Int32Array]) -> Int64Array:
    """Of carts among the products of all, (n_carts,)."""
    sizes = np.array([len(cart) for cart in carts], np.int64)
    starts: Int64Array = np.cumsum(sizes) - sizes
    return starts


def _find_positions(keys: Int64Array, wanted: Int64Array) -> Int64Array:
    """Place in `wanted` of every key; -1 if absent."""
    positions = np.full(len(keys), -1, np.int64)
    place, is_present = find_keys(keys, wanted)
    positions[place[is_present]] = np.flatnonzero(is_present)
    return positions


def _max_by_place(place: Int64Array, values: Float32Array, n: int) -> Float32Array:
    """(n,), at least 0."""
    largest = np.zeros(n, np.float32)
    np.maximum.at(largest, place, values)
    return largest
