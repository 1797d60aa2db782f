"""Finds the fortnights of the year in which a product sells far less than in the rest of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.baskets.corpus import REFIT_SPLITS, encode, select_splits
from components.contracts import BASKETS, read_table
from components.model.arrays import Float64Array, Int64Array
from components.model.seasons import N_BINS, Seasons

MIN_DAYS = 300
"""Shorter data says nothing about most of a year."""

MAX_SHARE = 0.25
"""Of the expected sales: less is out of season."""

MAX_P = 1e-4
"""Poisson probability of so few sales by chance. A catalogue has 26 tests a product."""

DAY_US = 86_400_000_000


@dataclass(frozen=True)
class SeasonalSales:
    """Orders with a product around each fortnight, (n_items, N_BINS), and those expected.

    Around: with the fortnights before and after, circular. Expected is what the product's share of
    all baskets since its first sale makes of the baskets around that fortnight.
    """

    counts: Int64Array
    expected: Float64Array


def find_seasons(baskets_path: str | Path, product_ids: pa.Array) -> Seasons | None:
    """None for baskets without times, or of too few days."""
    if (sales := count_sales(baskets_path, product_ids)) is None:
        return None
    is_few = sales.counts < MAX_SHARE * sales.expected
    is_quiet = is_few.copy()
    is_quiet[is_few] = compute_p(sales.counts[is_few], sales.expected[is_few]) < MAX_P
    bits = np.uint32(1) << np.arange(N_BINS, dtype=np.uint32)
    return Seasons((is_quiet * bits).sum(axis=1, dtype=np.uint32))


def count_sales(baskets_path: str | Path, product_ids: pa.Array) -> SeasonalSales | None:
    names = ["ts", "items", "weight", "split"]
    table = select_splits(read_table(baskets_path, BASKETS, names), *REFIT_SPLITS)
    if not len(table) or table["ts"].null_count:
        return None
    days = table["ts"].cast(pa.int64()).to_numpy() // DAY_US
    days, first_day = days - days.min(), int(days.min())
    if days.max() < MIN_DAYS:
        return None
    corpus, n_items = encode(table, product_ids, *REFIT_SPLITS), len(product_ids)
    # Baskets by day and, of the days, their fortnight.
    n_baskets, bins = np.bincount(days), _find_bins(first_day + np.arange(days.max() + 1))
    sold_on = np.repeat(days, corpus.sizes)
    keys = corpus.items.astype(np.int64) * N_BINS + bins[sold_on]
    counts = np.bincount(keys, minlength=n_items * N_BINS).reshape(n_items, N_BINS)
    first = np.full(n_items, days.max() + 1)
    np.minimum.at(first, corpus.items, sold_on)
    since = _count_since(n_baskets, bins)[first]
    shares = counts.sum(axis=1) / np.maximum(since.sum(axis=1), 1)
    return SeasonalSales(_sum_around(counts), shares[:, None] * _sum_around(since))


def compute_p(counts: Int64Array, expected: Float64Array) -> Float64Array:
    """Probability of so few sales or fewer, after Poisson."""
    from scipy.stats import poisson

    found: Float64Array = poisson.cdf(counts, expected)
    return found


def _find_bins(days: Int64Array) -> Int64Array:
    """Fortnight of the year, of days since 1970."""
    dates = days.astype("datetime64[D]")
    of_year = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    bins: Int64Array = of_year * N_BINS // 366
    return bins


def _count_since(n_baskets: Int64Array, bins: Int64Array) -> Int64Array:
    """Baskets of each fortnight of the year from a day on, (n_days + 1, N_BINS)."""
    by_day = np.zeros((len(bins) + 1, N_BINS), np.int64)
    by_day[np.arange(len(bins)), bins] = n_baskets
    since: Int64Array = by_day[::-1].cumsum(axis=0)[::-1]
    return since


def _sum_around(values: Int64Array) -> Int64Array:
    around: Int64Array = values + np.roll(values, 1, axis=1) + np.roll(values, -1, axis=1)
    return around
