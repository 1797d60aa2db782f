"""Read-outs at a time fixed in advance, by tea-tasting."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from components.experiments.arms import ArmSessions
from components.experiments.confidence_sequence import ALPHA, check_alpha
from components.experiments.metric import Metric

MIN_RATIO_P = 0.001
"""Of the sample ratio: arms that are less likely to have these sizes are not compared."""


class Result(NamedTuple):
    """Of one arm and metric. `relative` 0.04 is 4 % more than the control; None where the control
    has nothing."""

    arm: str
    metric: str
    control: float
    treatment: float
    absolute: float
    lower: float
    upper: float
    relative: float | None
    relative_lower: float | None
    relative_upper: float | None
    p_value: float
    adjusted_p_value: float
    """By Holm, over the arms of one metric."""
    has_cuped: bool


class Readout(NamedTuple):
    n: Mapping[str, int]
    sample_ratio_p: float
    """The smallest over the arms."""
    results: Sequence[Result]
    """Empty where the sample ratio is wrong."""

    @property
    def is_mismatched(self) -> bool:
        return self.sample_ratio_p < MIN_RATIO_P


def check_sample_ratio(counts: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """p-value of the arms' sizes against their weights, the control first: chi-squared over all."""
    from scipy.stats import chisquare

    for name, weight in weights.items():
        if not (np.isfinite(weight) and weight > 0):
            raise ValueError(f"weight of arm {name!r}: found {weight}, expected a number above 0")
    if len(counts) == 2:
        return _sample_ratio_of_two(counts, weights)
    observed = [counts[name] for name in weights]
    return float(chisquare(observed, list(compute_expected(counts, weights).values())).pvalue)


def _sample_ratio_of_two(counts: Mapping[str, int], weights: Mapping[str, float]) -> float:
    import tea_tasting as tt

    control, treatment = weights
    data = {name: tt.aggr.Aggregates(count_=counts[name]) for name in weights}
    check = tt.SampleRatio(weights[treatment] / weights[control])
    return float(check.analyze(data, control, treatment).pvalue)


def compute_expected(counts: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, float]:
    """Sessions of each arm, had the weights split all of them."""
    share = sum(counts[name] for name in weights) / sum(weights.values())
    return {name: weight * share for name, weight in weights.items()}


def read_arms(
    arms: Mapping[str, ArmSessions], metrics: Sequence[Metric], alpha: float = ALPHA
) -> Readout:
    """Every arm against the first. Raises ValueError for an arm without sessions, a metric that is
    the same in all sessions, and a ratio without denominator."""
    check_alpha(alpha)
    counts = {name: arm.n for name, arm in arms.items()}
    check_counts(counts)
    sample_ratio_p = check_sample_ratio(counts, {name: arm.weight for name, arm in arms.items()})
    readout = Readout(counts, sample_ratio_p, ())
    if readout.is_mismatched:
        return readout
    results = [one for metric in metrics for one in _read_metric(arms, metric, alpha)]
    return readout._replace(results=results)


def check_counts(counts: Mapping[str, int]) -> None:
    if len(counts) < 2:
        raise ValueError(f"arms: found {', '.join(counts)} alone, expected at least two to compare")
    if empty := [name for name, n in counts.items() if n < 2]:
        raise ValueError(
            f"arms: found {', '.join(f'{name}: {n} sessions' for name, n in counts.items())}, "
            f"expected at least 2 in each; {', '.join(empty)} may not be served, or no session's "
            "window is over"
        )


def _read_metric(arms: Mapping[str, ArmSessions], metric: Metric, alpha: float) -> list[Result]:
    data = {name: aggregate(arm, metric) for name, arm in arms.items()}
    check_variance(data, metric)
    made, has_cuped = make_metric(metric, data, 1 - alpha)
    control, *treatments = arms
    found = {name: made.analyze(data, control, name) for name in treatments}
    adjusted = adjust_by_holm([one.pvalue for one in found.values()])
    return [
        _make_result(metric.name, name, one, adjusted_p, has_cuped)
        for (name, one), adjusted_p in zip(found.items(), adjusted, strict=True)
    ]


def aggregate(arm: ArmSessions, metric: Metric) -> Any:
    """tea-tasting's Aggregates of the metric's columns."""
    import tea_tasting as tt

    arm.check_denominator(metric)
    names = metric.columns
    rows = np.stack([arm.measures[name] for name in names])
    rows[0] *= metric.scale
    mean, cov = rows.mean(axis=1), np.atleast_2d(np.cov(rows))
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    return tt.aggr.Aggregates(
        count_=arm.n,
        mean_=dict(zip(names, mean.tolist(), strict=True)),
        var_=dict(zip(names, np.diag(cov).tolist(), strict=True)),
        cov_={(names[i], names[j]): float(cov[i, j]) for i, j in pairs},
    )


def make_metric(
    metric: Metric, data: Mapping[str, Any], confidence: float, **power: Any
) -> tuple[Any, bool]:
    """tea-tasting's metric, and whether it uses the covariate, which must differ in sessions."""
    import tea_tasting as tt

    covariate = metric.covariate
    has_cuped = covariate is not None and all(one.var(covariate) > 0 for one in data.values())
    made = tt.RatioOfMeans(
        metric.numerator,
        metric.denominator,
        covariate if has_cuped else None,
        confidence_level=confidence,
        use_t=False,
        **power,
    )
    return made, has_cuped


def check_variance(data: Mapping[str, Any], metric: Metric) -> None:
    variances = {
        name: one.ratio_var(metric.numerator, metric.denominator) for name, one in data.items()
    }
    if not any(value > 0 for value in variances.values()):
        mean = next(iter(data.values())).mean(metric.numerator)
        raise ValueError(
            f"{metric.name}: found no difference between sessions (mean {mean:g}), expected some; "
            "check that events of this kind arrive"
        )


def _make_result(metric: str, arm: str, found: Any, adjusted_p: float, has_cuped: bool) -> Result:
    values = {name: float(value) for name, value in found._asdict().items()}
    known = {name: value if np.isfinite(value) else None for name, value in values.items()}
    return Result(
        arm=arm,
        metric=metric,
        control=values["control"],
        treatment=values["treatment"],
        absolute=values["effect_size"],
        lower=values["effect_size_ci_lower"],
        upper=values["effect_size_ci_upper"],
        relative=known["rel_effect_size"],
        relative_lower=known["rel_effect_size_ci_lower"],
        relative_upper=known["rel_effect_size_ci_upper"],
        p_value=values["pvalue"],
        adjusted_p_value=adjusted_p,
        has_cuped=has_cuped,
    )


def adjust_by_holm(p_values: Sequence[float]) -> list[float]:
    """Holm: A simple sequentially rejective multiple test procedure, 1979."""
    order = np.argsort(p_values)
    n = len(p_values)
    stepped = np.asarray(p_values)[order] * (n - np.arange(n))
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(one) for one in adjusted]
