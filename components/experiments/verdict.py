"""The verdict of an experiment so far, valid at whatever time one looks."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from components.experiments.arms import (
    WINDOW_H,
    ArmSessions,
    ExperimentSessions,
    split_seen_and_all,
)
from components.experiments.confidence_sequence import (
    Effect,
    Moments,
    boundary,
    compare_arms,
    estimate_arms,
    is_early,
    optimal_rho,
)
from components.experiments.experiment import Experiment, Guardrail
from components.experiments.metric import Metric, find_metric
from components.experiments.plan import POWER
from components.experiments.readout import (
    MIN_RATIO_P,
    adjust_by_holm,
    check_counts,
    check_sample_ratio,
    compute_expected,
)

HOLDOUT_METRIC = "order_value"
"""Recommendations add as much as people spend more, with or without a click."""
MAX_DAYS = 1000

State = Literal["early", "open", "better", "worse", "alike"]
"""`early`: too few sessions. `alike`: no effect as large as the one worth finding."""
GuardState = Literal["early", "open", "held", "broken"]
Decision = Literal["stop", "better", "worse", "alike", "open", "early"]


class Comparison(BaseModel):
    """An arm against another in one metric; `relative` 0.04 is 4 % more, None where unbounded."""

    model_config = ConfigDict(frozen=True)

    arm: str
    against: str
    metric: str
    words: str
    n: int
    n_against: int
    value: float
    value_against: float
    absolute: float
    lower: float
    upper: float
    relative: float | None
    relative_lower: float | None
    relative_upper: float | None
    p_value: float
    """Anytime-valid."""
    adjusted_p_value: float
    """By Holm over the arms."""
    alpha: float
    """Of the interval, by Holm."""
    state: State
    days_left: float | None = None
    """Until an effect of `worth`, if there is one, has shown with a probability of 80 %, at the
    present traffic."""
    worth: float | None = None
    """The experiment's effect worth finding."""


class GuardResult(BaseModel):
    model_config = ConfigDict(frozen=True)

    comparison: Comparison
    margin: float
    state: GuardState


class ArmVerdict(BaseModel):
    model_config = ConfigDict(frozen=True)

    arm: str
    decision: Decision
    comparison: Comparison
    guardrails: tuple[GuardResult, ...]


class SampleRatio(BaseModel):
    """Sizes of arms against their weights."""

    model_config = ConfigDict(frozen=True)

    of: Literal["seen", "assigned"]
    """Sessions that saw a list, as arms are compared over, or all, as holdouts are."""
    counts: dict[str, int]
    expected: dict[str, float]
    p_value: float


class Verdict(BaseModel):
    model_config = ConfigDict(frozen=True)

    experiment: str
    decision: Decision
    """`stop` is for a wrong sample ratio, or a guardrail that every other arm breaks."""
    best: str
    """The arm to be served; the control unless another is better and no guardrail is broken."""
    counts: dict[str, int]
    """Sessions by arm: those that saw a list, of a holdout all."""
    sample_ratio_p: float
    """The smallest of `ratios`."""
    n_unfinished: int
    n_unseen: int
    n_crossed: int
    sessions_per_day: float
    arms: tuple[ArmVerdict, ...]
    """Empty where the sample ratio is wrong."""
    holdouts: tuple[Comparison, ...]
    """The control against each holdout: what recommendations add."""
    ratios: tuple[SampleRatio, ...] = ()
    """Of the arms that are compared, and with a holdout of all arms."""

    @property
    def is_mismatched(self) -> bool:
        return self.sample_ratio_p < MIN_RATIO_P


class Look(NamedTuple):
    """The interval at the end of a day."""

    day: date
    n: int
    """Sessions of both arms."""
    relative: float
    lower: float
    upper: float


def judge_experiment(
    sessions: Any, experiment: Experiment, now: datetime | None = None, window_h: float = WINDOW_H
) -> Verdict:
    """`sessions` is the table SESSIONS. Raises ValueError."""
    if experiment.method == "interleave":
        raise ValueError(
            f"experiment {experiment.name!r}: its arms are interleaved; read it by team "
            "(components.experiments.interleaving)"
        )
    return judge_sessions(*split_seen_and_all(sessions, experiment, now, window_h), experiment)


