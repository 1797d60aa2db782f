"""What a bundle says of carts and candidates: the numbers that blend and forest are made of.

Every product of a cart speaks for its companions, by co-occurrence and by the neighbours'
regressions. All carts of a batch are looked up at once, in flat arrays; the cost of a cart is that
of what its products say, whatever the size of the catalogue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from components.model.arrays import Float32Array, Float64Array, Int32Array, Int64Array
from components.model.bundle import Bundle, ItemFeatures
from components.model.float16 import to_float32
from components.model.item_scores import get_cart_weights
from components.model.product_records import encode_column, to_floats
from components.model.sorted_keys import find_keys, find_present, lookup_values
from components.model.text_similarity import concat_arrays, find_top_k

SHRINK = 2.0
"""Baskets added to observed and expected ones, so that a chance pair has no great lift."""

NORM_SAMPLE = 2_048
"""Products over which softmax denominators are estimated; exact for smaller catalogues."""

FEATURES = (
    *("neighbours_sum", "neighbours_max", "neighbours_min"),
    *("probability_sum", "probability_max", "recent_sum", "recent_max"),
    *("cosine_sum", "cosine_max", "lift_sum", "lift_max", "support_max", "reverse_max"),
    *("share_paired", "vector_max", "vector_sum", "vector_mean", "reverse_vector_max", "alike_max"),
    *("log_popularity", "trend_short", "trend_long", "basket_size", "days_unsold"),
    *("n_asked", "asked_popularity", "asked_trend", "asked_basket_size"),
    *("category_lift", "category_share", "same_category", "same_brand", "price_ratio"),
)
"""Columns of `FeatureBuilder.features`. Sums, maxima and means run over the products of the cart."""

COLUMN = {name: column for column, name in enumerate(FEATURES)}


@dataclass(frozen=True)
class CandidatePairs:
    """What the products of a batch of carts say: one entry per cart, product and companion.

    `found` are the distinct keys, cart * n_items + companion, in order; `pair_at` and
    `neighbour_at` say which of them an entry is about.
    """

    found: Int64Array
    pair_at: Int64Array
    pair: Int64Array
    """Places in the bundle's pair arrays."""
    pair_product: Int32Array
    """Which product of the catalogue says so."""
    pair_weight: Float32Array
    """How much it counts; 1 but where carts have an order that tells something."""
    neighbour_at: Int64Array
    neighbour_values: Float32Array


