"""How much more two versions earn per list, hour by hour alike, with bounds valid at any time.

A canary's share of the traffic grows while the shop's hours change, so that sums of a day would
compare its evening with the other's morning. Each hour counts by L₁L₂ / (L₁ + L₂) lists of both
(Mantel and Haenszel 1959), whose weighted rates are compared as ratios of sums over sessions:
without a gateway that keeps shoppers, one session sees lists of both versions, and more of the one
that has more traffic.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from components.experiments.confidence_sequence import (
    ALPHA,
    MIN_EVIDENCE,
    MIN_SESSIONS,
    Bounds,
    Moments,
    Sums,
    compare_arms,
    estimate,
)

OUTCOMES = ("select_item", "add_to_cart", "purchase")


class HourlySums:
    """Of one arm's sessions, by hour of their first list: (1, lists, clicks, adds, purchases) and
    products."""

    def __init__(self) -> None:
        self.n: dict[int, int] = {}
        self._sums: dict[int, npt.NDArray[np.float64]] = {}

    def add(self, hour: int, row: Sequence[int]) -> None:
        """Of one session: lists, clicks, adds, purchases."""
        sums = self._sums.get(hour)
        if sums is None:
            self._sums[hour] = sums = np.zeros((5, 4))
            self.n[hour] = 0
        values = np.array(row, float)
        self.n[hour] += 1
        sums[0] += values
        sums[1:] += values[:, None] * values

    def merge(self, other: "HourlySums") -> None:
        for hour, sums in other._sums.items():
            self.n[hour] = self.n.get(hour, 0) + other.n[hour]
            self._sums[hour] = self._sums.get(hour, 0.0) + sums

    def drop_before(self, hour: int) -> None:
        for old in [one for one in self.n if one < hour]:
            del self.n[old], self._sums[old]

    @property
    def n_sessions(self) -> int:
        return sum(self.n.values())

    def totals(self) -> tuple[int, ...]:
        """Lists, clicks, adds, purchases."""
        return tuple(int(one) for one in sum(sums[0] for sums in self._sums.values()))

    def of_outcome(self, outcome: int, hours: list[int]) -> Sums:
        """Of `OUTCOMES[outcome]` per list, one entry an hour."""
        sums = np.stack([self._sums[hour] for hour in hours])
        place = [outcome + 1, 0]
        first = np.zeros((len(hours), 3))
        second = np.zeros((len(hours), 3, 3))
        first[:, :2] = sums[:, 0, place]
        second[:, :2, :2] = sums[:, 1:][:, place][:, :, place]
        return Sums(np.array([self.n[hour] for hour in hours], float), first, second)


class Weighted(NamedTuple):
    moments: Moments
    expected: float
    """Outcomes that the arm would have if both earned the same per list, as far as the other arm's
    lists count in the same hours."""


def compare(
    treatment: HourlySums, control: HourlySums, outcome: int, alpha: float = ALPHA
) -> Bounds | None:
    """Of the relative difference in outcomes per list; None while there is too little of either."""
    hours = sorted(
        hour for hour in treatment.n if treatment.n[hour] > 1 and control.n.get(hour, 0) > 1
    )
    if not hours:
        return None
    arms = [arm.of_outcome(outcome, hours) for arm in (treatment, control)]
    treated, controlled = _weight_hours(arms)
    if _is_early(treated) or _is_early(controlled):
        return None
    effect = compare_arms(controlled.moments, treated.moments, alpha)
    lower, upper = float(effect.relative_lower), float(effect.relative_upper)
    # Nobody wants less than nothing. Without an upper bound the control may have earned nothing.
    return Bounds(max(lower, -1.0), upper) if math.isfinite(upper) else None


def _weight_hours(arms: list[Sums]) -> tuple[Weighted, ...]:
    lists = [arm.first[:, 1] for arm in arms]
    shared = lists[0] * lists[1] / (lists[0] + lists[1])
    pooled = (arms[0].first[:, 0] + arms[1].first[:, 0]) / (lists[0] + lists[1])
    weight = shared / shared.sum()
    expected = float((shared * pooled).sum())
    return tuple(_weight_arm(arm, weight, pooled, expected) for arm in arms)


def _weight_arm(
    arm: Sums, weight: npt.NDArray[np.float64], pooled: npt.NDArray[np.float64], expected: float
) -> Weighted:
    by_hour = estimate(arm)
    # Where an arm earned little or nothing its own variance says nothing: at least that of as many
    # independent outcomes as both arms' rate makes.
    square_error = np.maximum(by_hour.variance / by_hour.n, pooled / arm.first[:, 1])
    n = float(np.sum(arm.n))
    value = float((weight * by_hour.value).sum())
    return Weighted(Moments(n, value, n * float((weight**2 * square_error).sum())), expected)


def _is_early(arm: Weighted) -> bool:
    """Whether the normal approximation cannot be relied on yet."""
    return bool(arm.moments.n < MIN_SESSIONS or arm.expected < MIN_EVIDENCE)
