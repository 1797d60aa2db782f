"""The simulator: its shoppers are the same whatever is recommended, and its truth is true."""

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.contracts import BASKETS, EVENTS, ORDER_LINES, RECOMMENDATIONS, read_table
from components.experiments.experiment import Arm, Experiment
from components.model.bundle import read_bundle
from components.simulation.behaviour import Behaviour
from components.simulation.draws import draw_normal, draw_uniform
from components.simulation.market import build_market, make_market, market_of_bundle
from components.simulation.reactions import examine, react
from components.simulation.tables import to_events, to_order_lines, write_trial
from components.simulation.trial import (
    is_repeated,
    list_bestsellers,
    list_companions,
    run_trial,
    swap_neighbours,
)
from components.simulation.truth import measure_systems, measure_trial
from components.simulation.visits import plan_visits
from pipelines.simulate import read_behaviour
from tests.factories import make_bundle

K = 8
MARKET = make_market(300, 30, seed=1)
BEHAVIOUR = Behaviour()
GOOD, BAD = list_companions(MARKET, K), list_companions(MARKET, K, noise=0.6, seed=2)
NONE = np.full_like(GOOD, -1)
VISITS = plan_visits(MARKET, BEHAVIOUR, 20_000, seed=3)
EXPERIMENT = Experiment(
    name="x", arms=(Arm(name="good"), Arm(name="bad"), Arm(name="nothing", holdout="empty"))
)


def test_draws_are_uniform_and_know_their_keys():
    drawn = draw_uniform(1, "x", np.arange(1000)[:, None], np.arange(100))
    assert drawn.shape == (1000, 100)
    counts = np.histogram(drawn, 10, (0, 1))[0]
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 30  # chi-squared, 9 degrees of freedom
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.1
    assert draw_uniform(1, "x", 7, 5) == drawn[7, 5]
    assert draw_uniform(2, "x", 7, 5) != drawn[7, 5] != draw_uniform(1, "y", 7, 5)
    normal = draw_normal(1, "x", np.arange(100_000))
    assert abs(normal.mean()) < 0.01
    assert abs(normal.std() - 1) < 0.01