class FeatureBuilder:
    """Looks up and sums what a bundle's tables say of carts."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.item_features = bundle.item_features or build_default_features(bundle)
        self.n_items = bundle.manifest.n_items

    @cached_property
    def _category_orders(self) -> Float64Array:
        """Orders of every category's products, (n_codes,)."""
        return np.bincount(self.item_features.category_of, self.bundle.n_orders).astype(np.float64)

    @cached_property
    def _brand(self) -> Int32Array:
        records = self.bundle.records
        return encode_column(self.bundle.products["brand"]) if records is None else records.brand_of

    @cached_property
    def _price(self) -> Float32Array:
        records = self.bundle.records
        return to_floats(self.bundle.products, "price") if records is None else records.price

    def log_popularity(self, rows: Int64Array | Int32Array) -> Float32Array:
        """Logarithm of the share of baskets with these products, in the shape of `rows`."""
        shares = self.bundle.n_orders[rows] / self.bundle.manifest.n_orders
        logs: Float32Array = np.log(shares).astype(np.float32)
        return logs

    def log_price(self, rows: Int64Array | Int32Array) -> Float32Array:
        """NaN where there is no price above 0."""
        prices = self._price[rows]
        known = (prices > 0) & np.isfinite(prices)
        logs: Float32Array = np.log(np.where(known, prices, np.nan)).astype(np.float32)
        return logs

    def find_pairs(self, carts: Sequence[Int32Array], blended: bool = False) -> CandidatePairs:
        """What the products of the carts say, flat; `blended`: only what cart weights look at."""
        bundle, (cart, product) = self.bundle, _flat(carts)
        weights = bundle.manifest.cart_weights
        if blended and not (weights.cooccurrence or weights.cosine):
            no_pairs = np.empty(0, np.int64)
            pair, owner = no_pairs, no_pairs
        else:
            pair, owner = places(bundle.pair_offsets, product)
        weight = self._weights(carts, len(product))
        keys = cart[owner] * self.n_items + bundle.pair_rows[pair]
        neighbour_keys, values = np.empty(0, np.int64), np.empty(0, np.float32)
        if (neighbours := bundle.neighbours) is not None:
            at, speaker = places(neighbours.offsets, product)
            neighbour_keys = cart[speaker] * self.n_items + neighbours.rows[at]
            values = neighbours.scales[product[speaker]] * neighbours.weights[at] * weight[speaker]
        found, where = distinct(np.concatenate([keys, neighbour_keys]), len(carts) * self.n_items)
        pair_at, neighbour_at = np.split(where, [len(keys)])
        return CandidatePairs(
            found, pair_at, pair, product[owner], weight[owner], neighbour_at, values
        )

    @cached_property
    def has_item_scores(self) -> bool:
        """Whether what the products of a cart say was added up in advance, with these weights."""
        item_scores = self.bundle.item_scores
        return item_scores is not None and np.array_equal(
            item_scores.mix, get_cart_weights(self.bundle)
        )

    def sum_item_scores(self, cart: Int32Array) -> tuple[Int32Array, Float64Array]:
        """Products, ascending, that those of a cart say something for, and how much in all."""
        item_scores = self.bundle.item_scores
        assert item_scores is not None
        slices = [slice(*pair) for pair in zip(*self._ends(cart), strict=True)]
        rows = np.concatenate([item_scores.rows[one] for one in slices])
        values = np.concatenate([item_scores.values[one] for one in slices])
        if self.bundle.manifest.cart_recency != 1:
            weights = self._weights([cart], len(cart))
            values = values * np.repeat(weights, [one.stop - one.start for one in slices])
        order = rows.argsort()
        rows, values = rows[order], values[order]
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        if not len(first):
            return rows, values.astype(np.float64)
        return rows[first], np.add.reduceat(values.astype(np.float64), first)

    def _ends(self, cart: Int32Array) -> tuple[list[int], list[int]]:
        assert self.bundle.item_scores is not None
        offsets = self.bundle.item_scores.offsets
        return offsets[cart].tolist(), offsets[cart + 1].tolist()

    def _weights(self, carts: Sequence[Int32Array], n: int) -> Float32Array:
        """How much each of all carts' `n` products counts."""
        recency = self.bundle.manifest.cart_recency
        if recency == 1:
            return np.ones(n, np.float32)
        return concat_arrays([compute_cart_recency(recency, len(one)) for one in carts], np.float32)

    def candidates(
        self,
        carts: Sequence[Int32Array],
        find_pairs: CandidatePairs,
        sums: Float64Array,
        depth: int,
    ) -> tuple[Int64Array, Float32Array]:
        """The `depth` products for which most is said, and their sums, each (n_carts, depth).

        Best first, never one of the cart, and none against which more is said than for it. Where
        there are no more, rows are -1 and sums 0.
        """
        sums = sums.copy()
        sums[find_present(find_pairs.found, _asked_keys(carts, self.n_items))] = -np.inf
        rows = np.full((len(carts), depth), -1, np.int64)
        scores = np.zeros((len(carts), depth), np.float32)
        bounds = np.searchsorted(find_pairs.found, np.arange(len(carts) + 1) * self.n_items)
        for i, (start, end) in enumerate(pairwise(bounds)):
            best = start + find_top_k(sums[start:end], depth)
            best = best[sums[best] > 0]
            rows[i, : len(best)] = find_pairs.found[best] - i * self.n_items
            scores[i, : len(best)] = sums[best]
        return rows, scores

    def sums(self, find_pairs: CandidatePairs) -> Float64Array:
        """What all of a cart says for each one found, by cart weights but that of vectors."""
        bundle, weights, n = self.bundle, self.bundle.manifest.cart_weights, len(find_pairs.found)
        sums: Float64Array = np.bincount(
            find_pairs.neighbour_at, weights.neighbours * find_pairs.neighbour_values, n
        ).astype(np.float64)
        if weights.cooccurrence or weights.cosine:
            counted = weights.cooccurrence * bundle.pair_probability[find_pairs.pair]
            if weights.cosine:
                counted += weights.cosine * self._cosine(find_pairs.pair, find_pairs.pair_product)
            sums += np.bincount(find_pairs.pair_at, find_pairs.pair_weight * counted, n)
        if weights.trend:
            sums *= np.exp(
                weights.trend * self.item_features.items[find_pairs.found % self.n_items, 0]
            )
        return sums

    def get_sums(
        self, find_pairs: CandidatePairs, sums: Float64Array, cart: int, rows: Int64Array
    ) -> Float64Array:
        """The sums of these rows (n,) of the catalogue for that cart; 0 where nothing is said."""
        return lookup_values(find_pairs.found, sums, cart * self.n_items + rows)

    def features(
        self, carts: Sequence[Int32Array], find_pairs: CandidatePairs, rows: Int64Array
    ) -> Float32Array:
        """FEATURES of candidate `rows` (n_carts, depth), shape (n_carts, depth, n_features).

        What is not known is 0. Places without a candidate (-1) hold anything.
        """
        table = np.zeros((*rows.shape, len(FEATURES)), np.float32)
        keys = np.arange(len(rows))[:, None] * self.n_items + rows
        self._add_counted(table, find_pairs, np.where(rows >= 0, keys, -1).ravel())
        rows = np.maximum(rows, 0)
        self._add_vectors(table, carts, rows)
        self._add_candidates(table, rows)
        self._add_carts(table, carts, rows)
        return table

    def _cosine(self, pair: Int64Array, product: Int32Array) -> Float32Array:
        """Cosine between the baskets of the pairs' products, (n_pairs,)."""
        support = self.bundle.pair_support[pair]
        companion = self.bundle.pair_rows[pair]
        bought = self.bundle.n_orders
        cosines = support / np.sqrt(bought[product] * bought[companion].astype(np.float64))
        rounded: Float32Array = cosines.astype(np.float32)
        return rounded

    def _add_counted(
        self, table: Float32Array, find_pairs: CandidatePairs, wanted: Int64Array
    ) -> None:
        bundle, n = self.bundle, len(wanted)
        flat = table.reshape(n, len(FEATURES))
        place_of = _find_positions(find_pairs.found, wanted)
        place = place_of[find_pairs.pair_at]
        kept = np.flatnonzero(place >= 0)
        place, pair, product = place[kept], find_pairs.pair[kept], find_pairs.pair_product[kept]
        companion, support = bundle.pair_rows[pair], bundle.pair_support[pair].astype(np.float32)
        chance = bundle.n_orders[product] * (bundle.n_orders[companion] / bundle.manifest.n_orders)
        values: dict[str, Float32Array] = {
            "probability": bundle.pair_probability[pair],
            "recent": self.item_features.recent[pair],
            "cosine": self._cosine(pair, product),
            "lift": np.log((support + SHRINK) / (chance + SHRINK)).astype(np.float32),
        }
        weight = find_pairs.pair_weight[kept]
        for name, value in values.items():
            flat[:, COLUMN[f"{name}_sum"]] = np.bincount(place, weight * value, n)
            flat[:, COLUMN[f"{name}_max"]] = _largest(place, value, n)
        flat[:, COLUMN["support_max"]] = np.log1p(_largest(place, support, n))
        reverse = (support / bundle.n_orders[companion]).astype(np.float32)
        flat[:, COLUMN["reverse_max"]] = _largest(place, reverse, n)
        flat[:, COLUMN["share_paired"]] = np.bincount(place, minlength=n)
        place = place_of[find_pairs.neighbour_at]
        kept = np.flatnonzero(place >= 0)
        place, value = place[kept], find_pairs.neighbour_values[kept]
        flat[:, COLUMN["neighbours_sum"]] = np.bincount(place, value, n)
        flat[:, COLUMN["neighbours_max"]] = _largest(place, value, n)
        flat[:, COLUMN["neighbours_min"]] = -_largest(place, -value, n)

    def logits(self, cart: Int32Array, rows: Int64Array) -> Float32Array:
        """Logarithms of the vectors' softmax probabilities of `rows`, (n_cart, n_rows)."""
        bundle, beta = self.bundle, np.float32(self.bundle.manifest.beta_cart)
        logits: Float32Array = bundle.in_vectors[cart] @ to_float32(bundle.out_vectors[rows]).T
        logits += beta * self.log_popularity(rows)
        logits -= self.item_features.log_norms[cart][:, None]
        return logits

    def _add_vectors(
        self, table: Float32Array, carts: Sequence[Int32Array], rows: Int64Array
    ) -> None:
        bundle, starts, (cart, product) = self.bundle, _starts(carts), _flat(carts)
        inward = bundle.in_vectors.take(rows, axis=0)
        outward = to_float32(bundle.out_vectors.take(rows, axis=0))
        asked_in, asked_out = bundle.in_vectors[product], to_float32(bundle.out_vectors[product])
        # The products of all carts one below the other, (n_products, depth).
        likely, back, alike = np.empty((3, len(product), rows.shape[1]), np.float32)
        for i, (start, end) in enumerate(pairwise([*starts, len(product)])):
            mine = slice(start, end)
            np.matmul(asked_in[mine], outward[i].T, out=likely[mine])
            np.matmul(asked_out[mine], inward[i].T, out=back[mine])
            np.matmul(asked_in[mine], inward[i].T, out=alike[mine])
        likely += np.float32(bundle.manifest.beta_cart) * self.log_popularity(rows)[cart]
        likely -= self.item_features.log_norms[product][:, None]
        alike *= (1 / compute_norms(inward))[cart]
        alike *= (1 / compute_norms(asked_in))[:, None]
        n_asked = np.diff(starts, append=len(product))[:, None]
        table[..., COLUMN["vector_max"]] = np.maximum.reduceat(likely, starts)
        table[..., COLUMN["vector_mean"]] = np.add.reduceat(likely, starts) / n_asked
        table[..., COLUMN["vector_sum"]] = np.log(np.add.reduceat(np.exp(likely), starts))
        table[..., COLUMN["reverse_vector_max"]] = np.maximum.reduceat(back, starts)
        table[..., COLUMN["alike_max"]] = np.maximum.reduceat(alike, starts)

    def _add_candidates(self, table: Float32Array, rows: Int64Array) -> None:
        table[..., COLUMN["log_popularity"]] = self.log_popularity(rows)
        of_category = self._category_orders[self.item_features.category_of[rows]]
        table[..., COLUMN["category_share"]] = np.log(self.bundle.n_orders[rows] / of_category)
        first = COLUMN["trend_short"]
        table[..., first : first + self.item_features.items.shape[1]] = self.item_features.items[
            rows
        ]

    def _add_carts(
        self, table: Float32Array, carts: Sequence[Int32Array], rows: Int64Array
    ) -> None:
        item_features, (cart, product) = self.item_features, _flat(carts)
        n_asked = np.array([len(one) for one in carts], np.float32)

        def mean(values: Float32Array) -> Float32Array:
            means: Float32Array = (np.bincount(cart, values, len(carts)) / n_asked).astype(
                np.float32
            )
            return means

        table[..., COLUMN["share_paired"]] /= n_asked[:, None]
        table[..., COLUMN["n_asked"]] = n_asked[:, None]
        table[..., COLUMN["asked_popularity"]] = mean(self.log_popularity(product))[:, None]
        table[..., COLUMN["asked_trend"]] = mean(item_features.items[product, 0])[:, None]
        table[..., COLUMN["asked_basket_size"]] = mean(item_features.items[product, 2])[:, None]
        asked_price = self.log_price(product)
        priced = mean(np.isfinite(asked_price).astype(np.float32))
        typical = mean(np.nan_to_num(asked_price)) / np.maximum(priced, 1e-9)
        ratio = np.nan_to_num(self.log_price(rows) - typical[:, None])
        table[..., COLUMN["price_ratio"]] = np.where(priced[:, None] > 0, ratio, 0)
        starts, of_each = _starts(carts), rows[cart]
        theirs, mine = (
            item_features.category_of[product][:, None],
            item_features.category_of[of_each],
        )
        lift = np.add.reduceat(item_features.category_lift[theirs, mine], starts)
        table[..., COLUMN["category_lift"]] = lift / n_asked[:, None]
        same = (theirs == mine) & (mine > 0)
        table[..., COLUMN["same_category"]] = np.add.reduceat(same, starts, dtype=np.float32)
        theirs, mine = self._brand[product][:, None], self._brand[of_each]
        same = (theirs == mine) & (mine > 0)
        brands = np.add.reduceat(same, starts, dtype=np.float32)
        table[..., COLUMN["same_brand"]] = brands / n_asked[:, None]


