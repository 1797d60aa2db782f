"""Weights of training baskets by size, age and item order, as chosen by `components.weighting`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from components.baskets.corpus import Corpus, encode, release_memory, select_splits
from components.contracts import BASKETS, read_table
from components.model.arrays import Float32Array, Int64Array

MAX_UNORDERED_SHARE = 0.1
"""Largest share of baskets without positions for item order to be used."""

DAYS_A_YEAR = 365.25


class BasketWeighting(BaseModel):
    """The defaults switch everything off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_exponent: float = Field(default=1.0, ge=0, le=2)
    """A pair in a basket of n weighs (n - 1)**-size_exponent."""
    half_life_days: float = Field(default=0.0, ge=0, le=36_500)
    """Age in days at which a basket weighs half; 0 is off."""
    window_days: float = Field(default=0.0, ge=0, le=36_500)
    """Baskets older than this many days weigh nothing; 0 is off."""
    season_days: float = Field(default=0.0, ge=0, le=366)
    """Days of the year away from the newest at which a basket weighs half; 0 is off."""
    join_hours: float = Field(default=0.0, ge=0, le=24 * 365)
    """Orders of one user at most this far apart are joined; 0 is off."""
    reach: int = Field(default=0, ge=0, le=1000)
    """Pairs weigh 1 / distance up to this distance, 0 beyond; 0 is off. Needs real item order."""
    cart_recency: float = Field(default=1.0, gt=0, le=1)
    """Factor on a cart's item for every item added after it; 1 is off. Needs real item order."""


@dataclass(frozen=True)
class TrainingBaskets:
    """Baskets with their ages in days and users, (n_baskets,); None where unknown."""

    corpus: Corpus
    ages: Float32Array | None
    users: pa.ChunkedArray | None = None

    def apply_size_exponent(self, exponent: float) -> Corpus:
        """Pairs, counted as weight / (n - 1), then count (n - 1)**-exponent."""
        factor = np.maximum(self.corpus.sizes - 1, 1).astype(np.float64) ** (1 - exponent)
        return replace(self.corpus, weights=(self.corpus.weights * factor).astype(np.float32))

    def apply(self, weighting: BasketWeighting) -> "TrainingBaskets":
        """Does nothing without ages; joins no baskets without users."""
        corpus, ages = self.corpus, self.ages
        if ages is None:
            return TrainingBaskets(corpus, None)
        if weighting.join_hours and self.users is not None:
            corpus, ages = join_sessions(corpus, ages, self.users, weighting.join_hours / 24)
        weights = corpus.weights.copy()
        if weighting.half_life_days:
            weights *= decay_weights(ages, weighting.half_life_days)
        if weighting.window_days:
            weights[ages > weighting.window_days] = 0
        if weighting.season_days:
            weights *= decay_weights(find_season_distances(ages), weighting.season_days)
        return TrainingBaskets(replace(corpus, weights=weights), ages)


def read_training_baskets(
    path: str | Path,
    product_ids: pa.Array,
    weighting: BasketWeighting,
    splits: Sequence[str] = ("train",),
) -> TrainingBaskets:
    return read_raw_baskets(path, product_ids, splits).apply(weighting)


def read_raw_baskets(
    path: str | Path, product_ids: pa.Array, splits: Sequence[str] = ("train",)
) -> TrainingBaskets:
    names = ["user_id", "ts", "items", "weight", "split"]
    table = select_splits(read_table(path, BASKETS, names), *splits)
    users = table["user_id"] if table["user_id"].null_count < len(table) else None
    raw = TrainingBaskets(encode(table, product_ids, *splits), compute_ages(table["ts"]), users)
    del table
    release_memory()
    return raw


def decay_weights(ages: Float32Array, half_life_days: float) -> Float32Array:
    weights: Float32Array = np.power(0.5, ages / half_life_days).astype(np.float32)
    return weights


def find_season_distances(ages: Float32Array) -> Float32Array:
    """Days between the day of the year of each basket and that of the newest, at most 183."""
    into_year = ages % DAYS_A_YEAR
    distances: Float32Array = np.minimum(into_year, DAYS_A_YEAR - into_year).astype(np.float32)
    return distances


def has_item_order(path: str | Path) -> bool:
    """Whether nearly all training baskets have positions."""
    table = read_table(path, BASKETS, ["positions", "split"])
    positions = select_splits(table, "train")["positions"]
    return len(positions) > 0 and positions.null_count < MAX_UNORDERED_SHARE * len(positions)


def compute_ages(timestamps: pa.ChunkedArray) -> Float32Array | None:
    """Days before the newest, (n,); None if any is missing or there are none."""
    if not len(timestamps) or timestamps.null_count:
        return None
    micros = timestamps.cast(pa.int64()).to_numpy()
    ages: Float32Array = ((micros.max() - micros) / 86_400e6).astype(np.float32)
    return ages


def join_sessions(
    corpus: Corpus, ages: Float32Array, users: pa.ChunkedArray, days: float
) -> tuple[Corpus, Float32Array]:
    """Join baskets of a user within `days`, with the largest weight and the smallest age."""
    session = _find_sessions(ages, users, days)
    n_sessions, n_items = int(session.max(initial=-1)) + 1, int(corpus.items.max(initial=0)) + 1
    keys = np.repeat(session, corpus.sizes) * n_items + corpus.items
    first = np.sort(np.unique(keys, return_index=True)[1])
    basket, items = np.divmod(keys[first], n_items)
    by_basket = np.argsort(basket, kind="stable")
    sizes = np.bincount(basket, minlength=n_sessions)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    weights = np.zeros(n_sessions, np.float32)
    joined_ages = np.full(n_sessions, np.inf, np.float32)
    np.maximum.at(weights, session, corpus.weights)
    np.minimum.at(joined_ages, session, ages)
    return Corpus(items[by_basket].astype(np.int32), offsets, weights), joined_ages


def _find_sessions(ages: Float32Array, users: pa.ChunkedArray, days: float) -> Int64Array:
    """Session number of every basket, (n_baskets,)."""
    codes = users.combine_chunks().dictionary_encode().indices
    user = codes.to_numpy(zero_copy_only=False)
    # A basket without user is a session of its own.
    unknown = codes.is_null().to_numpy(zero_copy_only=False)
    user = np.where(unknown, len(user) + np.arange(len(user)), np.nan_to_num(user)).astype(np.int64)
    order = np.lexsort((-ages, user))
    gaps = np.diff(-ages[order], prepend=-np.inf)
    starts = (np.diff(user[order], prepend=-1) != 0) | (gaps > days)
    session = np.empty(len(order), np.int64)
    session[order] = np.cumsum(starts) - 1
    return session