def judge_sessions(
    seen: ExperimentSessions, everyone: ExperimentSessions, experiment: Experiment
) -> Verdict:
    """Arms are compared over sessions that saw a list, holdouts over all that were assigned."""
    shown = {arm.name: seen.arms[arm.name] for arm in experiment.arms if arm.holdout is None}
    held = [arm.name for arm in experiment.arms if arm.holdout is not None]
    counts = {name: shown.get(name, arm).n for name, arm in everyone.arms.items()}
    check_counts(counts)
    ratios = _check_ratios(shown, everyone.arms if held else {})
    p_value = min(one.p_value for one in ratios)
    is_fair = p_value >= MIN_RATIO_P
    arms = judge_arms(shown, experiment, seen.sessions_per_day) if is_fair else ()
    control = next(iter(everyone.arms.values()))
    holdouts = [
        compare_with_holdout(everyone.arms[name], control, experiment, len(held))
        for name in held
        if is_fair
    ]
    decision, best = _decide(arms, holdouts, control.name)
    return Verdict(
        experiment=experiment.name,
        decision=decision if is_fair else "stop",
        best=best,
        counts=counts,
        sample_ratio_p=p_value,
        n_unfinished=seen.n_unfinished,
        n_unseen=seen.n_unseen,
        n_crossed=seen.n_crossed,
        sessions_per_day=seen.sessions_per_day,
        arms=arms,
        holdouts=tuple(holdouts),
        ratios=ratios,
    )


def _check_ratios(
    shown: Mapping[str, ArmSessions], assigned: Mapping[str, ArmSessions]
) -> tuple[SampleRatio, ...]:
    ratios = []
    if len(shown) > 1:
        ratios.append(_check_ratio("seen", shown))
    if len(assigned) > 1:
        ratios.append(_check_ratio("assigned", assigned))
    return tuple(ratios)


def _check_ratio(of: Literal["seen", "assigned"], arms: Mapping[str, ArmSessions]) -> SampleRatio:
    counts = {name: arm.n for name, arm in arms.items()}
    weights = {name: arm.weight for name, arm in arms.items()}
    return SampleRatio(
        of=of, counts=counts, expected=compute_expected(counts, weights),
        p_value=check_sample_ratio(counts, weights),
    )  # fmt: skip


def judge_arms(
    arms: Mapping[str, ArmSessions], experiment: Experiment, sessions_per_day: float = 0.0
) -> tuple[ArmVerdict, ...]:
    """Each against the first. Raises ValueError."""
    if len(arms) < 2:
        return ()
    metric = find_metric(experiment.metric)
    _check_metric(arms, metric)
    found = compare_all(arms, metric, experiment, sessions_per_day)
    guards = {
        guard.metric: compare_all(arms, find_metric(guard.metric), experiment)
        for guard in experiment.guardrails
    }
    verdicts = []
    for place, comparison in enumerate(found):
        results = tuple(
            judge_guardrail(guards[guard.metric][place], guard) for guard in experiment.guardrails
        )
        is_broken = any(one.state == "broken" for one in results)
        decision: Decision = "stop" if is_broken else comparison.state
        verdicts.append(
            ArmVerdict(
                arm=comparison.arm, decision=decision, comparison=comparison, guardrails=results
            )
        )
    return tuple(verdicts)


def _check_metric(arms: Mapping[str, ArmSessions], metric: Metric) -> None:
    for arm in arms.values():
        arm.check_denominator(metric)
    columns = [arm.measures[metric.numerator] for arm in arms.values()]
    if not any(one.any() for one in columns):
        raise ValueError(
            f"{metric.name}: found none in {sum(map(len, columns))} sessions, expected some; check "
            "that events of this kind arrive"
        )


