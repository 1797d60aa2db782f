"""Estimators of online measures find the truth of simulated shoppers."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow.compute as pc
import pytest

from components.contracts import ORDER_LINES, write_table
from components.experiments.experiment import Arm, Experiment
from components.experiments.interleaving import read_teams
from components.experiments.verdict import judge_experiment
from components.online.events import ORDER_SESSIONS, Sources, count_cleaned, open_events
from components.online.holdout import estimate_holdout_lift
from components.online.measures import measure
from components.online.position_bias import correct_click_through, estimate_position_bias
from components.online.sessions import build_sessions, count_team_clicks
from components.simulation.behaviour import Behaviour
from components.simulation.market import make_market
from components.simulation.reactions import examine, react
from components.simulation.tables import to_order_lines, to_order_sessions, write_trial
from components.simulation.trial import Trial, assign_arms, list_companions, run_trial
from components.simulation.truth import measure_systems, measure_trial
from components.simulation.visits import plan_visits
from tests.bench.estimators import draft_lists

K = 6
MARKET = make_market(200, 20, seed=1)
LISTS = {"good": list_companions(MARKET, K), "worse": list_companions(MARKET, K, 0.4, seed=2)}
ARMS = (Arm(name="good"), Arm(name="worse"), Arm(name="nothing", holdout="empty"))
EXPERIMENT = Experiment(name="x", arms=ARMS, planned_sessions=6_000, metric="clicks")
BEHAVIOUR = Behaviour(bots=0.003, blocked=0.1)
LATER = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def trial():
    visits = plan_visits(MARKET, BEHAVIOUR, 6_000, seed=5, start=date(2026, 3, 2), days=7)
    return run_trial(MARKET, BEHAVIOUR, EXPERIMENT, LISTS, visits)


@pytest.fixture(scope="module")
def root(trial, tmp_path_factory):
    """Its events and its log."""
    folder = tmp_path_factory.mktemp("truth")
    write_trial(MARKET, BEHAVIOUR, trial, folder)
    return folder


def tell_orders(trial, folder):
    """The nightly export."""
    lines, sessions = folder / "lines.parquet", folder / "sessions.parquet"
    write_table(to_order_lines(MARKET, BEHAVIOUR, trial), ORDER_LINES, lines)
    write_table(to_order_sessions(trial), ORDER_SESSIONS, sessions)
    return Sources(order_lines=lines, order_sessions=sessions)


def find_people(trial, arm):
    """(n_sessions,): of an arm, no robots."""
    names = [one.name for one in trial.experiment.arms]
    return (trial.arm == names.index(arm)) & ~trial.visits.is_bot


def test_clicks_and_impressions_are_counted_and_robots_are_not(trial, root):
    with open_events(root) as online:
        rows = {row["arm"]: row for row in measure(online, by=["arm"]).to_pylist()[::-1]
                if row["measure"] == "click_through"}  # fmt: skip
        counts = count_cleaned(online)
    for arm in ("good", "worse"):
        pages = (find_people(trial, arm) & ~trial.visits.is_blocked)[trial.visits.session]
        seen = pages & trial.reactions.is_seen
        assert rows[arm]["numerator"] == trial.reactions.clicked[seen].sum()
        assert rows[arm]["denominator"] == (trial.shown[seen] >= 0).sum()
        assert rows[arm]["lower"] <= measure_trial(trial)[arm].ctr <= rows[arm]["upper"]
    shown = trial.visits.is_bot & ~trial.visits.is_blocked & (trial.arm != 2)
    assert counts["robot_sessions"] == shown.sum() > 0


def test_the_holdout_tells_what_recommendations_add(trial, root, tmp_path):
    with open_events(root, sources=tell_orders(trial, tmp_path)) as online:
        sessions = build_sessions(online, "x")
    truth = measure_trial(trial)
    for row in estimate_holdout_lift(sessions, "nothing").to_pylist():
        if row["measure"] == "order_value":
            arm = truth[row["arm"]]
            # Robots of the holdout do nothing, and stay.
            assert row["mean"] == pytest.approx(arm.order_value, rel=0.01)
            luck = arm.base_value - truth["nothing"].base_value
            assert row["difference"] - luck == pytest.approx(arm.effect, abs=0.02)
            assert row["lower"] <= arm.effect <= row["upper"]


def test_orders_of_those_who_block_events_come_with_the_order_lines(trial, root, tmp_path):
    with open_events(root) as online:
        without = build_sessions(online, "x")
    with open_events(root, sources=tell_orders(trial, tmp_path)) as online:
        whole = build_sessions(online, "x")
    bought = trial.reactions.order_value
    assert sum(whole["order_value"].to_pylist()) == pytest.approx(bought.sum())
    sent = bought[~trial.visits.is_blocked].sum()
    assert sum(without["order_value"].to_pylist()) == pytest.approx(sent)


def test_the_verdict_is_true(trial, root):
    with open_events(root) as online:
        sessions = build_sessions(online, "x")
    verdict = judge_experiment(sessions, EXPERIMENT, LATER)
    truth = measure_trial(trial)
    assert truth["worse"].ctr < 0.8 * truth["good"].ctr
    assert [one.decision for one in verdict.arms] == ["worse"]
    assert verdict.best == "good"
    assert not verdict.is_mismatched


def test_swaps_tell_how_shoppers_look_at_positions(tmp_path):
    behaviour = Behaviour(click_scale=6)
    experiment = Experiment(name="swaps", arms=(Arm(name="good"),), swap_share=1)
    visits = plan_visits(MARKET, behaviour, 20_000, seed=6, start=date(2026, 3, 2), days=3)
    trial = run_trial(MARKET, behaviour, experiment, LISTS, visits)
    write_trial(MARKET, behaviour, trial, tmp_path)
    with open_events(tmp_path) as online:
        found = estimate_position_bias(online, confidence=0.99)
        corrected = correct_click_through(online, found, by=["arm"]).to_pylist()[0]
    truth = examine(behaviour, K)
    for row, true in zip(found.to_pylist(), truth, strict=True):
        assert row["lower"] <= true <= row["upper"]
    at_top = trial.reactions.click_probability / truth
    seen = trial.reactions.is_seen[:, None] & (trial.shown >= 0)
    assert corrected["value"] == pytest.approx(at_top[seen].mean(), rel=0.08)
    clicked = trial.reactions.clicked[seen].mean()
    assert corrected["raw"] == pytest.approx(clicked)


def test_intervals_cover_the_truth(tmp_path):
    n_experiments = 60
    behaviour = Behaviour()
    many = plan_visits(MARKET, behaviour, 40_000, seed=7)
    truth = measure_systems(MARKET, behaviour, many, LISTS)["good"].ctr
    for number in range(n_experiments):
        experiment = Experiment(name=f"x{number}", arms=ARMS[:1])
        visits = plan_visits(MARKET, behaviour, 150, 100 + number, date(2026, 3, 2), days=1)
        one = run_trial(MARKET, behaviour, experiment, LISTS, visits)
        write_trial(MARKET, behaviour, one, tmp_path, part=f"part-{number}")
    with open_events(tmp_path) as online:
        rows = measure(online, by=["experiment"]).to_pylist()
    rates = [row for row in rows if row["measure"] == "click_through"]
    covered = np.mean([row["lower"] <= truth <= row["upper"] for row in rates])
    assert len(rates) == n_experiments
    assert covered >= 0.87  # 95 % less 2.8 standard errors


def test_interleaved_lists_tell_the_better_arm(tmp_path):
    behaviour, arms = Behaviour(), (Arm(name="worse"), Arm(name="good"))
    experiment = Experiment(name="mixed", arms=arms, method="interleave")
    visits = plan_visits(MARKET, behaviour, 2_000, seed=8, start=date(2026, 3, 2), days=3)
    shown, teams = draft_lists(*(LISTS[arm.name][visits.page] for arm in arms))
    trial = Trial(
        experiment, visits, assign_arms(experiment, visits), shown,
        np.full(len(shown), -1, np.int32), np.zeros(len(shown), bool),
        react(MARKET, behaviour, visits, shown), teams,
    )  # fmt: skip
    write_trial(MARKET, behaviour, trial, tmp_path)
    with open_events(tmp_path) as online:
        clicks = count_team_clicks(online, "mixed")
    credited = trial.reactions.clicked & (teams == 1)
    good = pc.equal(clicks["team"], "good")
    assert sum(clicks.filter(good)["clicks"].to_pylist()) == credited.sum()
    found = read_teams(clicks, experiment)
    assert (found.arm, found.state) == ("good", "better")
