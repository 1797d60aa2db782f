"""Feedback: weights of what shoppers saw, and the re-ranker that takes them as examples."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from components.contracts import BASKETS, FEEDBACK, write_table
from components.feedback.examples import find_since, make_examples
from components.feedback.weights import (
    FeedbackSettings,
    Outcomes,
    fill_propensities,
    value_outcomes,
    weigh_ages,
)
from components.ranking.feedback import (
    Feedback,
    FeedbackCells,
    FeedbackError,
    place_feedback,
    read_feedback,
)
from components.ranking.gains import Gains, split_folds
from components.ranking.queries import OFFLINE_FEATURES
from components.ranking.reranker import (
    BLEND_WEIGHT,
    build_ranking_dataset,
    fit_if_significant,
    predict,
)
from tests.archive import TODAY, write_archive
from tests.factories import make_labelled_queries, make_paired_queries

SETTINGS = FeedbackSettings(half_life_days=10, season_share=0.5, min_propensity=0.2)


def test_an_outcome_is_worth_the_probability_that_the_product_is_bought():
    values = value_outcomes(Outcomes(98, 24, 48, 24))
    assert values.click == pytest.approx(25 / 100)
    assert values.add == pytest.approx(25 / 50)


def test_a_product_in_the_cart_is_worth_no_less_than_a_click():
    values = value_outcomes(Outcomes(10, 9, 10, 0))
    assert values.add == values.click


def test_without_any_event_values_are_finite():
    assert value_outcomes(Outcomes(0, 0, 0, 0)) == (0.5, 0.5)


def test_old_examples_count_less_and_those_of_the_season_more():
    ages = np.array([0, 10, 20, 365.25, 375.25, 365.25 + 183], np.float32)
    weights = weigh_ages(ages, SETTINGS)
    np.testing.assert_allclose(weights[:5], [1, 0.5, 0.25, 0.5, 0.25], atol=1e-3)
    assert weights[5] < 0.001


def test_places_that_were_not_measured_are_as_the_last_before():
    found = fill_propensities(np.array([0, 1, 3]), np.array([1, 0.5, 0.05]), 6, SETTINGS)
    np.testing.assert_allclose(found, [1, 0.5, 0.5, 0.2, 0.2, 0.2])


def test_without_a_measured_place_nothing_is_corrected():
    none = np.array([], np.int64), np.array([], np.float64)
    assert fill_propensities(*none, 3, SETTINGS).tolist() == [1, 1, 1]


def test_examples_say_what_was_seen_clicked_and_bought(tmp_path):
    archive = write_archive(tmp_path / "online")
    found = make_examples(archive, 0, 24, SETTINGS, tmp_path / "examples.parquet")
    rows = pa.parquet.read_table(tmp_path / "examples.parquet").to_pylist()
    milk, salt = sorted(rows, key=lambda row: row["product_id"])
    assert (milk["asked"], milk["day"]) == (["tea"], TODAY)
    assert (milk["impressions"], milk["clicks"], milk["purchases"]) == (4, 2, 1)
    click = (1 + 1) / (2 + 2)
    assert milk["positive"] == pytest.approx(1 + click)
    assert (salt["examined"], salt["positive"]) == (4, 0)
    assert found["measured_places"] <= 1
    copy = archive / "feedback.parquet"
    assert copy.read_bytes() == (tmp_path / "examples.parquet").read_bytes()


def test_examples_of_a_half_life_ago_count_half(tmp_path):
    days = (TODAY, TODAY - timedelta(days=10))
    archive = write_archive(tmp_path / "online", days)
    make_examples(archive, 0, 24, SETTINGS, tmp_path / "examples.parquet")
    rows = pa.parquet.read_table(tmp_path / "examples.parquet").to_pylist()
    examined = {(row["day"], row["product_id"]): row["examined"] for row in rows}
    assert examined == {(days[0], "milk"): 4, (days[0], "salt"): 4,
                     (days[1], "milk"): 2, (days[1], "salt"): 2}  # fmt: skip


def test_only_the_newest_days_count(tmp_path):
    days = (TODAY, TODAY - timedelta(days=10))
    archive = write_archive(tmp_path / "online", days)
    assert find_since(archive, 10) == datetime(2026, 11, 20, tzinfo=UTC)
    assert find_since(archive, 0) is None
    assert find_since(tmp_path, 10) is None
    found = make_examples(archive, 10, 24, SETTINGS, tmp_path / "examples.parquet")
    assert found["impressions"] == 8


# ---------------------------------------------------------------- in the re-ranker


def write_baskets(path, with_times=True):
    """A day each: trained on until 10 November, validated until the 20th, tested until the 29th."""
    rows = []
    for day in range(1, 30):
        split = "train" if day <= 10 else "validation" if day <= 20 else "test"
        ts = datetime(2026, 11, day, 12, tzinfo=UTC) if with_times else None
        rows.append({"order_id": str(day), "user_id": None, "ts": ts, "items": ["a", "b"],
                     "positions": None, "weight": 1.0, "split": split})  # fmt: skip
    write_table(pa.Table.from_pylist(rows, pa.schema(list(BASKETS))), BASKETS, path)
    return path


def write_feedback(path, *rows):
    """Rows of (day, asked, product)."""
    table = pa.Table.from_pylist(
        [
            {"day": day, "context": "cart", "asked": asked, "product_id": product,
             "impressions": 2.0, "clicks": 1.0, "adds": 0.0, "purchases": 0.0, "examined": 2.0,
             "positive": 1.0}
            for day, asked, product in rows
        ],
        pa.schema(list(FEEDBACK)),
    )  # fmt: skip
    write_table(table, FEEDBACK, path)
    return path


def test_shoppers_of_test_baskets_teach_nothing(tmp_path):
    days = [date(2026, 11, 5), date(2026, 11, 15), date(2026, 11, 25), date(2026, 12, 5)]
    path = write_feedback(tmp_path / "feedback", *((day, ["a"], "b") for day in days))
    found = read_feedback(path, write_baskets(tmp_path / "baskets"), ["a", "b"])
    assert len(found) == 3
    assert found.n_left_out == 1
    assert found.is_independent.tolist() == [True, False, True]


def test_carts_and_unknown_products_are_left_out(tmp_path):
    day = date(2026, 11, 5)
    rows = [(day, ["a", "b"], "c"), (day, ["a"], "gone"), (day, ["gone"], "a"), (day, ["a"], "b")]
    path = write_feedback(tmp_path / "feedback", *rows)
    found = read_feedback(path, write_baskets(tmp_path / "baskets"), ["a", "b", "c"])
    assert (found.asked.tolist(), found.companion.tolist()) == ([0], [1])
    assert found.n_left_out == 3


def test_baskets_without_times_are_refused(tmp_path):
    path = write_feedback(tmp_path / "feedback", (date(2026, 11, 5), ["a"], "b"))
    baskets = write_baskets(tmp_path / "baskets", with_times=False)
    with pytest.raises(FeedbackError, match=r"29 baskets of .* have no time.*without feedback"):
        read_feedback(path, baskets, ["a", "b"])


def feedback_on(*pairs, independent=True):
    """Of (asked, companion, examined, positive)."""
    asked, companion, examined, positive = (np.array(one) for one in zip(*pairs, strict=True))
    known = np.full(len(asked), independent)
    return Feedback(asked, companion, examined.astype(float), positive.astype(float), known)


def make_item_queries(products, rows):
    features = np.zeros((*np.shape(rows), len(OFFLINE_FEATURES)), np.float32)
    hits = np.zeros((0, np.shape(rows)[1]), bool)
    products = np.array(products, np.int32)
    return make_labelled_queries(features, np.array(rows), hits, products=products)


def test_feedback_finds_its_candidate_and_is_summed():
    queries = make_item_queries([2, 5], [[1, 3, 4], [0, 3, -1]])
    given = feedback_on((5, 3, 2, 1), (5, 3, 4, 0), (2, 9, 1, 1), (7, 3, 1, 1), (2, 1, 3, 2))
    found = place_feedback(given, queries)
    assert [one.tolist() for one in found.position] == [[0, 1], [0, 1]]
    assert found.examined.tolist() == [3, 6]
    assert found.positive.tolist() == [2, 1]


def test_what_looks_earned_has_the_mean_of_the_gains_of_the_same_candidates():
    cells = FeedbackCells((np.array([0, 0]), np.array([0, 1])), np.array([10.0, 30.0]),
                          np.array([5.0, 0.0]))  # fmt: skip
    gains = Gains(np.array([[4.0, 2.0, 9.0]]), np.array([20.0]))
    labels = cells.label(gains)
    assert labels[1] == 0
    assert labels @ cells.examined == pytest.approx(10 * 4 / 20 + 30 * 2 / 20)


@pytest.fixture(scope="module")
def pairs():
    queries, baskets, is_pair = make_paired_queries()
    return queries, split_folds(queries, baskets), is_pair


def cells_of(queries, chosen, examined=200.0):
    """Every candidate was looked at; those `chosen` (n_lists, depth) earned."""
    position = np.nonzero(queries.rows >= 0)
    looked = np.full(len(position[0]), examined)
    return FeedbackCells(position, looked, np.where(chosen[position], looked / 2, 0))


def test_feedback_lifts_what_shoppers_liked_and_sinks_what_they_ignored(pairs):
    queries, folds, is_pair = pairs
    liked = (queries.features[..., -2] > 0.5) & ~is_pair
    gains = folds[0] + folds[1]
    scores = [
        predict(build_ranking_dataset(queries, gains, 1, cells).fit(gains, 1), queries.features)
        for cells in (None, cells_of(queries, liked))
    ]
    plain, taught = (one[liked].mean() - one[~liked & ~is_pair].mean() for one in scores)
    assert abs(plain) < 0.3
    assert taught > plain + 1


def test_without_feedback_nothing_changes(pairs):
    queries, folds, _ = pairs
    gains = folds[0] + folds[1]
    empty = FeedbackCells((np.zeros(0, int), np.zeros(0, int)), np.zeros(0), np.zeros(0))
    texts = [
        build_ranking_dataset(queries, gains, 1, cells).fit(gains, 1).model_to_string()
        for cells in (None, empty)
    ]
    assert texts[0] == texts[1]


def test_the_offline_effect_is_measured(pairs):
    queries, folds, is_pair = pairs
    asked = np.repeat(queries.products, 10).astype(np.int64)
    companion = queries.rows.ravel().astype(np.int64)
    right = Feedback(asked, companion, np.full(600, 50.0), 25.0 * is_pair.ravel(),
                     np.ones(600, bool), 7)  # fmt: skip
    blend = queries.features[..., 0]
    arguments = (queries, folds, blend, BLEND_WEIGHT["item"], 1)
    _, found = fit_if_significant(*arguments, feedback=right.place(queries))
    measured = found["feedback"]
    assert measured["candidates"] == 600
    assert measured["examined"] == measured["independent_examined"] == 30_000
    assert measured["examples_left_out"] == 7
    effect = measured["effect"]
    assert effect["low"] <= effect["mean"] <= effect["high"]
    _, plain = fit_if_significant(*arguments)
    assert "feedback" not in plain


def test_feedback_of_the_validation_days_does_not_enter_the_cross_validation(pairs):
    queries, _, _ = pairs
    given = feedback_on((0, int(queries.rows[0, 0]), 5, 1), independent=False)
    placed = given.place(queries)
    assert (len(placed.independent), len(placed.all)) == (0, 1)