def compute_cart_recency(factor: float, n: int) -> Float32Array:
    """Weights (n,), 1 in the mean, of a cart's products, of which the last was put in last."""
    weights = np.power(np.float32(factor), np.arange(n - 1, -1, -1, dtype=np.float32))
    even: Float32Array = weights * (n / max(weights.sum(), 1e-9))
    return even.astype(np.float32)


def places(
    offsets: Int64Array, products: Int32Array, most: int | None = None
) -> tuple[Int64Array, Int64Array]:
    """Places of the products' entries in a flat table with `offsets`, and whose each one is.

    Of every product no more than the first `most`.
    """
    starts = offsets[products].astype(np.int64)
    sizes = offsets[products + 1] - starts
    if most is not None:
        sizes = np.minimum(sizes, most)
    owner = np.repeat(np.arange(len(products)), sizes)
    return np.arange(sizes.sum()) + (starts - (np.cumsum(sizes) - sizes))[owner], owner


def log_norms(
    in_vectors: Float32Array, out_vectors: Float32Array, bias: Float32Array, seed: int = 0
) -> Float32Array:
    """log of the sum over all products of exp(in·out + bias), (n_items,), from a sample of them."""
    n = len(out_vectors)
    sample = np.sort(np.random.default_rng(seed).permutation(n)[:NORM_SAMPLE])
    sampled = to_float32(out_vectors[sample])
    norms = np.empty(n, np.float32)
    for start in range(0, n, 1_024):
        block = slice(start, start + 1_024)
        logits = in_vectors[block] @ sampled.T + bias[sample]
        top = logits.max(axis=1)
        sums = np.exp(logits - top[:, None]).sum(axis=1)
        norms[block] = top + np.log(sums * (n / len(sample)))
    return norms


