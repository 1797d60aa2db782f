"""Tricks of time and position: which training baskets count how much, before any model sees them.

Each is off unless validation baskets say that it pays (`components.weighting`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from components.baskets.corpus import Corpus, encode, release_memory, select_splits
from components.contracts import BASKETS, read_table
from components.model.arrays import Float32Array

MAX_UNORDERED_SHARE = 0.1
"""Share of baskets without positions from which on the order of the others is not used."""


class BasketWeighting(BaseModel):
    """What counts how much. The defaults are all tricks off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_exponent: float = Field(default=1.0, ge=0, le=2)
    """A pair in a basket of n counts (n - 1) to the minus this; 0 counts baskets, 1 spreads one
    unit per product over its companions."""
    half_life_days: float = Field(default=0.0, ge=0, le=36_500)
    """Age in days at which a basket counts half; 0 is off."""
    window_days: float = Field(default=0.0, ge=0, le=36_500)
    """Age in days from which a basket does not count at all; 0 is off."""
    join_hours: float = Field(default=0.0, ge=0, le=24 * 365)
    """Orders of one user at most so far apart are one basket; 0 is off."""
    reach: int = Field(default=0, ge=0, le=1000)
    """Only pairs at most so many places apart in a basket count, each 1 / places; 0 is off. Only
    where the order inside baskets is real."""
    cart_recency: float = Field(default=1.0, gt=0, le=1)
    """What a product in a cart says counts less by this factor for every product put in after it;
    1 is off. Only where the order inside carts is real."""


@dataclass(frozen=True)
class TrainingBaskets:
    """Training baskets as tricks leave them, with their `ages` in days (n_baskets,) if known."""

    corpus: Corpus
    ages: Float32Array | None

    def apply_size_exponent(self, exponent: float) -> Corpus:
        """The corpus whose pairs, counted as weight/(n - 1), count weight * (n - 1)**-exponent."""
        factor = np.maximum(self.corpus.sizes - 1, 1).astype(np.float64) ** (1 - exponent)
        weights = (self.corpus.weights * factor).astype(np.float32)
        return Corpus(self.corpus.items, self.corpus.offsets, weights)


@dataclass(frozen=True)
class RawBaskets:
    """Baskets before any trick: with `ages` as in Training, and `users` (n_baskets,) if known."""

    corpus: Corpus
    ages: Float32Array | None
    users: pa.ChunkedArray | None

    def apply(self, weighting: BasketWeighting) -> TrainingBaskets:
        """What the tricks make of them.

        Without times (some or all), tricks of time do nothing; without users nothing is joined.
        """
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
        return TrainingBaskets(Corpus(corpus.items, corpus.offsets, weights), ages)


def read_training_baskets(
    path: str | Path,
    product_ids: pa.Array,
    weighting: BasketWeighting,
    splits: Sequence[str] = ("train",),
) -> TrainingBaskets:
    """The baskets of these splits of the BASKETS at `path` over the catalogue, after the tricks."""
    return read_raw_baskets(path, product_ids, splits).apply(weighting)


def read_raw_baskets(
    path: str | Path, product_ids: pa.Array, splits: Sequence[str] = ("train",)
) -> RawBaskets:
    """The same before any trick: what several settings of them are tried on."""
    names = ["user_id", "ts", "items", "weight", "split"]
    table = select_splits(read_table(path, BASKETS, names), *splits)
    users = table["user_id"]
    known = users if users.null_count < len(users) else None
    raw = RawBaskets(encode(table, product_ids, *splits), compute_ages(table["ts"]), known)
    del table, users
    release_memory()
    return raw


def decay_weights(ages: Float32Array, half_life_days: float) -> Float32Array:
    """Weights (n_baskets,) that halve with every `half_life_days` of age."""
    weights: Float32Array = np.power(0.5, ages / half_life_days).astype(np.float32)
    return weights


def has_item_order(path: str | Path) -> bool:
    """Whether nearly all training baskets of the BASKETS at `path` say in which order they grew."""
    table = read_table(path, BASKETS, ["positions", "split"])
    positions = select_splits(table, "train")["positions"]
    return len(positions) > 0 and positions.null_count < MAX_UNORDERED_SHARE * len(positions)


def compute_ages(moments: pa.ChunkedArray) -> Float32Array | None:
    """Days before the newest of the moments, (n,); None where one is missing or there is none."""
    if not len(moments) or moments.null_count:
        return None
    micros = moments.cast(pa.int64()).to_numpy()
    ages: Float32Array = ((micros.max() - micros) / 86_400e6).astype(np.float32)
    return ages


def join_sessions(
    corpus: Corpus, ages: Float32Array, users: pa.ChunkedArray, days: float
) -> tuple[Corpus, Float32Array]:
    """Baskets of one user, each at most `days` after the one before, as one.

    A joined basket has the largest weight and the age of its newest. Products count once.
    """
    codes = users.combine_chunks().dictionary_encode().indices
    user = codes.to_numpy(zero_copy_only=False)
    # Who is nobody is alone: each such basket is a user of its own.
    nobody = codes.is_null().to_numpy(zero_copy_only=False)
    user = np.where(nobody, len(user) + np.arange(len(user)), np.nan_to_num(user)).astype(np.int64)
    order = np.lexsort((-ages, user))
    gaps = np.diff(-ages[order], prepend=-np.inf)
    starts = (np.diff(user[order], prepend=-1) != 0) | (gaps > days)
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(starts) - 1
    n_groups, n_items = int(starts.sum()), int(corpus.items.max(initial=0)) + 1
    keys = np.repeat(group, corpus.sizes) * n_items + corpus.items
    once = np.sort(np.unique(keys, return_index=True)[1])
    basket, items = np.divmod(keys[once], n_items)
    by_basket = np.argsort(basket, kind="stable")
    sizes = np.bincount(basket, minlength=n_groups)
    weights, age = np.zeros(n_groups, np.float32), np.full(n_groups, np.inf, np.float32)
    np.maximum.at(weights, group, corpus.weights)
    np.minimum.at(age, group, ages)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Corpus(items[by_basket].astype(np.int32), offsets, weights), age
