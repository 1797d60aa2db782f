"""How much a product that was shown counts as an example."""

from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from components.baskets.weighting import decay_weights, find_season_distances
from components.model.arrays import Float32Array, Float64Array, Int64Array

HALF_A_YEAR = 183
"""Days from which an example counts by its season."""


class FeedbackSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_days: float = Field(default=28, gt=0, le=36_500)
    """Age in days at which an example counts half."""
    season_share: float = Field(default=0.25, ge=0, le=1)
    """Weight of an example of the same days in an earlier year; 0 is off."""
    min_propensity: float = Field(default=0.1, gt=0, le=1)
    """Least propensity of a place: bounds the variance of clicks far below."""


class Outcomes(NamedTuple):
    """Products that were seen, by what followed; a bought one counts in all it went through."""

    clicked: int
    clicked_and_bought: int
    added: int
    added_and_bought: int


class Values(NamedTuple):
    """The worth of an outcome, as a share of a bought product."""

    click: float
    add: float


def value_outcomes(counts: Outcomes) -> Values:
    """The probability that the product is bought, with one of two more (Laplace)."""
    click = (counts.clicked_and_bought + 1) / (counts.clicked + 2)
    return Values(click, max(click, (counts.added_and_bought + 1) / (counts.added + 2)))


def weigh_ages(ages: Float32Array, settings: FeedbackSettings) -> Float32Array:
    """Of examples of these ages in days, (n,)."""
    recent = decay_weights(ages, settings.half_life_days)
    distances = find_season_distances(ages)
    seasonal = settings.season_share * decay_weights(distances, settings.half_life_days)
    weights: Float32Array = np.where(ages < HALF_A_YEAR, recent, np.maximum(recent, seasonal))
    return weights


def fill_propensities(
    positions: Int64Array, propensities: Float64Array, n: int, settings: FeedbackSettings
) -> Float64Array:
    """Of places 0 to `n` - 1, (n,): where none is measured, that of the last place before.

    Without any all are 1, so that nothing is corrected.
    """
    known = np.full(max(n, 1), np.nan)
    inside = (positions >= 0) & (positions < n)
    known[positions[inside]] = propensities[inside]
    known[0] = 1.0
    last = np.maximum.accumulate(np.where(np.isnan(known), 0, np.arange(len(known))))
    filled: Float64Array = np.clip(known[last], settings.min_propensity, 1)[:n]
    return filled