def build_default_features(bundle: Bundle) -> ItemFeatures:
    """Facts of a bundle that has none: nothing is known of time and categories."""
    n_items = bundle.manifest.n_items
    bias = bundle.manifest.beta_cart * np.log(bundle.n_orders / bundle.manifest.n_orders)
    return ItemFeatures(
        recent=bundle.pair_probability,
        items=np.zeros((n_items, 4), np.float32),
        category_of=np.zeros(n_items, np.int32),
        category_lift=np.zeros((1, 1), np.float32),
        log_norms=log_norms(bundle.in_vectors, bundle.out_vectors, bias.astype(np.float32)),
    )


def _flat(carts: Sequence[Int32Array]) -> tuple[Int64Array, Int32Array]:
    """Cart and product of every product of all carts."""
    sizes = [len(cart) for cart in carts]
    return np.repeat(np.arange(len(carts)), sizes), np.concatenate([*carts, np.empty(0, np.int32)])


def _starts(carts: Sequence[Int32Array]) -> Int64Array:
    """Where each cart begins among the products of all of them, (n_carts,)."""
    sizes = np.array([len(cart) for cart in carts], np.int64)
    starts: Int64Array = np.cumsum(sizes) - sizes
    return starts


def _asked_keys(carts: Sequence[Int32Array], n_items: int) -> Int64Array:
    cart, product = _flat(carts)
    return cart * n_items + product


