"""Which offline measure predicts an online one, over model versions."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from components.model.arrays import Float64Array

MIN_VERSIONS = 5
"""Fewer versions say nothing: of four, one order in 24 agrees wholly by chance."""
Z_95 = 1.959964


class OnlineValue(NamedTuple):
    """An online measure of a version with its 95 % bounds."""

    mean: float
    low: float
    high: float


class MeasuredVersion(NamedTuple):
    version: str
    offline: Mapping[str, float]
    online: OnlineValue


class Correlation(NamedTuple):
    mean: float
    low: float
    high: float
    """Bounds of 95 %, NaN for fewer than five versions."""


class Agreement(NamedTuple):
    """Of one offline measure with the online one."""

    measure: str
    n_versions: int
    spearman: Correlation
    kendall: Correlation
    clear_pairs: int
    """Pairs of versions whose online bounds do not overlap, and that differ offline."""
    agreeing_pairs: int
    """Those of them that the offline measure orders alike."""


def measure_agreement(versions: Sequence[MeasuredVersion]) -> list[Agreement]:
    """For every offline measure, best first; correlations are NaN for a single version."""
    names = dict.fromkeys(name for one in versions for name in one.offline)
    found = [_compare(name, [one for one in versions if name in one.offline]) for name in names]
    return sorted(found, key=lambda one: -np.nan_to_num(one.spearman.mean, nan=-2))


def say_agreement(found: Sequence[Agreement], online: str) -> str:
    """The result in words; `online` names the measure, as in `click-through rate`."""
    n = max((one.n_versions for one in found), default=0)
    if n < MIN_VERSIONS:
        versions = "1 version" if n == 1 else f"{n} versions"
        return (
            f"{versions} with both offline and online measures: too few to tell which offline "
            f"measure predicts the {online}. It takes at least {MIN_VERSIONS}."
        )
    sure = [one for one in found if one.spearman.low > 0]
    against = [one.measure for one in found if one.spearman.high < 0]
    if sure:
        text = f"Over {n} versions, {sure[0].measure} predicts the {online} best"
        others = ", ".join(one.measure for one in sure[1:])
        text += f"; so do {others}, less closely." if others else "."
    else:
        text = f"Over {n} versions, no offline measure surely predicts the {online}."
    if against:
        text += f" The higher {' or '.join(against)}, the lower the {online}."
    return text


def _compare(name: str, versions: Sequence[MeasuredVersion]) -> Agreement:
    offline = np.array([one.offline[name] for one in versions], np.float64)
    online = np.array([one.online.mean for one in versions], np.float64)
    n = len(versions)
    spearman = _correlate(_rank(offline), _rank(online))
    return Agreement(
        name, n,
        _bound(spearman, (1 + spearman**2 / 2) / (n - 3) if n >= MIN_VERSIONS else np.nan),
        _bound(_compute_tau(offline, online), 0.437 / (n - 4) if n >= MIN_VERSIONS else np.nan),
        *_count_clear_pairs(name, versions),
    )  # fmt: skip


def _bound(value: float, variance: float) -> Correlation:
    """By Fisher's z; the variances are of Bonett and Wright 2000 and of Fieller et al. 1957."""
    if np.isnan(value) or np.isnan(variance):
        return Correlation(value, np.nan, np.nan)
    z = np.arctanh(np.clip(value, -0.9999, 0.9999))
    margin = Z_95 * np.sqrt(variance)
    return Correlation(value, float(np.tanh(z - margin)), float(np.tanh(z + margin)))


def _rank(values: Float64Array) -> Float64Array:
    """Ties share the mean of their ranks."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Float64Array = (ends - (counts - 1) / 2)[index]
    return ranks


def _correlate(left: Float64Array, right: Float64Array) -> float:
    left, right = left - left.mean(), right - right.mean()
    scale = np.sqrt((left @ left) * (right @ right))
    return float(left @ right / scale) if scale else float("nan")


def _compute_tau(left: Float64Array, right: Float64Array) -> float:
    """Kendall's tau-b."""
    first, second = np.triu_indices(len(left), 1)
    a, b = np.sign(left[first] - left[second]), np.sign(right[first] - right[second])
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else float("nan")


def _count_clear_pairs(name: str, versions: Sequence[MeasuredVersion]) -> tuple[int, int]:
    n_clear = n_agreeing = 0
    for one, other in combinations(versions, 2):
        is_clear = one.online.low > other.online.high or one.online.high < other.online.low
        if is_clear and one.offline[name] != other.offline[name]:
            n_clear += 1
            is_better = one.offline[name] > other.offline[name]
            n_agreeing += is_better == (one.online.mean > other.online.mean)
    return n_clear, n_agreeing
