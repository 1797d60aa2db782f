"""From shoppers to a verdict: simulated ones before a real service with two arms and a holdout,
through SQLite and Parquet. The truth is known."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from components.contracts import EVENTS, RECOMMENDATIONS, read_table
from components.events.archive import Archive
from components.events.compact import compact
from components.events.open import open_sink
from components.experiments.experiment import read_experiment
from components.experiments.verdict import judge_experiment
from components.online.events import count_cleaned, open_events
from components.online.holdout import estimate_holdout_lift
from components.online.measures import measure
from components.online.sessions import build_sessions
from components.simulation.behaviour import Behaviour
from components.simulation.market import build_market
from pipelines.simulate import Shop, simulate
from tests.factories import make_bundle
from tests.service.serving import served

N_PAIRS, N_SESSIONS = 30, 900
GOOD = [(f"left {n}", f"right {n}") for n in range(N_PAIRS)]
BAD = [(f"left {n}", f"right {(n + 7) % N_PAIRS}") for n in range(N_PAIRS)]
EXPERIMENT = {
    "name": "spring",
    "metric": "clicks",
    "planned_sessions": N_SESSIONS,
    "arms": [
        {"name": "good", "model_version": "7"},
        {"name": "bad", "model_version": "8"},
        {"name": "nothing", "holdout": "empty"},
    ],
}


def make_shop(url):
    """Shoppers want the other product of a pair."""
    ids = [id_ for pair in GOOD for id_ in pair]
    rows = np.arange(len(ids))
    pairs = (rows, rows ^ 1, np.full(len(ids), 0.4))
    prices, popularity = np.full(len(ids), 5.0), np.ones(len(ids))
    market = build_market(pa.array(ids), prices, popularity, pairs)
    behaviour = Behaviour(order=0.05, add=0.6, checkout=0.6, bots=0.005)
    return Shop(url, market, behaviour, seed=1, k=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The experiment, the simulation and the folder of Parquet."""
    folder = tmp_path_factory.mktemp("online")
    good, bad = make_bundle(folder / "7", GOOD, {}, {}), make_bundle(folder / "8", BAD, {}, {})
    experiment = json.loads(json.dumps(EXPERIMENT))
    experiment["arms"][1]["bundle"] = str(bad)
    (folder / "experiment.json").write_text(json.dumps(experiment))
    url = f"sqlite:///{folder / 'events.db'}"
    settings = {"events_url": url, "experiment": folder / "experiment.json"}
    with served(good, database_url="off", **settings) as server:
        simulation = simulate(make_shop(server.url), N_SESSIONS)
    sink = open_sink(url)
    compact(sink, Archive(str(folder / "root")))
    sink.close()
    return read_experiment(folder / "experiment.json"), simulation, folder / "root"


def test_all_that_was_sent_is_stored(run):
    _, simulation, root = run
    sent = simulation.truth["events"]
    assert sent["accepted"] == sent["sent"]
    events = read_table(root / "events", EVENTS)
    assert len(set(events["event_id"].to_pylist())) == sent["sent"]
    log = read_table(root / "recommendations", RECOMMENDATIONS)
    assert log.num_rows == len(simulation.trial.visits.page)
    assert set(log["experiment"].to_pylist()) == {"spring"}


def test_arms_are_as_the_experiment_assigns_them(run):
    experiment, simulation, _ = run
    trial = simulation.trial
    names = [arm.name for arm in trial.experiment.arms]
    for number, place in enumerate(trial.arm.tolist()):
        assert experiment.assign(f"s1-{number}").name == names[place]


def test_counts_are_those_of_the_shoppers_without_bots(run):
    _, simulation, root = run
    truth = simulation.truth["arms"]
    with open_events(root) as online:
        rows = measure(online, by=["arm"]).to_pylist()
        counts = count_cleaned(online)
    # Nothing tells a robot that was shown nothing.
    trial, names = simulation.trial, [arm.name for arm in simulation.trial.experiment.arms]
    robots = trial.visits.is_bot & (trial.arm != names.index("nothing"))
    assert counts["robot_sessions"] == robots.sum() > 0
    found = {(row["arm"], row["measure"]): row for row in rows}
    for arm in ("good", "bad"):
        clicks = found[arm, "click_through"]
        assert clicks["numerator"] == truth[arm]["clicks"]
        assert clicks["denominator"] == truth[arm]["impressions"]
        assert clicks["lower"] <= truth[arm]["ctr"] <= clicks["upper"]
    assert truth["good"]["ctr"] > 2 * truth["bad"]["ctr"]


def test_the_verdict_and_the_lift_are_true(run):
    experiment, simulation, root = run
    with open_events(root) as online:
        sessions = build_sessions(online, "spring")
    verdict = judge_experiment(sessions, experiment, datetime.now(UTC) + timedelta(days=2))
    assert not verdict.is_mismatched
    (bad,) = verdict.arms
    assert (bad.arm, bad.decision, verdict.best) == ("bad", "worse", "good")
    lifts = estimate_holdout_lift(sessions, "nothing").to_pylist()
    truth = simulation.truth["arms"]
    for row in lifts:
        if row["measure"] == "order_value":
            assert row["mean"] == pytest.approx(truth[row["arm"]]["order_value"])
            assert row["lower"] <= truth[row["arm"]]["effect"] <= row["upper"]
    good = next(row for row in lifts if (row["arm"], row["measure"]) == ("good", "order_value"))
    assert good["lower"] > 0