def distinct(keys: Int64Array, size: int) -> tuple[Int64Array, Int64Array]:
    """The different ones of `keys`, which are below `size`, in order; and where each key is."""
    if size > 32 * len(keys):
        found, where = np.unique(keys, return_inverse=True)
        return found, where.astype(np.int64)
    # Marking is several times faster than sorting while the marks are few.
    marks = np.zeros(size, np.bool_)
    marks[keys] = True
    found = np.flatnonzero(marks).astype(np.int64)
    places = np.empty(size, np.int32)
    places[found] = np.arange(len(found))
    return found, places[keys].astype(np.int64)


def _find_positions(found: Int64Array, wanted: Int64Array) -> Int64Array:
    """Place in `wanted` of every one of `found`, -1 where it is not wanted; -1 is never found."""
    places = np.full(len(found), -1, np.int64)
    at, there = find_keys(found, wanted)
    places[at[there]] = np.flatnonzero(there)
    return places


def _largest(place: Int64Array, values: Float32Array, n: int) -> Float32Array:
    """The largest value at every place (n,), and at least 0."""
    find_top_k = np.zeros(n, np.float32)
    np.maximum.at(find_top_k, place, values)
    return find_top_k


def normalize_vectors(vectors: Float32Array) -> Float32Array:
    """Vectors (n, dims) of length 1, or 0 as they are."""
    unit: Float32Array = vectors / compute_norms(vectors)[:, None]
    return unit


def compute_norms(vectors: Float32Array) -> Float32Array:
    """Lengths (...) of vectors (..., dims), above 0 so that they divide."""
    squares = np.einsum("...i,...i->...", vectors, vectors)
    found: Float32Array = np.maximum(np.sqrt(squares), 1e-9)
    return found