def judge_guardrail(comparison: Comparison, guard: Guardrail) -> GuardResult:
    """Non-inferiority: the whole interval lies above the margin, or below."""
    lower, upper = comparison.relative_lower, comparison.relative_upper
    state: GuardState = "open"
    if comparison.state == "early":
        state = "early"
    elif lower is not None and lower > -guard.margin:
        state = "held"
    elif upper is not None and upper < -guard.margin:
        state = "broken"
    return GuardResult(comparison=comparison, margin=guard.margin, state=state)


class _Pair(NamedTuple):
    treatment: ArmSessions
    control: ArmSessions
    moments: tuple[Moments, Moments]
    rho: float
    is_early: bool

    def compare(self, alpha: float) -> Effect:
        return compare_arms(*self.moments, alpha, self.rho)

    @property
    def p_value(self) -> float:
        found = float(self.compare(0.5).p_value)  # the same at every level
        return 1.0 if self.is_early or np.isnan(found) else found


def compare_all(
    arms: Mapping[str, ArmSessions],
    metric: Metric,
    experiment: Experiment,
    sessions_per_day: float = 0.0,
) -> list[Comparison]:
    """Each arm against the first, at the levels of Holm's procedure."""
    control, *treatments = arms.values()
    total = sum(arm.weight for arm in experiment.arms)
    n_arms = len(treatments)
    pairs = [_pair(one, control, metric, experiment, total, n_arms) for one in treatments]
    p_values = [pair.p_value for pair in pairs]
    adjusted = adjust_by_holm(p_values)
    levels = compute_holm_levels(p_values, experiment.alpha)
    rate = sessions_per_day / sum(arm.n for arm in arms.values())
    return [
        _compare(pair, metric, experiment, level, p_value, adjusted_p, rate)
        for pair, level, p_value, adjusted_p in zip(pairs, levels, p_values, adjusted, strict=True)
    ]


def compare_with_holdout(
    holdout: ArmSessions, control: ArmSessions, experiment: Experiment, n_holdouts: int
) -> Comparison:
    """The gain by the control's recommendations."""
    total = sum(arm.weight for arm in experiment.arms)
    metric = find_metric(HOLDOUT_METRIC)
    pair = _pair(control, holdout, metric, experiment, total, n_holdouts)
    level = experiment.alpha / n_holdouts
    adjusted = min(1.0, pair.p_value * n_holdouts)
    return _compare(pair, metric, experiment, level, pair.p_value, adjusted, 0)


def compute_holm_levels(p_values: Sequence[float], alpha: float) -> list[float]:
    """The level at which each arm is tested; those after the first that fails share its level."""
    order = np.argsort(p_values, kind="stable")
    levels, level = [0.0] * len(p_values), 0.0
    for step, place in enumerate(order):
        if step == 0 or p_values[order[step - 1]] <= level:
            level = alpha / (len(p_values) - step)
        levels[place] = level
    return levels


def _pair(
    treatment: ArmSessions, control: ArmSessions, metric: Metric, experiment: Experiment,
    total: float, n_comparisons: int,
) -> _Pair:  # fmt: skip
    moments = estimate_arms(control.sums(metric), treatment.sums(metric))
    share = (treatment.weight + control.weight) / total
    rho = optimal_rho(experiment.planned_sessions * share, experiment.alpha / n_comparisons)
    return _Pair(treatment, control, moments, rho, bool(is_early(*moments)))


def _compare(
    pair: _Pair, metric: Metric, experiment: Experiment, alpha: float, p_value: float,
    adjusted: float, rate: float,
) -> Comparison:  # fmt: skip
    effect = pair.compare(alpha)
    state = _judge(effect, pair.is_early, experiment.effect)
    known = [float(one) if np.isfinite(one) else None for one in effect[3:6]]
    relative, relative_lower, relative_upper = known
    control, treatment = pair.moments
    return Comparison(
        arm=pair.treatment.name, against=pair.control.name, metric=metric.name, words=metric.words,
        n=pair.treatment.n, n_against=pair.control.n,
        value=_float(treatment.value), value_against=_float(control.value),
        absolute=_float(effect.absolute), lower=_float(effect.lower), upper=_float(effect.upper),
        relative=relative, relative_lower=relative_lower, relative_upper=relative_upper,
        p_value=p_value, adjusted_p_value=adjusted, alpha=alpha, state=state,
        days_left=_forecast(pair, relative, experiment.effect, alpha, rate)
        if state in ("early", "open") else None,
        worth=experiment.effect,
    )  # fmt: skip


