"""How many sessions interleaving needs, and how many split arms, for the same better ranking."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from components.experiments.confidence_sequence import ALPHA, Numbers
from components.experiments.plan import POWER

N_PRODUCTS, K = 40, 10
EXAMINATION = 0.7
"""Position p is looked at with probability (1 + p) ** -EXAMINATION."""
CONTROL_NOISE, TREATMENT_NOISE = 0.5, 0.4
"""Deviation of a ranker's errors, where that of the products' logits is 1."""
N_DRAFTS = 2
N_TRIALS = 2000

Ranks = npt.NDArray[np.int64]


class Speedup(NamedTuple):
    lift: float
    """Of clicks per session by the better ranking."""
    split_sessions: int
    """Of both arms, for the power at a fixed end."""
    interleaved_sessions: int
    speedup: float
    split_power: float
    """Found in simulated experiments of that size."""
    interleaved_power: float


class Shoppers(NamedTuple):
    """One row for each session."""

    appeal: Numbers
    """Probability of a click on each product that is looked at."""
    control: Ranks
    """The K products that it would see, best first."""
    treatment: Ranks


class Outcomes(NamedTuple):
    """Values that a session may have, and their probabilities over all sessions."""

    values: Numbers
    shares: Numbers

    @property
    def mean(self) -> float:
        return float(self.values @ self.shares)

    @property
    def variance(self) -> float:
        return float(self.values**2 @ self.shares) - self.mean**2


def simulate_interleaving_speedup(
    n_sessions: int = 40_000,
    alpha: float = ALPHA,
    power: float = POWER,
    treatment_noise: float = TREATMENT_NOISE,
    seed: int = 0,
) -> Speedup:
    """Shoppers and lists are drawn, the probabilities of their clicks are added up."""
    rng = np.random.default_rng(seed)
    shoppers = draw_shoppers(rng, n_sessions, treatment_noise)
    control, treatment = (_count_clicks(shoppers.appeal, one) for one in shoppers[1:])
    wins = _count_wins(rng, shoppers)
    difference = treatment.mean - control.mean
    # The error of the difference of two halves of n sessions is 2 (σ₀² + σ₁²) / n.
    n_split = _solve(difference, 2 * (control.variance + treatment.variance), alpha, power)
    n_interleaved = _solve(wins.mean, wins.variance, alpha, power)
    return Speedup(
        lift=difference / control.mean,
        split_sessions=n_split,
        interleaved_sessions=n_interleaved,
        speedup=n_split / n_interleaved,
        split_power=_try_split(rng, control, treatment, n_split, alpha),
        interleaved_power=_try_interleaved(rng, wins, n_interleaved, alpha),
    )


def draw_shoppers(rng: np.random.Generator, n: int, treatment_noise: float) -> Shoppers:
    """Sessions differ in taste and in how readily they click at all."""
    logits = rng.normal(size=(n, N_PRODUCTS)).astype(np.float32)
    readiness = rng.gamma(1, 1, (n, 1))
    appeal = np.minimum(readiness * 0.03 * np.exp(logits), 1)

    def rank(noise: float) -> Ranks:
        scores = logits + rng.normal(scale=noise, size=logits.shape)
        return np.argsort(-scores, axis=1)[:, :K]

    return Shoppers(appeal, rank(CONTROL_NOISE), rank(treatment_noise))


def draft_teams(
    rng: np.random.Generator, control: Ranks, treatment: Ranks
) -> tuple[Ranks, npt.NDArray[np.bool_]]:
    """Team draft of all sessions at once: the lists, and whether the treatment gave each place."""
    n, k = control.shape
    rows = np.arange(n)
    taken = np.zeros((n, N_PRODUCTS), bool)
    coins = rng.random((n, (k + 1) // 2)) < 0.5
    is_treatment = np.stack([coins, ~coins], axis=2).reshape(n, -1)[:, :k]
    shown = np.empty((n, k), np.int64)
    for place in range(k):
        lists = np.where(is_treatment[:, place, None], treatment, control)
        best = (~taken[rows[:, None], lists]).argmax(axis=1)
        shown[:, place] = lists[rows, best]
        taken[rows, shown[:, place]] = True
    return shown, is_treatment


def _count_clicks(appeal: Numbers, shown: Ranks) -> Outcomes:
    """Clicks of a session."""
    shares = _convolve(_expect_clicks(appeal, shown))
    return Outcomes(np.arange(shares.shape[1], dtype=float), shares.mean(axis=0))


def _count_wins(rng: np.random.Generator, shoppers: Shoppers) -> Outcomes:
    """1 where the treatment wins the session, -1 where it loses, else 0."""
    won, lost = 0.0, 0.0
    for _ in range(N_DRAFTS):
        shown, is_treatment = draft_teams(rng, shoppers.control, shoppers.treatment)
        expected = _expect_clicks(shoppers.appeal, shown)
        more = _convolve(np.where(is_treatment, expected, 0))
        less = _convolve(np.where(is_treatment, 0, expected))
        won += float((more[:, 1:] * less.cumsum(axis=1)[:, :-1]).sum(axis=1).mean()) / N_DRAFTS
        lost += float((less[:, 1:] * more.cumsum(axis=1)[:, :-1]).sum(axis=1).mean()) / N_DRAFTS
    return Outcomes(np.array([-1.0, 0, 1]), np.array([lost, 1 - won - lost, won]))


def _convolve(probabilities: Numbers) -> Numbers:
    """Distribution of the number of clicks, one row for each session."""
    n, k = probabilities.shape
    found = np.zeros((n, k + 1))
    found[:, 0] = 1
    for p in probabilities.T[:, :, None]:
        found[:, 1:] = found[:, 1:] * (1 - p) + found[:, :-1] * p
        found[:, :1] *= 1 - p
    return found


def _expect_clicks(appeal: Numbers, shown: Ranks) -> Numbers:
    examined = (1.0 + np.arange(shown.shape[1])) ** -EXAMINATION
    expected: Numbers = np.take_along_axis(appeal, shown, axis=1) * examined
    return expected


def _solve(mean: float, variance: float, alpha: float, power: float) -> int:
    return int(np.ceil(_sum_quantiles(alpha, power) ** 2 * variance / mean**2))


def _sum_quantiles(alpha: float, power: float) -> float:
    from scipy.stats import norm

    return float(norm.isf(alpha / 2) + norm.ppf(power))


def _try_split(
    rng: np.random.Generator, control: Outcomes, treatment: Outcomes, n: int, alpha: float
) -> float:
    """Share of trials that find the better arm."""
    half = n // 2
    (mean0, variance0), (mean1, variance1) = (_draw(rng, one, half) for one in (control, treatment))
    return _share_found((mean1 - mean0) / np.sqrt((variance0 + variance1) / half), alpha)


def _try_interleaved(rng: np.random.Generator, wins: Outcomes, n: int, alpha: float) -> float:
    mean, variance = _draw(rng, wins, n)
    return _share_found(mean / np.sqrt(variance / n), alpha)


def _draw(rng: np.random.Generator, outcomes: Outcomes, n: int) -> tuple[Numbers, Numbers]:
    """Means and variances of `n` sessions in each trial."""
    drawn = rng.multinomial(n, outcomes.shares / outcomes.shares.sum(), N_TRIALS)
    mean = drawn @ outcomes.values / n
    return mean, drawn @ outcomes.values**2 / n - mean**2


def _share_found(z: Numbers, alpha: float) -> float:
    from scipy.stats import norm

    return float((z > norm.isf(alpha / 2)).mean())
