"""How many sessions an experiment needs, and what it can find in so many days."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from components.experiments.arms import ArmSessions
from components.experiments.confidence_sequence import ALPHA, boundary, check_alpha, optimal_rho
from components.experiments.experiment import Experiment
from components.experiments.metric import Metric
from components.experiments.readout import aggregate, check_variance, make_metric

POWER = 0.8
N_PATHS, N_STEPS = 40_000, 60
"""Of Brownian motion: the planned power of sequential read-outs is exact to half a point."""
DECIMALS = 4
HOLDOUT_METRICS = ("order_value", "orders", "average_order_value")
"""Metrics that sessions without recommendations have, too."""
N_ITERATIONS = 8
"""The effect's own share in the variance; an error of 15 % is below 0.1 % after four."""


class Baseline(NamedTuple):
    """A metric before the experiment."""

    metric: str
    mean: float
    variance: float
    """Of one session's share in the metric, after CUPED."""
    sessions_per_day: float | None = None


class Need(NamedTuple):
    """Sessions of all arms together, and days at the present traffic."""

    sessions: int
    days: float | None


class Plan(NamedTuple):
    baseline: Baseline
    effect: float
    """Relative."""
    alpha: float
    power: float
    shares: Mapping[str, float]
    """Of each arm, the control first."""
    once: Need
    """For one look at the end."""
    daily: Need
    """For a look every day, by confidence sequence: at most; most experiments end earlier."""
    held_share: float = 0.0
    """Of the sessions, in holdouts that are not compared here."""


def check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name}: found {value}, expected a number between 0 and 1, such as 0.05")


def measure_baseline(
    arm: ArmSessions, metric: Metric, sessions_per_day: float | None = None
) -> Baseline:
    """Raises ValueError."""
    if arm.n < 2:
        raise ValueError(f"baseline: found {arm.n} sessions, expected at least 2")
    data = aggregate(arm, metric)
    check_variance({"baseline": data}, metric)
    _, has_cuped = make_metric(metric, {"baseline": data}, 0.95)
    mean = data.mean(metric.numerator) / data.mean(metric.denominator)
    variance = data.ratio_var(metric.numerator, metric.denominator)
    if has_cuped:
        shared = data.ratio_cov(metric.numerator, metric.denominator, metric.covariate, None)
        variance -= shared**2 / data.var(metric.covariate)
    return Baseline(metric.name, float(mean), float(variance), sessions_per_day)


def plan_experiment(
    baseline: Baseline,
    weights: Mapping[str, float],
    effect: float,
    alpha: float = ALPHA,
    power: float = POWER,
    held_share: float = 0.0,
) -> Plan:
    """Enough for every arm against the first, each at alpha / comparisons; the sessions are all,
    of which holdouts beside these arms take `held_share`. Raises ValueError."""
    _check(baseline, weights, alpha, power)
    if not np.isfinite(effect) or effect == 0 or effect <= -1:
        raise ValueError(f"effect: found {effect}, expected a relative one, such as 0.05 for 5 %")
    shares = compute_shares(weights)
    level = alpha / (len(shares) - 1)
    once = max(
        _solve_sessions(baseline, pair, effect, level, power) / sum(pair)
        for pair in pair_shares(shares)
    ) / (1 - held_share)
    factor = sequential_factor(round(level, DECIMALS), power)
    return Plan(
        baseline, effect, alpha, power, shares,
        _need(once, baseline), _need(once * factor, baseline), held_share,
    )  # fmt: skip


