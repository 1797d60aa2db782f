"""Intervals of ratios whose rows come in sessions: the delta method.

A ratio of sums over sessions is about normal around sum(n) / sum(d), with the variance
`k / (k - 1) · Σ (n - r·d)² / (Σ d)²` of k sessions: Deng, Knoblich, Lu, "Applying the delta method
in metric analytics", KDD 2018, equation 3, written with sums.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from components.model.arrays import Float64Array


class Moments(NamedTuple):
    """Sums over sessions of numerator n and denominator d; all (n_groups,)."""

    n_sessions: Float64Array
    n: Float64Array
    d: Float64Array
    nn: Float64Array
    nd: Float64Array
    dd: Float64Array


class Intervals(NamedTuple):
    """(n_groups,) each; nan where the denominator is 0, or a bound is not known."""

    value: Float64Array
    lower: Float64Array
    upper: Float64Array


def compute_intervals(moments: Moments, confidence: float = 0.95) -> Intervals:
    """Of ratios that are not negative."""
    k = moments.n_sessions
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = moments.n / moments.d
        squares = moments.nn - 2 * ratio * moments.nd + ratio**2 * moments.dd
        variance = k / (k - 1) * np.maximum(squares, 0) / moments.d**2
    ratio[moments.d == 0] = np.nan
    variance[k < 2] = np.nan
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * np.sqrt(variance)
    return Intervals(ratio, np.maximum(ratio - half, 0), ratio + half)


def bound_unseen(moments: Moments, confidence: float = 0.95) -> Float64Array:
    """(n_groups,): upper bound of a rate where nothing was counted at all, whose variance says
    nothing: the mean of a Poisson variable that is 0 with probability (1 - confidence) / 2."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log((1 - confidence) / 2) / moments.d)
