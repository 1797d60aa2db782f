"""Do the read-outs keep their promises? Simulated sessions with a known truth, in seconds."""

from typing import NamedTuple

import numpy as np

from components.experiments.arms import arms_of_arrays
from components.experiments.confidence_sequence import (
    Effect,
    Moments,
    Numbers,
    compare_arms,
    compare_once,
    estimate_arms,
    is_early,
    optimal_rho,
)
from components.experiments.metric import METRICS
from components.experiments.plan import measure_baseline, plan_experiment
from components.experiments.readout import read_arms

CLICK_RATE, ORDER_RATE, ATTACH_RATE = 0.05, 0.06, 0.2
LIFT = 0.15
COVERED = ("clicks", "order_value", "click_rate", "attach_rate", "average_order_value")


class Peeking(NamedTuple):
    """Shares of A/A tests that found a difference at any look."""

    fixed: float
    sequential: float


class Power(NamedTuple):
    planned: float
    once: float
    """Share of experiments that found the effect at their planned end, by fixed interval."""
    sequential: float
    """Share that found it by then, looked at every day by confidence sequence."""
    n_once: int
    n_sequential: int
    """Planned sessions of both arms."""
    median_share: float
    """Of `n_sequential`, at which half of those that found the effect had found it."""


class Coverage(NamedTuple):
    """Shares of experiments whose intervals hold the truth."""

    by_metric: dict[str, float]
    overall: float


def draw_sessions(rng: np.random.Generator, n: int, lift: float = 0.0) -> dict[str, Numbers]:
    """Shoppers differ in how much they look and buy; `lift` raises clicks, attached orders and the
    value of orders alike. Columns of SESSIONS."""
    activity = rng.gamma(2, 0.5, n)
    impressions = 1.0 + rng.poisson(9 * activity)
    clicks = rng.binomial(impressions.astype(int), CLICK_RATE * (1 + lift)).astype(float)
    orders = (rng.random(n) < ORDER_RATE * activity).astype(float)
    value = rng.lognormal(3.2, 0.8, n)
    attached = orders * (rng.random(n) < ATTACH_RATE * (1 + lift))
    return {
        "impressions": impressions,
        "clicks": clicks,
        "orders": orders,
        "order_value": orders * value * (1 + lift),
        "attached_orders": attached,
        "revenue": attached * value / 3,
        "earlier_clicks": rng.poisson(activity).astype(float),
        "earlier_orders": rng.poisson(activity * 0.2).astype(float),
        "earlier_order_value": rng.poisson(activity * 0.2) * rng.lognormal(3.2, 0.5, n),
    }


def simulate_interval_coverage(
    n_experiments: int = 400, n_sessions: int = 4000, lift: float = 0.05, seed: int = 0
) -> Coverage:
    """Of 95 % intervals by tea-tasting; every metric's relative effect is `lift`."""
    rng = np.random.default_rng(seed)
    hits = dict.fromkeys(COVERED, 0)
    metrics = [METRICS[name] for name in COVERED]
    for _ in range(n_experiments):
        arms = arms_of_arrays(
            {
                "A": draw_sessions(rng, n_sessions // 2),
                "B": draw_sessions(rng, n_sessions // 2, lift),
            }
        )
        for one in read_arms(arms, metrics).results:
            lower, upper = one.relative_lower, one.relative_upper
            hits[one.metric] += lower is not None and upper is not None and lower <= lift <= upper
    shares = {name: hit / n_experiments for name, hit in hits.items()}
    return Coverage(shares, float(np.mean(list(shares.values()))))


def simulate_peeking(
    n_experiments: int = 600, n_looks: int = 60, n_sessions: int = 6000, seed: int = 0
) -> Peeking:
    """A/A tests by clicks per session, looked at in equal steps."""
    rng = np.random.default_rng(seed)
    at = _look_times(n_sessions // 2, n_looks)
    found = np.zeros(2)
    for _ in range(n_experiments):
        moments = _draw_moments(rng, n_sessions // 2, 0, at)
        late = ~is_early(*moments)
        always = compare_arms(*moments, rho=optimal_rho(n_sessions))
        found[0] += bool(_is_found(compare_once(*moments)).any())
        found[1] += bool((_is_found(always) & late).any())
    return Peeking(*(float(one) for one in found / n_experiments))


def simulate_power(
    n_experiments: int = 1500,
    lift: float = LIFT,
    power: float = 0.8,
    n_looks: int = 60,
    seed: int = 0,
) -> Power:
    """Plans for `lift` in clicks per session, then runs the plan."""
    rng = np.random.default_rng(seed)
    baseline = measure_baseline(
        arms_of_arrays({"A": draw_sessions(rng, 50_000)})["A"], METRICS["clicks"]
    )
    plan = plan_experiment(baseline, {"A": 1, "B": 1}, lift, power=power)
    n_once, n_sequential = plan.once.sessions, plan.daily.sessions
    once = 0
    times = np.full(n_experiments, np.inf)
    at = _look_times(n_sequential // 2, n_looks)
    for place in range(n_experiments):
        ends = np.append(at, n_once // 2)
        moments = _draw_moments(rng, n_sequential // 2, lift, ends)
        once += bool(np.asarray(compare_once(*moments).lower)[-1] > 0)
        always = compare_arms(*moments, rho=optimal_rho(n_sequential))
        is_found = (np.asarray(always.lower) > 0) & ~is_early(*moments)
        if is_found[:-1].any():
            times[place] = at[is_found[:-1].argmax()] / at[-1]
    found = np.isfinite(times)
    return Power(
        power, once / n_experiments, float(found.mean()), n_once, n_sequential,
        float(np.median(times[found])) if found.any() else float("nan"),
    )  # fmt: skip


def _look_times(n: int, n_looks: int) -> np.ndarray:
    return np.linspace(n / n_looks, n, n_looks).astype(np.int64)


def _draw_moments(
    rng: np.random.Generator, n: int, lift: float, at: np.ndarray
) -> tuple[Moments, Moments]:
    arms = arms_of_arrays({"A": draw_sessions(rng, n), "B": draw_sessions(rng, n, lift)})
    control, treatment = (arm.sums(METRICS["clicks"], at) for arm in arms.values())
    return estimate_arms(control, treatment)


def _is_found(effect: Effect) -> np.ndarray:
    return (np.asarray(effect.lower) > 0) | (np.asarray(effect.upper) < 0)
