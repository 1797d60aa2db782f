"""Intervals of ratios, of the holdout's lift and of position bias, against simulated truth."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.contracts import EVENTS, RECOMMENDATIONS
from components.online.events import open_events
from components.online.holdout import estimate_holdout_lift
from components.online.intervals import Moments, bound_unseen, compute_intervals
from components.online.measures import measure
from components.online.position_bias import correct_click_through, estimate_position_bias

PROPENSITIES = np.array([1, 0.7, 0.5, 0.35])


def sum_up(n, d):
    """Moments of (n_groups, n_sessions)."""
    k = np.full(len(n), float(n.shape[1]))
    return Moments(
        k, n.sum(1), d.sum(1), (n * n).sum(1), (n * d).sum(1), (d * d).sum(1)
    )  # fmt: skip


def draw_visits(rng, n_groups, n_sessions):
    """Clicks and impressions of sessions whose taste differs, as does their length."""
    impressions = rng.geometric(0.15, (n_groups, n_sessions)).astype(float)
    rates = rng.beta(2, 18, (n_groups, n_sessions))
    clicks = rng.binomial(impressions.astype(int), rates).astype(float)
    return clicks, impressions


def test_95_percent_intervals_hold_the_truth_in_95_percent():
    clicks, impressions = draw_visits(np.random.default_rng(1), 2000, 400)
    found = compute_intervals(sum_up(clicks, impressions))
    share = np.mean((found.lower <= 0.1) & (found.upper >= 0.1))
    assert 0.93 < share < 0.97


def test_intervals_that_take_impressions_for_independent_are_too_narrow():
    """Why sessions are the unit: with binomial variance the same data miss the truth too often."""
    clicks, impressions = draw_visits(np.random.default_rng(1), 2000, 400)
    rate = clicks.sum(1) / impressions.sum(1)
    half = 1.96 * np.sqrt(rate * (1 - rate) / impressions.sum(1))
    assert np.mean(np.abs(rate - 0.1) <= half) < 0.93


def test_delta_method_agrees_with_the_bootstrap_of_sessions():
    rng = np.random.default_rng(2)
    clicks, impressions = draw_visits(rng, 1, 500)
    drawn = rng.integers(0, 500, (4000, 500))
    ratios = clicks[0, drawn].sum(1) / impressions[0, drawn].sum(1)
    found = compute_intervals(sum_up(clicks, impressions))
    width = found.upper[0] - found.lower[0]
    np.testing.assert_allclose(
        [found.lower[0], found.upper[0]], np.quantile(ratios, [0.025, 0.975]), atol=0.06 * width
    )


def test_without_clicks_the_upper_bound_is_poisson_s():
    zeros, ones = np.zeros((1, 100)), np.ones((1, 100))
    assert bound_unseen(sum_up(zeros, ones))[0] == pytest.approx(0.0369, abs=1e-4)


def test_one_session_has_no_bounds():
    found = compute_intervals(sum_up(np.ones((1, 1)), np.full((1, 1), 4.0)))
    assert found.value[0] == 0.25
    assert np.isnan(found.lower[0])
    assert np.isnan(found.upper[0])


def test_measured_intervals_hold_the_truth_in_95_percent(tmp_path):
    """As above, but through the tables: every arm is a trial of 80 sessions with 1 to 3 lists of
    4 products, whose taste differs."""
    rng = np.random.default_rng(4)
    n_arms, n_sessions = 300, 80
    lists_each = rng.integers(1, 4, n_arms * n_sessions)
    sessions = np.repeat(np.arange(n_arms * n_sessions), lists_each)
    order = np.tile(np.arange(4), (len(sessions), 1))
    taste = rng.beta(2, 6, n_arms * n_sessions)[sessions]
    clicks = rng.random(order.shape) < taste[:, None]
    arms = [f"arm{session // n_sessions}" for session in sessions]
    write_lists(tmp_path, order, sessions, arm=arms)
    write_events(tmp_path, order, sessions, clicks)
    with open_events(tmp_path) as online:
        rows = measure(online, ["arm"]).to_pylist()
    rows = [row for row in rows if row["measure"] == "click_through"]
    assert {row["n_sessions"] for row in rows} == {n_sessions}
    assert 0.92 < np.mean([row["lower"] <= 0.25 <= row["upper"] for row in rows]) < 0.98


# Holdout


def make_sessions(rng, n, lift):
    """Orders that happen anyway; arm `new` makes `lift` more of them."""
    arm = rng.random(n) < 0.8
    orders = rng.poisson(np.where(arm, 0.2 * (1 + lift), 0.2)).astype(float)
    return pa.table(
        {
            "arm": np.where(arm, "new", "holdout"),
            "orders": orders,
            "order_value": orders * rng.gamma(2, 15, n),
        }
    )


@pytest.mark.parametrize("lift", [0, 0.3])
def test_the_holdout_s_lift_is_unbiased_and_its_interval_holds_the_truth(lift):
    rng = np.random.default_rng(3)
    rows = [
        row
        for _ in range(400)
        for row in estimate_holdout_lift(make_sessions(rng, 4000, lift), "holdout").to_pylist()
        if row["measure"] == "order_value"
    ]
    truth = 6 * lift
    covered = [row["lower"] <= truth <= row["upper"] for row in rows]
    lifts = [row["lift_lower"] <= lift <= row["lift_upper"] for row in rows]
    assert 0.92 < np.mean(covered) < 0.975
    assert 0.92 < np.mean(lifts) < 0.975
    differences = np.array([row["difference"] for row in rows])
    assert abs(differences.mean() - truth) < 3 * differences.std() / 20


def test_an_absent_holdout_is_named():
    table = make_sessions(np.random.default_rng(0), 100, 0)
    with pytest.raises(ValueError, match=r"found arms .*, expected 'off' and another"):
        estimate_holdout_lift(table, "off")


# Position bias


def write_swaps(root: Path, seed: int, n_lists=3000, n_products=4) -> None:
    """Lists of four products with known appeal, best first, of which a random pair is swapped; all
    are in the viewport. Half of the sessions have two lists."""
    rng = np.random.default_rng(seed)
    appeal = np.array([0.5, 0.35, 0.3, 0.25])
    pairs = rng.integers(0, 3, n_lists)
    is_swapped = rng.random(n_lists) < 0.5
    order = np.tile(np.arange(n_products), (n_lists, 1))
    rows = np.flatnonzero(is_swapped)
    order[rows, pairs[rows]], order[rows, pairs[rows] + 1] = pairs[rows] + 1, pairs[rows]
    clicks = rng.random(order.shape) < appeal[order] * PROPENSITIES
    sessions = np.arange(n_lists) * 2 // 3
    swapped = pa.array(pairs, mask=~is_swapped)
    write_lists(
        root, order, sessions, swapped=swapped, swap_drawn=[True] * n_lists, drawn_pair=pairs
    )
    write_events(root, order, sessions, clicks)


def write_lists(root, order, sessions, **more):
    """Lists of products by number (n, 4), their sessions by number (n,)."""
    n = len(order)
    columns = {
        "request_id": [f"r{i}" for i in range(n)],
        "ts": np.full(n, np.datetime64("2026-11-29T12:00:00", "us")),
        "session_id": [f"s{i}" for i in sessions], "endpoint": ["recommend"] * n,
        "context": ["cart"] * n, "model_version": ["1"] * n, "arm": ["control"] * n,
        "experiment": [None] * n, "share": np.ones(n), "asked": [["tea"]] * n,
        "items": [[f"p{one}" for one in row] for row in order], "sources": [["model"] * 4] * n,
        "rules": [[]] * n, "swapped": [None] * n, "swap_drawn": [False] * n, "teams": [None] * n,
        "drawn_pair": [None] * n, "rule_ids": [None] * n,
    }  # fmt: skip
    write(root / "recommendations", columns | more, RECOMMENDATIONS)


def write_events(root, order, sessions, clicks):
    """An impression of each product, and `clicks` (n, 4)."""
    list_, position = np.indices(order.shape).reshape(2, -1)
    list_ = np.concatenate([list_, list_[clicks.ravel()]])
    position = np.concatenate([position, position[clicks.ravel()]])
    n = len(list_)
    columns = {
        "event_id": [f"e{i}" for i in range(n)],
        "event": ["view_item_list"] * order.size + ["select_item"] * (n - order.size),
        "ts": np.full(n, np.datetime64("2026-11-29T12:00:05", "us")),
        "received_at": np.full(n, np.datetime64("2026-11-29T12:00:06", "us")),
        "session_id": [f"s{i}" for i in sessions[list_]],
        "request_id": [f"r{i}" for i in list_], "order_id": [None] * n,
        "product_id": [f"p{one}" for one in order[list_, position]],
        "position": position, "quantity": [None] * n, "price": [None] * n,
    }  # fmt: skip
    write(root / "events", columns, EVENTS)


def write(folder, columns, schema):
    import pyarrow.parquet as pq

    arrays = [pa.array(columns[one.name]).cast(one.type) for one in schema]
    folder = folder / "day=2026-11-29"
    folder.mkdir(parents=True)
    pq.write_table(pa.table(arrays, names=schema.names), folder / "part.parquet")


def test_swaps_tell_the_propensity_of_each_position(tmp_path):
    n_covered = 0
    for seed in range(8):
        write_swaps(tmp_path / str(seed), seed)
        with open_events(tmp_path / str(seed)) as online:
            found = estimate_position_bias(online)
        np.testing.assert_allclose(found["propensity"], PROPENSITIES, rtol=0.45)
        bounds = found["lower"].to_numpy(), found["upper"].to_numpy()
        n_covered += np.sum((bounds[0] <= PROPENSITIES) & (bounds[1] >= PROPENSITIES))
    assert n_covered >= 29


def test_corrected_click_through_is_the_appeal(tmp_path):
    write_swaps(tmp_path, 0, n_lists=6000)
    truth = pa.table({"position": [0, 1, 2, 3], "propensity": PROPENSITIES})
    with open_events(tmp_path) as online:
        rows = correct_click_through(online, truth).to_pylist()
    assert [row["product_id"] for row in rows] == ["p0", "p1", "p2", "p3"]
    for row, appeal in zip(rows, (0.5, 0.35, 0.3, 0.25), strict=True):
        assert row["lower"] - 0.01 < appeal < row["upper"] + 0.01
    assert rows[3]["raw"] < 0.13


def test_without_swaps_only_the_first_position_is_known(tmp_path):
    write_swaps(tmp_path, 0, n_lists=1)
    with open_events(tmp_path) as online:
        assert estimate_position_bias(online)["position"].to_pylist() == [0]
