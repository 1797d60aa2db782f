"""Experiments: plans, read-outs, sequences, verdicts, on sessions with obvious answers."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from components.contracts import EVENTS, RECOMMENDATIONS, SESSIONS, write_table
from components.experiments.arms import MEASURES, arms_of_arrays, split_sessions, take_all_sessions
from components.experiments.calibration import (
    draw_sessions,
    simulate_interval_coverage,
    simulate_peeking,
    simulate_power,
)
from components.experiments.confidence_sequence import (
    boundary,
    compare_arms,
    compute_bounds,
    estimate,
    estimate_arms,
    is_early,
    optimal_rho,
    sum_sessions,
)
from components.experiments.experiment import Experiment, read_experiment
from components.experiments.interleaving import (
    describe_preference,
    measure_preference,
    read_teams,
)
from components.experiments.interleaving_speedup import (
    draft_teams,
    simulate_interleaving_speedup,
)
from components.experiments.metric import METRIC_NAMES, METRICS
from components.experiments.plan import (
    Baseline,
    describe_plan,
    find_effect,
    find_holdout_share,
    measure_baseline,
    plan_experiment,
    read_weights,
    sequential_factor,
)
from components.experiments.readout import adjust_by_holm, check_sample_ratio, read_arms
from components.experiments.verdict import compute_holm_levels, judge_experiment, trace_looks
from components.experiments.words import describe_verdict
from pipelines.cli import main

START = datetime(2026, 11, 1, tzinfo=UTC)
NOW = START + timedelta(days=30)
DAYS = 20


def make_experiment(arms=("A", "B"), **fields):
    made = [{"name": one} if isinstance(one, str) else one for one in arms]
    return Experiment.model_validate({"name": "spring", "arms": made} | fields)


def make_table(arms, seen=None, start=START, days=DAYS, experiment="spring"):
    """SESSIONS of columns by arm, spread evenly over the days."""
    tables = []
    for arm, columns in arms.items():
        n = len(next(iter(columns.values())))
        rows = {name: np.asarray(columns.get(name, np.zeros(n)), float) for name in MEASURES}
        step = timedelta(days=days) / n
        rows |= {
            "session_id": [f"{arm}-{i}" for i in range(n)],
            "experiment": [experiment] * n,
            "model_version": ["7"] * n,
            "arm": [arm] * n,
            "first_ts": [start + i * step for i in range(n)],
            "is_seen": (seen or {}).get(arm, [True] * n),
        }
        tables.append(pa.table({name: rows[name] for name in SESSIONS.names}, schema=SESSIONS))
    return pa.concat_tables(tables)


def draw_arms(n, lifts, seed=0):
    rng = np.random.default_rng(seed)
    return {name: draw_sessions(rng, n, lift) for name, lift in lifts.items()}


# ── confidence sequences ──


def test_the_boundary_is_equation_9():
    n, rho, alpha = 1000, 0.05, 0.05
    x = n * rho**2
    paper = np.sqrt(2 * (x + 1) / (n**2 * rho**2) * np.log(np.sqrt(x + 1) / alpha))
    bounds = compute_bounds(n, 2.0, 9.0, alpha, rho)
    assert bounds.upper - 2 == pytest.approx(3 * paper)
    assert 2 - bounds.lower == pytest.approx(3 * paper)


def test_rho_makes_the_interval_narrowest_at_the_planned_session():
    rho = optimal_rho(5000, 0.05)
    widths = [boundary(5000, rho * factor, 0.05) for factor in (0.9, 1, 1.1)]
    assert min(widths) == widths[1]
    assert widths[1] > stats.norm.isf(0.025)


def test_bounds_over_time_are_those_of_each_count_alone():
    values = np.random.default_rng(0).poisson(0.4, 3000).astype(float)
    at = np.array([10, 500, 3000])
    sums = sum_sessions(values, at=at)
    moments = estimate(sums)
    for place, n in enumerate(at):
        assert moments.value[place] == pytest.approx(values[:n].mean())
        assert moments.variance[place] == pytest.approx(values[:n].var(ddof=1))


def test_the_effect_of_ratios_is_the_delta_methods():
    rng = np.random.default_rng(1)
    arms = arms_of_arrays(
        {"A": draw_sessions(rng, 4000), "B": draw_sessions(rng, 3000, 0.1)}, (4, 3)
    )
    metric = METRICS["click_rate"]._replace(covariate=None)
    ours = compare_arms(*estimate_arms(*(one.sums(metric) for one in arms.values())))
    theirs = read_arms(arms, [metric], alpha=0.05).results[0]
    assert ours.absolute == pytest.approx(theirs.absolute)
    assert ours.relative == pytest.approx(theirs.relative)
    reach = boundary(7000, optimal_rho(20_000)) / stats.norm.isf(0.025)
    half = (theirs.upper - theirs.lower) / 2
    assert (ours.upper - ours.lower) / 2 == pytest.approx(half * reach, rel=1e-6)


def test_cuped_takes_off_what_was_known_before():
    rng = np.random.default_rng(2)
    before = rng.normal(10, 3, 2000)
    arms = [before[:1000] + rng.normal(0, 1, 1000), before[1000:] + rng.normal(0.5, 1, 1000)]
    plain = compare_arms(*estimate_arms(*(sum_sessions(one) for one in arms)))
    sums = [
        sum_sessions(arms[0], None, before[:1000]),
        sum_sessions(arms[1], None, before[1000:]),
    ]
    cuped = compare_arms(*estimate_arms(*sums))
    assert cuped.upper - cuped.lower < (plain.upper - plain.lower) / 2.5
    assert cuped.lower < 0.5 < cuped.upper


def test_p_value_and_both_intervals_agree():
    rng = np.random.default_rng(3)
    at = np.arange(200, 4001, 100)
    a, b = (rng.poisson(mean, 4000).astype(float) for mean in (0.5, 0.56))
    effect = compare_arms(*estimate_arms(sum_sessions(a, at=at), sum_sessions(b, at=at)))
    is_found = effect.lower > 0
    assert is_found.any()
    assert not is_found.all()
    assert (is_found == (effect.p_value <= 0.05)).all()
    assert (is_found == (effect.relative_lower > 0)).all()


def test_a_relative_effect_is_unbounded_while_the_control_may_be_0():
    a, b = np.zeros(300), np.zeros(300)
    a[:2] = b[:5] = 1
    effect = compare_arms(*estimate_arms(sum_sessions(a), sum_sessions(b)))
    assert (effect.relative_lower, effect.relative_upper) == (-np.inf, np.inf)
    assert effect.lower < 0.01 < effect.upper


def test_few_events_are_early_and_a_dead_arm_is_not():
    def moments(clicks, n):
        values = np.zeros(n)
        values[:clicks] = 1
        return sum_sessions(values)

    assert is_early(*estimate_arms(moments(10, 1000), moments(10, 1000)))
    assert not is_early(*estimate_arms(moments(100, 1000), moments(100, 1000)))
    assert not is_early(*estimate_arms(moments(200, 1000), moments(0, 1000)))
    assert is_early(*estimate_arms(moments(60, 90), moments(60, 90)))


# ── promises, by simulation ──


def test_looking_every_day_is_wrong_too_often_with_fixed_intervals_only():
    found = simulate_peeking(300, n_looks=60, n_sessions=4000)
    assert found.fixed > 0.25
    assert found.sequential <= 0.05


def test_planned_power_is_reached():
    found = simulate_power(400, lift=0.15, power=0.8)
    assert found.once == pytest.approx(0.8, abs=0.06)
    assert found.sequential == pytest.approx(0.8, abs=0.06)
    assert found.median_share < 0.7


def test_intervals_cover_the_truth():
    found = simulate_interval_coverage(150, n_sessions=3000)
    assert found.overall == pytest.approx(0.95, abs=0.025)
    assert min(found.by_metric.values()) > 0.88


# ── plan ──


def test_a_plan_is_the_textbooks_number():
    # z² · 2 σ² / δ² in each arm, with the variance of the treatment 5 % larger.
    plan = plan_experiment(Baseline("clicks", 0.3, 0.3, 2000), {"A": 1, "B": 1}, 0.05)
    z = stats.norm.isf(0.025) + stats.norm.ppf(0.8)
    each = z**2 * 0.3 * (1 + 1.05) / 0.015**2
    assert plan.once.sessions == pytest.approx(2 * each, rel=0.001)
    assert plan.once.days == pytest.approx(plan.once.sessions / 2000, rel=0.001)
    assert 1.5 < plan.daily.sessions / plan.once.sessions < 1.8


def test_the_plan_reversed_finds_the_effect():
    baseline, weights = Baseline("clicks", 0.3, 0.3, 2000), {"A": 3, "B": 1}
    plan = plan_experiment(baseline, weights, 0.05)
    once, daily = find_effect(baseline, weights, plan.once.days)
    assert once == pytest.approx(0.05, rel=0.01)
    assert daily > once


def test_unequal_and_more_arms_need_more():
    baseline = Baseline("clicks", 0.3, 0.3, None)
    sessions = [
        plan_experiment(baseline, weights, 0.05).once.sessions
        for weights in ({"A": 1, "B": 1}, {"A": 9, "B": 1}, {"A": 1, "B": 1, "C": 1})
    ]
    assert sessions[1] / sessions[0] == pytest.approx(0.25 / 0.09, rel=0.1)
    assert sessions[2] > 1.5 * sessions[0]


def test_a_holdout_share_is_enough_and_not_more():
    baseline = Baseline("order_value", 5, 400, 10_000)
    share = find_holdout_share(baseline, 0.05, 60)
    assert 0 < share < 0.5
    weights = {"shown": 1 - share, "holdout": share}
    assert plan_experiment(baseline, weights, 0.05).once.sessions == pytest.approx(600_000, rel=0.1)
    with pytest.raises(ValueError, match="even with half of them held out; allow"):
        find_holdout_share(baseline, 0.05, 1)


def test_a_baseline_from_sessions_counts_what_cuped_explains():
    rng = np.random.default_rng(0)
    before = rng.poisson(3, 5000).astype(float)
    columns = {"clicks": before + rng.poisson(1, 5000), "earlier_clicks": before}
    arm = arms_of_arrays({"A": columns})["A"]
    baseline = measure_baseline(arm, METRICS["clicks"], 100)
    assert baseline.mean == pytest.approx(4, rel=0.02)
    assert baseline.variance == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {"A": 1, "B": -1}}, "weight of arm 'B': found -1"),
        ({"weights": {"A": 1}}, "arms: found A, expected at least two"),
        ({"baseline": Baseline("clicks", 0, 1)}, "mean: found 0, expected a number above 0"),
        ({"baseline": Baseline("clicks", 1, 0)}, "variance: found 0"),
        ({"baseline": Baseline("clicks", 1, float("nan"))}, "variance: found nan"),
        ({"effect": 0}, "effect: found 0"),
        ({"effect": -1}, "effect: found -1"),
        ({"alpha": 0}, "alpha: found 0"),
        ({"power": 1}, "power: found 1"),
    ],
)
def test_a_plan_says_what_is_wrong(change, message):
    sound = {"baseline": Baseline("clicks", 1, 1), "weights": {"A": 1, "B": 1}, "effect": 0.05}
    with pytest.raises(ValueError, match=message):
        plan_experiment(**(sound | change))


# ── fixed read-outs ──


def test_a_read_out_agrees_with_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.poisson(0.5, 2000).astype(float), rng.poisson(0.6, 1900).astype(float)
    readout = read_arms(
        arms_of_arrays({"A": {"clicks": a}, "B": {"clicks": b}}), [METRICS["clicks"]]
    )
    result = readout.results[0]
    theirs = stats.ttest_ind(b, a, equal_var=False)
    assert result.p_value == pytest.approx(theirs.pvalue, rel=0.05)
    assert result.absolute == pytest.approx(b.mean() - a.mean())
    interval = theirs.confidence_interval()
    assert (result.lower, result.upper) == pytest.approx(tuple(interval), rel=0.01)
    assert not result.has_cuped


def test_ratio_metrics_agree_with_the_bootstrap():
    rng = np.random.default_rng(0)
    sessions = draw_sessions(rng, 4000)
    arms = arms_of_arrays({"A": draw_sessions(rng, 4000), "B": sessions})
    metric = METRICS["revenue_per_1000"]._replace(covariate=None)
    result = read_arms(arms, [metric]).results[0]

    def draw(arm):
        rows = rng.integers(0, arm.n, (2000, arm.n))
        revenue, shown = arm.measures["revenue"][rows], arm.measures["impressions"][rows]
        return 1000 * revenue.sum(1) / shown.sum(1)

    lower, upper = np.quantile(draw(arms["B"]) - draw(arms["A"]), (0.025, 0.975))
    assert result.upper - result.lower == pytest.approx(upper - lower, rel=0.1)


def test_a_wrong_sample_ratio_refuses_a_verdict():
    arms = arms_of_arrays(
        {"A": {"clicks": np.arange(2000.0) % 2}, "B": {"clicks": np.arange(1700.0) % 3}}
    )
    readout = read_arms(arms, [METRICS["clicks"]])
    assert readout.is_mismatched
    assert not readout.results


def test_sample_ratio_of_several_arms():
    fair = check_sample_ratio({"A": 800, "B": 102, "C": 98}, {"A": 8, "B": 1, "C": 1})
    unfair = check_sample_ratio({"A": 800, "B": 150, "C": 50}, {"A": 8, "B": 1, "C": 1})
    assert fair > 0.5
    assert unfair < 1e-6


def test_holm_agrees_with_tea_tasting():
    import tea_tasting as tt

    rng = np.random.default_rng(0)
    arms = arms_of_arrays(
        {name: {"clicks": rng.poisson(mean, 3000).astype(float)}
         for name, mean in (("A", 0.5), ("B", 0.54), ("C", 0.56), ("D", 0.5))}
    )  # fmt: skip
    results = read_arms(arms, [METRICS["clicks"]]).results
    table = pa.table(
        {
            "arm": np.repeat(list(arms), 3000),
            "clicks": np.concatenate([arm.measures["clicks"] for arm in arms.values()]),
        }
    )
    found = {
        ("A", name): tt.Experiment(clicks=tt.Mean("clicks", use_t=False), variant="arm").analyze(
            table.filter(pa.compute.is_in(table["arm"], pa.array(["A", name]))), control="A"
        )
        for name in ("B", "C", "D")
    }
    adjusted = tt.adjust_fwer(found, method="bonferroni", arbitrary_dependence=True)
    for one in results:
        theirs = adjusted[("A", one.arm)]["clicks"]
        assert one.p_value == pytest.approx(theirs["pvalue"], rel=1e-6)
        assert one.adjusted_p_value == pytest.approx(min(theirs["pvalue_adj"], 1), rel=1e-6)


def test_holm_levels_are_those_of_the_adjusted_p_values():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = list(rng.random(4) ** 4)
        levels = compute_holm_levels(p_values, 0.05)
        by_level = [p <= level for p, level in zip(p_values, levels, strict=True)]
        assert by_level == [p <= 0.05 for p in adjust_by_holm(p_values)]


@pytest.mark.parametrize(
    ("columns", "metric", "message"),
    [
        ({"A": [1.0, 0], "B": []}, "clicks", "A: 2 sessions, B: 0 sessions, expected at least 2"),
        ({"A": [1.0, 1], "B": [1.0, 1]}, "clicks", "found no difference between sessions"),
        ({"A": [1.0, 0], "B": [1.0, 0]}, "click_rate", "arm 'A' has no impressions in 2 sessions"),
        ({"A": [1.0, np.nan], "B": [1.0, 0]}, "clicks", "clicks holds nan"),
        ({"A": [1.0, -2], "B": [1.0, 0]}, "clicks", "clicks holds -2.0"),
        ({"A": [1.0, 0]}, "clicks", "found A alone, expected at least two"),
    ],
)
def test_a_read_out_says_what_is_wrong(columns, metric, message):
    arrays = {name: {"clicks": np.array(one)} for name, one in columns.items()}
    with pytest.raises(ValueError, match=message):
        read_arms(arms_of_arrays(arrays), [METRICS[metric]])


# ── sessions ──


def test_a_session_counts_once_its_window_is_over():
    table = make_table({"A": {"clicks": np.ones(20)}, "B": {"clicks": np.ones(20)}})
    now = START + timedelta(days=11)  # sessions of the first ten days are over; one a day
    split = split_sessions(table, make_experiment(), now)
    assert [arm.n for arm in split.arms.values()] == [11, 11]
    assert split.n_unfinished == 18


def test_sessions_without_a_seen_list_and_with_two_arms_are_left_out():
    seen = {"A": [True] * 9 + [False], "B": [True] * 10}
    table = make_table({"A": {"clicks": np.ones(10)}, "B": {"clicks": np.ones(10)}}, seen)
    ids = table["session_id"].to_pylist()
    ids[-1] = "A-0"
    table = table.set_column(0, SESSIONS.field("session_id"), pa.array(ids))
    split = split_sessions(table, make_experiment(), NOW)
    assert {name: arm.n for name, arm in split.arms.items()} == {"A": 8, "B": 9}
    assert (split.n_unseen, split.n_crossed) == (1, 1)


def test_a_baseline_adds_versions_of_a_session_up():
    columns = {"clicks": np.ones(2), "orders": np.ones(2), "order_value": np.full(2, 30.0)}
    table = make_table({"A": columns})
    table = table.set_column(0, SESSIONS.field("session_id"), pa.array(["s", "s"]))
    arm = take_all_sessions(table, NOW)
    assert arm.n == 1
    assert arm.measures["clicks"] == [2]
    assert arm.measures["order_value"] == [30]


def test_other_arms_and_names_are_told():
    table = make_table(draw_arms(10, {"A": 0, "X": 0}))
    with pytest.raises(ValueError, match="found sessions of X, expected the arms A, B"):
        split_sessions(table, make_experiment(), NOW)
    with pytest.raises(ValueError, match="'winter': found no session; the sessions belong to spr"):
        split_sessions(table, make_experiment(name="winter"), NOW)
    with pytest.raises(ValueError, match="expected the table SESSIONS"):
        split_sessions(table.drop_columns(["clicks"]), make_experiment(), NOW)


# ── verdicts ──


def judge(lifts, n=20_000, seed=0, **fields):
    experiment = make_experiment(tuple(lifts), **fields)
    return judge_experiment(make_table(draw_arms(n, lifts, seed)), experiment, NOW)


def test_a_better_arm_is_found():
    verdict = judge({"A": 0, "B": 0.15})
    assert (verdict.decision, verdict.best) == ("better", "B")
    one = verdict.arms[0].comparison
    assert one.relative_lower < 0.15 < one.relative_upper
    text = describe_verdict(verdict)
    assert "B is better than A: +" in text
    assert "% clicks per session (+" in text
    assert "valid whenever you look" in text


def test_a_worse_arm_is_found_and_the_control_stays():
    verdict = judge({"A": 0, "B": -0.2})
    assert (verdict.decision, verdict.best) == ("worse", "A")


def test_alike_arms_are_alike_in_the_end_and_open_before():
    assert judge({"A": 0, "B": 0}, effect=0.15).decision == "alike"
    verdict = judge({"A": 0, "B": 0}, n=2000, effect=0.05)
    assert verdict.decision == "open"
    assert verdict.arms[0].comparison.days_left > 10
    assert "nothing can be said yet" in describe_verdict(verdict)
    assert "at this rate an effect of 5 % shows in about " in describe_verdict(verdict)
    assert "more days" in describe_verdict(verdict)


def test_the_forecast_comes_true():
    early = judge({"A": 0, "B": 0.05}, n=4000, effect=0.1).arms[0].comparison
    days = early.days_left + DAYS
    late = judge({"A": 0, "B": 0.1}, n=int(4000 * days / DAYS), effect=0.1).arms[0].comparison
    assert late.state == "better"


def test_a_forecast_is_of_the_effect_worth_finding_as_a_plan_is():
    arms = draw_arms(4000, {"A": 0, "B": 0.01})
    early = judge_experiment(make_table(arms), make_experiment(effect=0.1), NOW)
    baseline = measure_baseline(
        arms_of_arrays({"A": arms["A"]})["A"], METRICS["clicks"], early.sessions_per_day
    )
    planned = plan_experiment(baseline, {"A": 1, "B": 1}, 0.1).daily.days
    left = early.arms[0].comparison.days_left
    assert 0.9 * planned < DAYS + left < 1.6 * planned
    lucky = judge({"A": 0, "B": 0.08}, n=4000, effect=0.1).arms[0].comparison
    assert lucky.days_left is None or lucky.days_left == pytest.approx(left, rel=0.3)


def test_holdouts_are_not_planned_as_arms():
    arms = [{"name": "A"}, {"name": "B"}, {"name": "none", "holdout": "empty", "weight": 0.5}]
    weights = read_weights(make_experiment(arms=arms), "clicks")
    assert weights == ({"A": 1, "B": 1}, pytest.approx(0.2))
    baseline = Baseline("clicks", 0.3, 0.3, 2000)
    alone = plan_experiment(baseline, {"A": 1, "B": 1}, 0.05)
    beside = plan_experiment(baseline, weights.compared, 0.05, held_share=weights.held_share)
    assert beside.once.sessions == pytest.approx(alone.once.sessions / 0.8, abs=1)
    assert "arms: A 40 %, B 40 %, holdouts 20 %" in describe_plan(beside)
    alone = make_experiment(arms=[arms[0], arms[2]])
    assert read_weights(alone, "order_value").compared == {"A": 1, "none": 0.5}
    with pytest.raises(ValueError, match=r"found clicks and holdouts alone.* order_value"):
        read_weights(alone, "clicks")


def test_few_sessions_are_early():
    verdict = judge({"A": 0, "B": 0}, n=80)
    assert verdict.decision == "early"
    assert "too few sessions" in describe_verdict(verdict)


def test_a_guardrail_without_orders_is_early_and_a_metric_without_events_is_told():
    arms = draw_arms(2000, {"A": 0, "B": 0})
    arms["B"]["orders"] = arms["B"]["order_value"] = np.zeros(2000)
    guardrails = [{"metric": "average_order_value", "margin": 0.05}]
    verdict = judge_experiment(make_table(arms), make_experiment(guardrails=guardrails), NOW)
    assert verdict.arms[0].guardrails[0].state == "early"
    assert type(verdict).model_validate_json(verdict.model_dump_json()) == verdict
    assert "guardrail average_order_value (at most -5 %) is too few" in describe_verdict(verdict)
    with pytest.raises(ValueError, match="adds: found none in 4000 sessions"):
        judge_experiment(make_table(arms), make_experiment(metric="adds"), NOW)
    with pytest.raises(ValueError, match="attach_rate: arm 'B' has no orders in 2000 sessions"):
        judge_experiment(make_table(arms), make_experiment(metric="attach_rate"), NOW)


def test_few_orders_are_early_for_their_average_value():
    def moments(n_orders):
        orders = np.zeros(1000)
        orders[:n_orders] = 1
        return sum_sessions(orders * np.linspace(20, 21, 1000), orders)

    assert is_early(*estimate_arms(moments(500), moments(30)))
    assert not is_early(*estimate_arms(moments(500), moments(60)))


def test_a_wrong_ratio_stops_the_verdict():
    arms = draw_arms(3000, {"A": 0}) | draw_arms(2600, {"B": 0.5})
    verdict = judge_experiment(make_table(arms), make_experiment(), NOW)
    assert verdict.decision == "stop"
    assert verdict.arms == ()
    assert "stop: sample ratio mismatch" in describe_verdict(verdict)


def test_a_broken_guardrail_stops_a_better_arm():
    arms = draw_arms(20_000, {"A": 0, "B": 0.2})
    arms["B"]["order_value"] = arms["B"]["order_value"] * 0.5
    guardrails = [{"metric": "average_order_value", "margin": 0.05}]
    verdict = judge_experiment(make_table(arms), make_experiment(guardrails=guardrails), NOW)
    assert verdict.arms[0].guardrails[0].state == "broken"
    assert (verdict.decision, verdict.best) == ("stop", "A")
    assert "stop: B breaks a guardrail" in describe_verdict(verdict)


def test_a_guardrail_holds_or_is_waited_for():
    def guard(margin):
        verdict = judge({"A": 0, "B": 0.15}, guardrails=[{"metric": "orders", "margin": margin}])
        return verdict.arms[0].guardrails[0].state, verdict.decision, verdict.best

    assert guard(0.3) == ("held", "better", "B")
    assert guard(0.001) == ("open", "open", "A")


def test_of_several_arms_the_best_wins_at_holms_levels():
    verdict = judge({"A": 0, "B": 0.15, "C": 0.3, "D": 0})
    assert [one.decision for one in verdict.arms[:2]] == ["better", "better"]
    assert verdict.best == "C"
    levels = [one.comparison.alpha for one in verdict.arms]
    assert sorted(levels) == pytest.approx([0.05 / 3, 0.05 / 2, 0.05])


def test_a_holdout_says_what_recommendations_add():
    arms = draw_arms(40_000, {"A": 0.4, "B": 0.4}) | draw_arms(8000, {"none": 0}, 1)
    experiment = make_experiment(
        ({"name": "A", "weight": 5}, {"name": "B", "weight": 5},
         {"name": "none", "weight": 1, "holdout": "empty"})
    )  # fmt: skip
    verdict = judge_experiment(make_table(arms, {"none": [False] * 8000}), experiment, NOW)
    held = verdict.holdouts[0]
    assert (held.arm, held.against, held.state) == ("A", "none", "better")
    assert held.relative_lower < 0.4 < held.relative_upper
    assert [one.arm for one in verdict.arms] == ["B"]
    assert "recommendations add against none: +" in describe_verdict(verdict)


def test_sample_ratios_are_of_the_arms_and_sessions_that_are_compared():
    arms = draw_arms(1000, {"A": 0, "B": 0}) | draw_arms(500, {"none": 0}, 1)
    seen = {"A": [True] * 900 + [False] * 100, "B": [True] * 960 + [False] * 40}
    experiment = make_experiment(
        ("A", "B", {"name": "none", "weight": 0.5, "holdout": "empty"}), metric="clicks"
    )
    table = make_table(arms, seen | {"none": [False] * 500})
    verdict = judge_experiment(table, experiment, NOW)
    shown, assigned = verdict.ratios
    assert (shown.of, shown.counts) == ("seen", {"A": 900, "B": 960})
    assert shown.expected == {"A": 930, "B": 930}
    assert (assigned.of, assigned.counts) == ("assigned", {"A": 1000, "B": 1000, "none": 500})
    assert assigned.expected == {"A": 1000, "B": 1000, "none": 500}
    assert shown.p_value == pytest.approx(0.17, abs=0.01)
    assert (assigned.p_value, verdict.sample_ratio_p) == (1, shown.p_value)
    assert (verdict.counts["none"], verdict.n_unseen, verdict.n_unfinished) == (500, 140, 0)
    text = describe_verdict(verdict)
    assert (
        "sessions that saw a list: A 900 of 930 expected, B 960 of 930 expected, p = 0.17" in text
    )
    assert "assigned, seen a list or not: A 1,000 of 1,000 expected" in text


def test_of_a_holdout_only_open_windows_are_left_out():
    arms = {name: {"clicks": np.ones(20)} for name in ("A", "none")}
    experiment = make_experiment(("A", {"name": "none", "holdout": "empty"}))
    table = make_table(arms, {"A": [True] * 19 + [False], "none": [False] * 20})
    split = split_sessions(table, experiment, START + timedelta(days=11))
    assert (split.n_unfinished, split.n_unseen) == (18, 0)


def test_with_a_holdout_alone_it_decides():
    arms = draw_arms(40_000, {"A": 0.4}) | draw_arms(40_000, {"none": 0}, 1)
    experiment = make_experiment(("A", {"name": "none", "holdout": "bestsellers"}))
    verdict = judge_experiment(make_table(arms), experiment, NOW)
    assert (verdict.decision, verdict.best, verdict.arms) == ("better", "A", ())


def test_looks_day_by_day_end_where_the_verdict_stands():
    experiment = make_experiment()
    table = make_table(draw_arms(5000, {"A": 0, "B": 0.2}))
    split = split_sessions(table, experiment, NOW)
    looks = trace_looks(split.arms, experiment)["B"]
    now = judge_experiment(table, experiment, NOW).arms[0].comparison
    assert looks[-1].n == 10_000
    assert looks[-1].lower == pytest.approx(now.relative_lower)
    assert len(looks) == DAYS
    assert looks[0].upper - looks[0].lower > looks[-1].upper - looks[-1].lower


def test_a_verdict_is_kept_as_json():
    verdict = judge({"A": 0, "B": 0.15})
    assert type(verdict).model_validate_json(verdict.model_dump_json()) == verdict


def test_metrics_of_experiments_are_known():
    assert set(METRIC_NAMES) == set(METRICS)
    assert {c for one in METRICS.values() for c in one.columns} <= set(MEASURES)


# ── interleaving ──


def test_the_team_that_is_clicked_more_wins():
    control = np.tile([1.0, 0, 0, 1, 0], 200)
    treatment = np.tile([0.0, 1, 1, 1, 0], 200)
    found = measure_preference(control, treatment)
    assert (found.wins, found.losses, found.ties) == (400, 200, 200)
    assert found.preference == pytest.approx(0.125)
    assert found.lower < found.once_lower < 0.125 < found.once_upper < found.upper
    assert found.p_value == pytest.approx(stats.binomtest(400, 600).pvalue)
    assert found.state == "better"
    assert "treatment is better than control: preference +12.5 points" in describe_preference(found)


def test_teams_without_a_difference_win_alike():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(150):
        team = rng.random(3000) < 0.5
        clicks = rng.poisson(0.2, 3000)
        at = np.linspace(300, 3000, 10).astype(int)
        looks = [measure_preference((clicks * team)[:n], (clicks * ~team)[:n]) for n in at]
        wrong += any(one.state in ("better", "worse") for one in looks)
    assert wrong / 150 <= 0.05


def make_credits(rows):
    names = ("session_id", "first_ts", "team", "clicks", "adds", "purchases", "revenue")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def test_credits_are_read_by_team():
    late = NOW - timedelta(hours=1)
    rows = [
        ("s1", START, "A", 1.0, 0.0, 0.0, 0.0),
        ("s1", START, "B", 2.0, 0.0, 0.0, 0.0),
        ("s2", START, "A", 1.0, 0.0, 0.0, 0.0),
        ("s3", START, "B", 1.0, 0.0, 0.0, 9.0),
        ("s4", late, "A", 1.0, 0.0, 0.0, 0.0),
    ]
    experiment = make_experiment(method="interleave")
    found = read_teams(make_credits(rows), experiment, now=NOW)
    assert (found.wins, found.losses, found.n_sessions) == (2, 1, 3)
    assert read_teams(make_credits(rows), experiment, "revenue", NOW).wins == 1
    with pytest.raises(ValueError, match="found C, expected A and B"):
        read_teams(make_credits([("s", START, "C", 1.0, 0.0, 0.0, 0.0)]), experiment, now=NOW)
    with pytest.raises(ValueError, match="adds: found none of either team in 3 sessions"):
        read_teams(make_credits(rows), experiment, "adds", NOW)


def test_a_draft_takes_turns_and_repeats_nothing():
    rng = np.random.default_rng(0)
    control = np.tile(np.arange(6), (500, 1))
    treatment = control[:, ::-1]
    shown, is_treatment = draft_teams(rng, control, treatment)
    assert (np.sort(shown) == control).all()
    assert (is_treatment[:, ::2] != is_treatment[:, 1::2]).all()
    assert is_treatment[:, 0].mean() == pytest.approx(0.5, abs=0.1)
    assert (shown[is_treatment[:, 0], 0] == 5).all()
    assert (shown[~is_treatment[:, 0], 0] == 0).all()


def test_interleaving_needs_fewer_sessions():
    found = simulate_interleaving_speedup(8000)
    assert 0 < found.lift < 0.1
    assert found.speedup > 3
    assert found.split_power == pytest.approx(0.8, abs=0.04)
    assert found.interleaved_power == pytest.approx(0.8, abs=0.04)


# ── from the shop's events ──


def write_shop(root, arms, start, n=2000, teams=None):
    """Sessions that see five products, of which the clicks of their arm have a probability."""
    rng = np.random.default_rng(0)
    log, events = [], []
    for number in range(n):
        arm = "interleaved" if teams else list(arms)[number % len(arms)]
        session, request, ts = f"s{number}", f"r{number}", start + timedelta(minutes=10 * number)
        items = [f"p{i}" for i in range(5)]
        drafted = [["A", "B"][(i + number) % 2] for i in range(5)] if teams else None
        log.append(
            (request, ts, session, "recommend", "product_page", "7", arm, "spring", 1.0, ["q"],
             items, ["basket"] * 5, [], None, False, drafted)
        )  # fmt: skip
        for place, item in enumerate(items):
            giver = drafted[place] if drafted else arm
            row = (session, request, None, item, place, 1.0, 9.0)
            events.append((f"v{number}", "view_item_list", ts + timedelta(seconds=1), *row))
            if rng.random() < arms[giver]:
                events.append(
                    (f"c{number}-{place}", "select_item", ts + timedelta(seconds=5), *row)
                )
    write_rows(log, RECOMMENDATIONS, root / "recommendations" / "day=1" / "part.parquet")
    received = [(*one[:3], one[2], *one[3:]) for one in events]
    write_rows(received, EVENTS, root / "events" / "day=1" / "part.parquet")


def write_rows(rows, schema, path):
    path.parent.mkdir(parents=True)
    names = schema.names[: len(rows[0])]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    filled = {name: columns.get(name, [None] * len(rows)) for name in schema.names}
    write_table(pa.table(filled, schema=schema), schema, path)


def test_an_experiment_is_read_from_events(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("FBT_HOME", str(tmp_path))
    start = datetime.now(UTC) - timedelta(days=20)
    write_shop(tmp_path / "online", {"A": 0.1, "B": 0.2}, start)
    file = tmp_path / "spring.json"
    file.write_text(make_experiment().model_dump_json())
    main(["experiment", "read", str(file)])
    text = capsys.readouterr().out
    assert "sessions: A 1,000, B 1,000" in text
    assert "B is better than A: +" in text
    main(["experiment", "plan", "--effect", ".1"])
    assert "clicks: 0.7" in capsys.readouterr().out
    file.write_text(make_experiment(name="summer").model_dump_json())
    with pytest.raises(SystemExit):
        main(["experiment", "read", str(file)])
    assert "'summer': found no session" in (text := capsys.readouterr().err)
    assert "there are sessions of 'spring'" in text


def test_an_experiment_that_began_today_says_when_it_is_readable(capsys, tmp_path):
    write_shop(tmp_path / "online", {"A": 0.1, "B": 0.2}, datetime.now(UTC) - timedelta(hours=1))
    file = tmp_path / "spring.json"
    file.write_text(make_experiment().model_dump_json())
    with pytest.raises(SystemExit):
        main(["experiment", "read", str(file), "--online", str(tmp_path / "online")])
    text = capsys.readouterr().err
    assert "experiment spring: readable from" in text
    assert "when its 24 hours are over" in text
    assert "found 2,000 that are not" in text


def test_interleaved_arms_are_read_from_events(capsys, tmp_path):
    start = datetime.now(UTC) - timedelta(days=20)
    write_shop(tmp_path / "online", {"A": 0.1, "B": 0.2}, start, teams=True)
    file = tmp_path / "spring.json"
    file.write_text(make_experiment(method="interleave").model_dump_json())
    main(["experiment", "read", str(file), "--online", str(tmp_path / "online")])
    assert "B is better than A: preference +" in capsys.readouterr().out


def test_without_events_the_remedy_is_told(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("FBT_HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["experiment", "plan"])
    assert "nothing found at" in capsys.readouterr().err


# ── command line ──


def test_plan_on_the_command_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("FBT_HOME", str(tmp_path))
    numbers = ["--mean", ".3", "--variance", ".3", "--sessions-per-day", "2000", "--days", "21"]
    main(["experiment", "plan", "--effect", ".05", *numbers])
    text = capsys.readouterr().out
    assert "one look at the end: 42,908 sessions, 22 days" in text
    assert "In 21 days: an effect of +5." in text
    assert "A holdout has no clicks: plan it by --metric order_value" in text
    main(["experiment", "plan", "--effect", ".05", "--metric", "order_value", *numbers])
    assert "even with half of them held out; allow 22 days" in capsys.readouterr().out


def test_sessions_of_today_are_no_baseline_yet(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("FBT_HOME", str(tmp_path))
    start = datetime.now(UTC) - timedelta(hours=3)
    table = tmp_path / "sessions.parquet"
    sessions = make_table(draw_arms(1000, {"A": 0, "B": 0}), start=start)
    write_table(sessions, SESSIONS, table)
    with pytest.raises(SystemExit):
        main(["experiment", "plan", "--sessions", str(table)])
    text = capsys.readouterr().err
    assert "found 0 sessions that saw a list and began at least 24 hours ago, of 2,000" in text
    assert f"{start + timedelta(days=1):%d %b %Y %H:%M} UTC" in text
    later = f"{datetime.now(UTC) + timedelta(days=40):%Y-%m-%d}"
    main(["experiment", "plan", "--sessions", str(table), "--now", later])
    assert "clicks: " in capsys.readouterr().out


def test_plan_and_read_of_a_table(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("FBT_HOME", str(tmp_path))
    table, file = tmp_path / "sessions.parquet", tmp_path / "spring.json"
    start = datetime.now(UTC) - timedelta(days=25)
    write_table(make_table(draw_arms(10_000, {"A": 0, "B": 0.2}), start=start), SESSIONS, table)
    file.write_text(make_experiment().model_dump_json())
    main(["experiment", "plan", "--sessions", str(table), "--metric", "click_rate"])
    assert "click_rate: 0.05" in capsys.readouterr().out
    verdict = tmp_path / "verdict.json"
    main(["experiment", "read", str(file), "--sessions", str(table), "--json", str(verdict)])
    assert "B is better than A: +" in capsys.readouterr().out
    assert json.loads(verdict.read_text())["best"] == "B"
    main(["experiment", "read", str(file), "--sessions", str(table), "--once", "clicks", "orders"])
    assert "B against A, orders per session: " in capsys.readouterr().out


def test_an_experiments_file_is_checked(tmp_path):
    file = tmp_path / "spring.json"
    file.write_text('{"name": "s", "arms": [{"name": "A"}], "metric": "joy", "guardrails": []}')
    with pytest.raises(ValueError, match="metric: Input should be 'clicks', 'adds'"):
        read_experiment(file)


def test_sequential_factor_is_between_one_look_and_the_boundary():
    z = stats.norm.isf(0.025) + stats.norm.ppf(0.8)
    worst = ((boundary(1, optimal_rho(1)) + stats.norm.ppf(0.8)) / z) ** 2
    assert 1 < sequential_factor(0.05, 0.8) < worst


def test_a_plan_reads_well():
    plan = plan_experiment(Baseline("clicks", 0.3, 0.3, 2000), {"A": 1, "B": 1, "C": 2}, 0.05)
    assert "arms: A 25 %, B 25 %, C 50 %" in describe_plan(plan)
    assert "2 arms are compared with the control" in describe_plan(plan)