def find_effect(
    baseline: Baseline,
    weights: Mapping[str, float],
    days: float,
    alpha: float = ALPHA,
    power: float = POWER,
    held_share: float = 0.0,
) -> tuple[float, float]:
    """The relative effects that are found in so many days with one look at the end, and with daily
    looks. Raises ValueError."""
    _check(baseline, weights, alpha, power)
    if not baseline.sessions_per_day:
        raise ValueError("days: found no sessions per day, expected them with the baseline")
    n = int(days * baseline.sessions_per_day * (1 - held_share))
    shares = compute_shares(weights)
    if n * min(shares.values()) < 2:
        raise ValueError(f"days: found {n} sessions in {days:g} days, expected 2 or more in an arm")
    level = alpha / (len(shares) - 1)
    found = max(
        _solve_effect(baseline, pair, int(n * sum(pair)), level, power)
        for pair in pair_shares(shares)
    )
    return found, found * np.sqrt(sequential_factor(round(level, DECIMALS), power))


def find_holdout_share(
    baseline: Baseline, effect: float, days: float, alpha: float = ALPHA, power: float = POWER
) -> float:
    """The smallest share of the sessions that shows the effect of recommendations, 0 to ½. Raises
    ValueError where even halves do not."""
    halves = plan_experiment(baseline, {"shown": 1, "holdout": 1}, effect, alpha, power)
    if not baseline.sessions_per_day:
        raise ValueError("holdout: found no sessions per day, expected them with the baseline")
    n = days * baseline.sessions_per_day
    rest = 1 - halves.once.sessions / n
    if rest < 0:
        raise ValueError(
            f"holdout: found {n:,.0f} sessions in {days:g} days, expected "
            f"{halves.once.sessions:,} even with half of them held out; allow "
            f"{describe_days(halves.once.sessions / baseline.sessions_per_day)}, or look for a "
            "larger effect"
        )
    # The error goes with 1 / share + 1 / (1 - share), which is 4 for halves.
    return float((1 - np.sqrt(rest)) / 2)


def compute_shares(weights: Mapping[str, float]) -> dict[str, float]:
    if len(weights) < 2:
        raise ValueError(f"arms: found {', '.join(weights) or 'none'}, expected at least two")
    for name, weight in weights.items():
        if not (np.isfinite(weight) and weight > 0):
            raise ValueError(f"weight of arm {name!r}: found {weight}, expected a number above 0")
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def pair_shares(shares: Mapping[str, float]) -> Sequence[tuple[float, float]]:
    control, *others = shares.values()
    return [(control, one) for one in others]


class Weights(NamedTuple):
    compared: Mapping[str, float]
    """The control first."""
    held_share: float = 0.0
    """Of all sessions, in holdouts beside them."""


def read_weights(experiment: Experiment, metric: str) -> Weights:
    """Holdouts are compared where there is no other arm. Raises ValueError for a metric that
    holdouts do not have."""
    weights = {arm.name: arm.weight for arm in experiment.arms}
    shown = {arm.name: arm.weight for arm in experiment.arms if arm.holdout is None}
    if len(shown) > 1:
        return Weights(shown, 1 - sum(shown.values()) / sum(weights.values()))
    if len(weights) > 1 and metric not in HOLDOUT_METRICS:
        raise ValueError(
            f"experiment {experiment.name}: found {metric} and holdouts alone, which have none; "
            f"expected one of {', '.join(HOLDOUT_METRICS)} as --metric"
        )
    return Weights(weights)


@lru_cache
def sequential_factor(alpha: float, power: float, seed: int = 0) -> float:
    """How many times the sessions of one look a confidence sequence needs for the same power,
    looked at `N_STEPS` times in equal steps, tuned to its own planned sessions.

    The z-value of a growing sample is a Brownian motion with drift: each path tells the smallest
    drift with which it crosses the boundary in time."""
    from scipy.stats import norm

    rng = np.random.default_rng(seed)
    time = np.arange(1, N_STEPS + 1) / N_STEPS
    rho = optimal_rho(1, alpha)
    needed = boundary(time, rho, alpha) * np.sqrt(time)
    path = rng.normal(scale=N_STEPS**-0.5, size=(N_PATHS, N_STEPS)).cumsum(axis=1)
    drift = np.quantile(((needed - path) / time).min(axis=1), power)
    return float((drift / (norm.isf(alpha / 2) + norm.ppf(power))) ** 2)