def test_a_session_is_the_same_alone_and_among_others():
    alone = plan_visits(MARKET, BEHAVIOUR, 1, seed=3, first=17)
    mine = VISITS.session == 17
    assert alone.page.tolist() == VISITS.page[mine].tolist()
    assert alone.page_us.tolist() == VISITS.page_us[mine].tolist()
    wanted = VISITS.wanted[VISITS.wanted // len(MARKET) == 17] % len(MARKET)
    assert alone.wanted.tolist() == wanted.tolist()
    together = react(MARKET, BEHAVIOUR, VISITS, GOOD[VISITS.page])
    found = react(MARKET, BEHAVIOUR, alone, GOOD[alone.page])
    assert np.array_equal(found.clicked, together.clicked[mine])
    assert found.order_value[0] == pytest.approx(together.order_value[17])


def test_without_recommendations_shoppers_buy_what_they_came_for():
    found = react(MARKET, BEHAVIOUR, VISITS, NONE[VISITS.page])
    assert not found.is_seen.any()
    assert not found.clicked.any()
    assert np.array_equal(found.bought, VISITS.wanted)
    assert not found.effect.any()


def test_lists_never_take_a_purchase_away_and_better_lists_add_more():
    truth = measure_systems(MARKET, BEHAVIOUR, VISITS, {"good": GOOD, "bad": BAD, "none": NONE})
    found = react(MARKET, BEHAVIOUR, VISITS, GOOD[VISITS.page])
    assert (found.effect > -1e-9).all()
    assert set(VISITS.wanted) <= set(found.bought)
    assert truth["good"].ctr > 1.5 * truth["bad"].ctr
    assert truth["good"].effect > 1.5 * truth["bad"].effect > truth["none"].effect == 0
    assert len({one.base_value for one in truth.values()}) == 1


def test_clicks_come_with_the_probability_that_is_told():
    found = react(MARKET, BEHAVIOUR, VISITS, GOOD[VISITS.page])
    probability = found.click_probability
    for low in (0.0, 0.02, 0.05, 0.1, 0.2):
        chosen = (probability >= low) & (probability > 0)
        error = np.sqrt((probability * (1 - probability))[chosen].sum()) / chosen.sum()
        assert abs(found.clicked[chosen].mean() - probability[chosen].mean()) < 4 * error


def test_a_product_that_is_as_good_in_every_place_shows_position_bias_and_fatigue():
    pairs = (np.zeros(K, int), np.arange(1, K + 1), np.full(K, 0.1))
    shop = build_market(
        pa.array([f"p{row}" for row in range(K + 1)]),
        np.ones(K + 1),
        np.eye(K + 1)[0] + 1e-12,
        pairs,
    )
    behaviour = Behaviour(order=0, follow=0, spread=0, list_seen=1, fatigue=0.5, pages=4)
    visits = plan_visits(shop, behaviour, 1000, seed=1)
    shown = np.tile(np.arange(1, K + 1, dtype=np.int32), (len(visits.page), 1))
    probability = react(shop, behaviour, visits, shown).click_probability
    assert np.allclose(probability / probability[:, :1], examine(behaviour, K))
    second = visits.place == 1
    assert np.allclose(probability[second], 0.5 * probability[0])


def test_sessions_follow_seasons_weekends_and_popularity():
    year = plan_visits(MARKET, BEHAVIOUR, 40_000, 5, start=date(2025, 1, 6), days=364)
    day = (year.start_us - year.start_us.min() // 86_400_000_000 * 86_400_000_000) // 86_400_000_000
    per_weekday = np.bincount(day % 7, minlength=7)
    ratio = per_weekday[5:].mean() / per_weekday[:5].mean()
    assert ratio == pytest.approx(BEHAVIOUR.weekend, rel=0.05)
    seasonal = np.flatnonzero(MARKET.seasons.min(axis=0) < 1)[0]
    first = year.place == 0
    bins = ((day[year.session] + 5) * 26) // 366
    quiet = MARKET.seasons[bins % 26, seasonal] < 1
    opened = first & (year.page == seasonal)
    assert (opened & quiet).sum() / (first & quiet).sum() < 0.5 * (
        (opened & ~quiet).sum() / (first & ~quiet).sum()
    )
    counts = np.bincount(year.page[first], minlength=len(MARKET))
    assert counts[:30].sum() > 3 * counts[150:180].sum()


def test_a_trial_assigns_as_the_experiment_does_and_swaps_by_halves():
    trial = run_trial(MARKET, BEHAVIOUR, EXPERIMENT, {"good": GOOD, "bad": BAD}, VISITS)
    for number in (0, 1, 2, 19_999):
        arm = EXPERIMENT.arms[trial.arm[number]].name
        assert EXPERIMENT.assign(f"s3-{number}").name == arm
    truth = measure_trial(trial)
    assert truth["nothing"].effect == truth["nothing"].impressions == 0
    assert truth["good"].sessions == pytest.approx(20_000 / 3, rel=0.05)
    shown, pair, swapped = swap_neighbours(GOOD[VISITS.page], VISITS, 0.2)
    assert (pair >= 0).mean() == pytest.approx(0.2, abs=0.01)
    assert np.bincount(pair[pair >= 0]).min() > 0.9 * (pair >= 0).sum() / (K - 1)
    assert swapped.sum() / (pair >= 0).sum() == pytest.approx(0.5, abs=0.02)
    assert not swapped[pair < 0].any()
    page = np.flatnonzero((pair == 2) & swapped)[0]
    expected = GOOD[VISITS.page[page]][[0, 1, 3, 2, *range(4, K)]]
    assert shown[page].tolist() == expected.tolist()


def test_lists_hold_each_product_once():
    for lists in (GOOD, BAD, list_bestsellers(MARKET, K)):
        assert lists.shape == (len(MARKET), K)
        assert not is_repeated(lists).any()


def test_tables_hold_what_happened(tmp_path):
    behaviour = Behaviour(bots=0.01, blocked=0.2)
    visits = plan_visits(MARKET, behaviour, 2_000, seed=4)
    trial = run_trial(MARKET, behaviour, EXPERIMENT, {"good": GOOD, "bad": BAD}, visits)
    write_trial(MARKET, behaviour, trial, tmp_path)
    events = read_table(tmp_path / "events", EVENTS)
    log = read_table(tmp_path / "recommendations", RECOMMENDATIONS)
    assert log.num_rows == len(visits.page)
    names = {row["event"]: 0 for row in events.to_pylist()}
    for row in events.to_pylist():
        names[row["event"]] += 1
    sent = ~visits.is_blocked
    assert names["select_item"] == trial.reactions.clicked[sent[visits.session]].sum()
    owner = trial.reactions.bought // len(MARKET)
    assert names["purchase"] == sent[owner].sum()
    assert not {f"s4-{n}" for n in np.flatnonzero(~sent)} & set(events["session_id"].to_pylist())
    # An item of an event stands in the list of its request, in its position.
    items = dict(zip(log["request_id"].to_pylist(), log["items"].to_pylist(), strict=True))
    shown = events.filter(pc.is_valid(events["request_id"])).to_pylist()
    assert all(items[row["request_id"]][row["position"]] == row["product_id"] for row in shown)
    lines = to_order_lines(MARKET, behaviour, trial)
    assert lines.schema.equals(pa.schema(list(ORDER_LINES)))
    total = sum(row["price"] for row in lines.to_pylist())
    assert total == pytest.approx(trial.reactions.order_value.sum())


def test_events_of_a_session_come_in_order():
    trial = run_trial(MARKET, BEHAVIOUR, EXPERIMENT, {"good": GOOD, "bad": BAD}, VISITS)
    last = {}
    order = ["view_item_list", "select_item", "add_to_cart"]
    for row in to_events(MARKET, BEHAVIOUR, trial).slice(0, 50_000).to_pylist():
        key = (row["request_id"], row["product_id"])
        if row["request_id"]:
            assert last.get(key, -1) < order.index(row["event"])
            last[key] = order.index(row["event"])


def test_bots_click_everything_and_count_for_nothing():
    behaviour = Behaviour(bots=1)
    visits = plan_visits(MARKET, behaviour, 10, seed=1)
    found = react(MARKET, behaviour, visits, GOOD[visits.page])
    assert found.clicked.all()
    assert not found.order_value.any()
    assert measure_systems(MARKET, behaviour, visits, {"good": GOOD})["good"].sessions == 0


def test_a_bundle_is_a_market(tmp_path):
    market = market_of_bundle(read_bundle(make_bundle(tmp_path / "bundle")))
    assert market.product_ids.to_pylist()[:2] == ["tea", "milk"]
    assert market.prices[0] == 1.5
    assert market.popularity[0] > market.popularity[-1]


def test_test_baskets_tell_what_goes_together(tmp_path):
    baskets = [["tea", "milk"], ["tea", "milk", "bread"], ["tea", "bread"], ["tea", "sugar"]]
    table = pa.table(
        {
            "order_id": [str(n) for n in range(5)],
            "user_id": [None] * 5,
            "ts": [None] * 5,
            "items": [*baskets, ["coffee", "sugar"]],
            "positions": [None] * 5,
            "weight": [1.0] * 5,
            "split": ["test"] * 4 + ["train"],
        },
        schema=pa.schema(list(BASKETS)),
    )
    pq.write_table(table, tmp_path / "baskets.parquet")
    bundle = read_bundle(make_bundle(tmp_path / "bundle"))
    market = market_of_bundle(bundle, tmp_path / "baskets.parquet")
    tea, milk, bread, sugar = (market.places[id_] for id_ in ("tea", "milk", "bread", "sugar"))
    found = market.find_affinity(
        np.array([tea, milk, bread, tea]), np.array([milk, tea, tea, sugar])
    )
    assert found.tolist() == [0.5, 1.0, 1.0, 0.0]


def test_a_wrong_behaviour_names_file_and_field(tmp_path):
    file = tmp_path / "behaviour.json"
    file.write_text('{"add": 2, "eagerness": 1}')
    with pytest.raises(ValueError, match=r"behaviour\.json: add: .*; eagerness: ") as error:
        read_behaviour(file)
    assert "validation error" not in str(error.value)
    file.write_text('{"fatigue": 0.8}')
    assert read_behaviour(file).fatigue == 0.8
    with pytest.raises(ValueError, match="cannot read"):
        read_behaviour(tmp_path / "absent.json")
