"""The catalogue that simulated shoppers know: prices, popularity, seasons, and what goes together.

`affinity` is the truth that recommendations are to find: the probability of another product beside
the one looked at.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.model.arrays import AnyArray, Float64Array, Int32Array, Int64Array, to_offsets
from components.model.bundle import Bundle
from components.model.seasons import N_BINS

QUIET = 0.2
"""Popularity of a product out of season, over that in the rest of the year."""

Pairs = tuple[AnyArray, AnyArray, AnyArray]
"""Products, their companions, and the probabilities, (n_pairs,) each."""

MAX_LINES = 50
"""Products of a basket whose pairs count: the pairs of a wholesaler would drown all others."""


@dataclass(frozen=True)
class Market:
    """`rows[offsets[i]:offsets[i + 1]]` are the companions of product i, ascending, and `affinity`
    their probabilities. `seasons` (N_BINS, n) multiply `popularity` (n,), which sums to 1."""

    product_ids: pa.Array
    prices: Float64Array
    popularity: Float64Array
    offsets: Int64Array
    rows: Int32Array
    affinity: Float64Array
    seasons: Float64Array

    def __len__(self) -> int:
        return len(self.prices)

    @cached_property
    def places(self) -> dict[str, int]:
        """Rows by product id."""
        return {id_: row for row, id_ in enumerate(self.product_ids.to_pylist())}

    def find_affinity(self, pages: Int32Array, rows: Int32Array) -> Float64Array:
        """In the shape of `pages` and `rows` broadcast; 0 for strangers and for row -1."""
        wanted = pages.astype(np.int64) * len(self) + rows
        if not len(self._keys):
            return np.zeros(wanted.shape)
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        found = (self._keys[places] == wanted) & (np.broadcast_to(rows, wanted.shape) >= 0)
        return np.where(found, self.affinity[places], 0.0)

    def draw_companions(self, pages: Int32Array, uniform: Float64Array) -> Int32Array:
        """One for each page (n,) by affinity; -1 where there is none."""
        starts, ends = self.offsets[pages], self.offsets[pages + 1]
        low, high = self._sums[starts], self._sums[ends]
        places = np.searchsorted(self._sums, low + uniform * (high - low), side="right") - 1
        drawn = self.rows[np.clip(places, starts, np.maximum(ends - 1, starts)) % len(self.rows)]
        return np.where(high > low, drawn, -1).astype(np.int32)

    def draw_pages(self, bins: Int64Array, uniform: Float64Array) -> Int32Array:
        """Products (n,) by popularity in these parts of the year (n,)."""
        drawn = np.empty(len(bins), np.int32)
        for one in np.unique(bins):
            sums = np.cumsum(self.popularity * self.seasons[one])
            mine = bins == one
            drawn[mine] = np.searchsorted(sums, uniform[mine] * sums[-1], side="right")
        return np.minimum(drawn, len(self) - 1)

    @cached_property
    def _keys(self) -> Int64Array:
        owners = np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))
        return owners * len(self) + self.rows

    @cached_property
    def _sums(self) -> Float64Array:
        return np.concatenate([[0.0], np.cumsum(self.affinity)])


def build_market(
    product_ids: pa.Array,
    prices: Float64Array,
    popularity: Float64Array,
    pairs: Pairs,
    seasons: Float64Array | None = None,
) -> Market:
    """`pairs` are products, their companions and the probabilities, in any order."""
    owners, rows, affinity = pairs
    order = np.lexsort((rows, owners))
    offsets = to_offsets(np.bincount(owners, minlength=len(prices)))
    seasons = np.ones((N_BINS, len(prices))) if seasons is None else seasons
    shares = popularity / popularity.sum()
    return Market(
        product_ids, prices, shares, offsets, rows[order].astype(np.int32), affinity[order], seasons
    )


def market_of_bundle(bundle: Bundle, baskets: str | Path | None = None) -> Market:
    """The products with vectors. Without `baskets` shoppers want what the model has counted; with
    a table BASKETS what its test baskets hold, which no model has learned from."""
    n = bundle.manifest.n_items
    ids = bundle.products["product_id"][:n]
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    if baskets is None:
        owners = np.repeat(np.arange(n), np.diff(bundle.pairs.offsets))
        shares = bundle.pairs.support / np.maximum(bundle.n_orders[owners], 1)
        pairs: Pairs = (owners, bundle.pairs.rows, np.minimum(shares, 1.0))
    else:
        pairs = count_companions(baskets, ids)
    popularity = bundle.n_orders.astype(np.float64)
    return build_market(ids, _read_prices(bundle), popularity, pairs, find_seasons(bundle))


def _read_prices(bundle: Bundle) -> Float64Array:
    """(n_items,); the median where a price is unknown, 1 where all are."""
    prices: Float64Array = bundle.records.price[: bundle.manifest.n_items].astype(np.float64)
    is_known = np.isfinite(prices) & (prices > 0)
    usual = float(np.median(prices[is_known])) if is_known.any() else 1.0
    return np.where(is_known, prices, usual).round(4)


def find_seasons(bundle: Bundle) -> Float64Array | None:
    """(N_BINS, n_items); None where the bundle knows of none."""
    if bundle.seasons is None:
        return None
    bits = (bundle.seasons.quiet >> np.arange(N_BINS, dtype=np.uint32)[:, None]) & 1
    return np.where(bits == 1, QUIET, 1.0)


def count_companions(baskets: str | Path, product_ids: pa.Array, split: str = "test") -> Pairs:
    """Products, their companions, and the share of the product's baskets that hold them.

    Pairs of one basket are left out: half of them are chance.
    """
    from scipy import sparse

    from components.baskets.corpus import encode, read_baskets

    corpus = encode(read_baskets(baskets), product_ids, split)
    corpus = corpus.take(np.flatnonzero((corpus.sizes >= 2) & (corpus.sizes <= MAX_LINES)))
    ones, shape = np.ones(len(corpus.items)), (len(corpus), len(product_ids))
    matrix = sparse.csr_matrix((ones, corpus.items, corpus.offsets), shape)
    counts = (matrix.T @ matrix).tocoo()
    totals = np.maximum(np.bincount(corpus.items, minlength=len(product_ids)), 1)
    kept = (counts.row != counts.col) & (counts.data >= 2)
    owners, rows = counts.row[kept], counts.col[kept]
    return owners, rows, counts.data[kept] / totals[owners]


def make_market(
    n_products: int, n_companions: int = 30, seed: int = 0, seasonal: float = 0.3
) -> Market:
    """A made-up shop: popularity by Zipf, and for each product companions whose affinity halves
    every four places; `seasonal` is the share of products that sell in half of the year alone."""
    rng = np.random.default_rng(seed)
    popularity = 1 / (np.arange(n_products) + 10.0)
    n_companions = min(n_companions, n_products - 1)
    steps = np.argsort(rng.random((n_products, n_products - 1)), axis=1)[:, :n_companions] + 1
    owners = np.repeat(np.arange(n_products), n_companions)
    rows = (np.arange(n_products)[:, None] + steps).ravel() % n_products
    affinity = np.tile(0.12 * 0.5 ** (np.arange(n_companions) / 4), n_products)
    seasons = np.ones((N_BINS, n_products))
    for row in np.flatnonzero(rng.random(n_products) < seasonal):
        seasons[(rng.integers(N_BINS) + np.arange(N_BINS // 2)) % N_BINS, row] = QUIET
    ids = pa.array([f"p{row:05d}" for row in range(n_products)])
    prices = np.round(np.exp(rng.normal(1.5, 0.7, n_products)), 2).astype(np.float64)
    return build_market(ids, prices, popularity, (owners, rows, affinity), seasons)