def _check(baseline: Baseline, weights: Mapping[str, float], alpha: float, power: float) -> None:
    compute_shares(weights)
    check_alpha(alpha)
    check_share("power", power)
    if not (np.isfinite(baseline.mean) and baseline.mean > 0):
        raise ValueError(f"mean: found {baseline.mean}, expected a number above 0")
    if not (np.isfinite(baseline.variance) and baseline.variance > 0):
        raise ValueError(f"variance: found {baseline.variance}, expected a number above 0")
    if baseline.sessions_per_day is not None and not baseline.sessions_per_day > 0:
        raise ValueError(
            f"sessions per day: found {baseline.sessions_per_day}, expected a number above 0"
        )


def _solve_sessions(
    baseline: Baseline, pair: tuple[float, float], effect: float, alpha: float, power: float
) -> float:
    expected = _expect_variance(baseline, pair, effect)
    return float(_solve(expected, pair, "n_obs", alpha, power, rel_effect_size=effect).n_obs)


def _solve_effect(
    baseline: Baseline, pair: tuple[float, float], n: int, alpha: float, power: float
) -> float:
    effect = 0.0
    for _ in range(N_ITERATIONS):
        expected = _expect_variance(baseline, pair, effect)
        found = _solve(expected, pair, "rel_effect_size", alpha, power, n_obs=max(n, 4))
        effect = float(found.rel_effect_size)
    return effect


def _solve(
    baseline: Baseline, pair: tuple[float, float], wanted: str, alpha: float, power: float,
    **known: Any,
) -> Any:  # fmt: skip
    import tea_tasting as tt

    control, treatment = pair
    metric = tt.Mean(
        "value", use_t=False, equal_var=True, alpha=alpha, power=power, ratio=treatment / control,
        **known,
    )  # fmt: skip
    data = tt.aggr.Aggregates(
        count_=2, mean_={"value": baseline.mean}, var_={"value": baseline.variance}
    )
    return metric.solve_power(data, wanted)[0]


def _expect_variance(baseline: Baseline, pair: tuple[float, float], effect: float) -> Baseline:
    """With more events of the same kind the treatment's variance grows as its mean: one variance
    for both arms that makes the same error."""
    control, treatment = pair
    growth = (treatment + (1 + effect) * control) / (control + treatment)
    return baseline._replace(variance=baseline.variance * growth)


def _need(sessions: float, baseline: Baseline) -> Need:
    days = sessions / baseline.sessions_per_day if baseline.sessions_per_day else None
    return Need(int(np.ceil(sessions)), days)


def describe_plan(plan: Plan) -> str:
    base, whole = plan.baseline, 1 - plan.held_share
    shares = ", ".join(f"{arm} {share * whole * 100:.0f} %" for arm, share in plan.shares.items())
    if plan.held_share:
        shares += f", holdouts {plan.held_share * 100:.0f} %"
    n_comparisons = len(plan.shares) - 1
    lines = [
        f"{base.metric}: {base.mean:.4g} at present; arms: {shares}",
        f"An effect of {percent(plan.effect)} is found with a probability of "
        f"{plan.power * 100:.0f} %, an effect where there is none with {plan.alpha * 100:.0f} %:",
        f"  one look at the end: {_describe_need(plan.once)}",
        f"  a look every day:    {_describe_need(plan.daily)} at most",
    ]
    if plan.held_share:
        lines.append("The sessions are those of all arms; holdouts are not compared by this.")
    if n_comparisons > 1:
        lines.append(f"{n_comparisons} arms are compared with the control, which is allowed for.")
    return "\n".join(lines)


def _describe_need(need: Need) -> str:
    days = "" if need.days is None else f", {describe_days(need.days)}"
    return f"{need.sessions:,} sessions{days}"


def percent(value: float) -> str:
    return f"{value * 100:+.1f} %"


def describe_days(days: float) -> str:
    if days > 365:
        return "more than a year"
    whole = max(int(np.ceil(days)), 1)
    return "1 day" if whole == 1 else f"{whole} days"