def _judge(effect: Effect, early: bool, worth: float) -> State:
    if early:
        return "early"
    if effect.lower > 0:
        return "better"
    if effect.upper < 0:
        return "worse"
    is_small = effect.relative_lower > -worth and effect.relative_upper < worth
    return "alike" if is_small else "open"


def _forecast(
    pair: _Pair, relative: float | None, worth: float, alpha: float, rate: float
) -> float | None:
    """`rate` is the growth of the sessions in a day, as a share of those that were counted. With
    the power of plans, and not by the effect seen, which is too large while it may be chance."""
    from scipy.stats import norm

    if rate <= 0 or relative is None:
        return None
    days = np.arange(1, MAX_DAYS + 1)
    control, treatment = pair.moments
    growth = np.asarray(1 + days * rate, np.float64)
    n = pair.control.n + pair.treatment.n
    reach = boundary(n * growth, pair.rho, alpha)
    error = np.sqrt((control.variance / control.n + treatment.variance / treatment.n) / growth)
    is_enough = (reach + norm.ppf(POWER)) * error <= worth * control.value
    return float(days[is_enough.argmax()]) if is_enough.any() else float("inf")


def _decide(
    arms: Sequence[ArmVerdict], holdouts: Sequence[Comparison], control: str
) -> tuple[Decision, str]:
    """Holdouts decide where there are no other arms: whether the control is better than they."""
    better = [one for one in arms if one.decision == "better"]
    held = [one for one in better if all(guard.state == "held" for guard in one.guardrails)]
    if held:
        return "better", max(held, key=lambda one: one.comparison.relative or 0.0).arm
    if better:
        return "open", control
    decisions: list[Decision] = [one.decision for one in arms] or [one.state for one in holdouts]
    for wanted in ("open", "early", "alike", "worse", "stop"):
        if wanted in decisions:
            return wanted, control
    return "better" if decisions else "open", control


def trace_looks(
    arms: Mapping[str, ArmSessions], experiment: Experiment, metric: str = ""
) -> dict[str, list[Look]]:
    """By arm but the first, at the end of each UTC day, as it would have been read then."""
    chosen = find_metric(metric or experiment.metric)
    control, *treatments = arms.values()
    total = sum(arm.weight for arm in experiment.arms)
    traces = {}
    for arm in treatments:
        pair = _pair(arm, control, chosen, experiment, total, len(treatments))
        traces[arm.name] = _trace(pair, chosen, experiment.alpha / len(treatments))
    return traces


def _trace(pair: _Pair, metric: Metric, alpha: float) -> list[Look]:
    arms = (pair.control, pair.treatment)
    days = np.unique(np.concatenate([arm.ts for arm in arms]).astype("datetime64[D]"))
    ends = (days + 1).astype("datetime64[us]")
    counts = [np.searchsorted(arm.ts, ends) for arm in arms]
    moments = estimate_arms(*(arm.sums(metric, n) for arm, n in zip(arms, counts, strict=True)))
    effect = compare_arms(*moments, alpha, pair.rho)
    bounds = np.stack([effect.relative, effect.relative_lower, effect.relative_upper], axis=1)
    return [
        Look(days[place].item(), int(counts[0][place] + counts[1][place]), *bounds[place].tolist())
        for place in np.flatnonzero(~is_early(*moments))
    ]


def _float(value: Any) -> float:
    """0 for what is not known, before the first session with a denominator."""
    return float(np.nan_to_num(value, nan=0, posinf=np.inf, neginf=-np.inf))
