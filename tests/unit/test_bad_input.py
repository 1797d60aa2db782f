"""Odd orders and attributes give a sane model or a clear refusal, and never a crash in serving.

Every case goes the whole way: weighting, sweep, training, ranking, refit, bundle, evaluation, gate,
and questions of all kinds to what the service answers with.
"""

import json
import math
from datetime import timedelta

import pytest

from bento.answering.rendering import ResponseRenderer
from bento.schemas.requests import RecommendRequest, SimilarRequest
from bento.schemas.responses import RecommendResponse
from components.baskets.weighting import BasketWeighting
from components.embeddings.sweep import SweepSettings, plan_shards, run_shard
from components.evaluation.evaluate import evaluate
from components.evaluation.gate import GateSettings, check_verdict, judge
from components.model.bundle import read_bundle
from components.results import write_json
from components.weighting.choose import choose_weighting
from pipelines.serving_check import build_selection, sample_queries
from tests.unit.test_ranking import CARDS, PAIRS, baskets_from, built

SPLITS = (("train", 0.8), ("validation", 0.9), ("test", 1.0))
ODD_NUMBERS = (math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300)

WISHES = (
    {},
    {"k": 1, "explain": True},
    {"k": 100, "diversity": 1.0},
    {"strict": True, "explain": True},
    {"min_score": 0.0},
    {"context": "cart"},
    {"context": "checkout", "sort": "price_descending"},
    {"sort": "price", "price_ratio": None},
    {"sort": "newest", "price_ratio": 0.5},
    {"sort": "margin", "exclude": ["b", "no such product"]},
    {"sort": "popularity", "filters": {"price": {"min": 1}, "in_stock": True}},
    {"filters": {"category": {"include": ["things"]}, "brand": {"exclude": ["x"]}}},
    {"filters": {"attributes": {"colour": {"include": ["no such colour"]}}}},
)


def baskets_of(lists, weight=1.0):
    """BASKETS, an hour apart, split by time."""
    return baskets_from(lists, weight, SPLITS)


def model_of(folder, baskets, cards=(), tricks=None):
    """What serving answers with after everything that a run does; the gate may well say no."""
    recommender = built(folder, baskets, cards, tricks=tricks)
    path = folder / "baskets"
    choose_weighting(path, 1, seed=1)
    settings = SweepSettings(min_product_orders=1)
    assert run_shard(plan_shards(1, 1, 1)[0], path, settings)[0]["state"] == "complete"
    evaluation = evaluate(folder / "bundle", path, seed=1)
    write_json(evaluation, folder / "evaluation.json")
    serving = {"started": True, "asked": 1, "correct": 1, "p50_ms": 1.0, "p99_ms": 1.0}
    verdict = judge(evaluation, {**serving, "errors": []}, GateSettings())
    write_json(verdict, folder / "verdict.json")
    return recommender, verdict


def assert_serves(folder):
    """Every question is answered by the schema, without what was asked for and without doubles."""
    selection = build_selection(read_bundle(folder / "bundle"))
    n_items = selection.recommender.n_items
    ids = selection.recommender.bundle.product_ids
    carts = [ids[:1], ids[n_items - 1 : n_items], ids[-1:], ids[:2], ids[-3:], ids[:50], ["?"]]
    rendering = ResponseRenderer("1", "default")
    for items in carts:
        for wishes in WISHES:
            request = RecommendRequest.model_validate({"items": items, **wishes})
            body = rendering.response(selection.recommend(request), "r", None)
            check(RecommendResponse.model_validate_json(body), {*items, *request.exclude})
        request = SimilarRequest(item=items[0], k=100)
        body = rendering.response(selection.similar(request), "r", None)
        check(RecommendResponse.model_validate_json(body), {items[0]})
    looks = {"name": "thing", "category": "things", "price": 3.0}
    request = RecommendRequest(attributes=looks)
    body = rendering.response(selection.recommend(request), "r", None)
    assert RecommendResponse.model_validate_json(body).items
    # What a real service is asked before it is let through.
    assert len(sample_queries(selection, 20, seed=1)) == 20


def check(answer, never):
    found = [item.product_id for item in answer.items]
    assert len(found) == len(set(found))
    assert not never & set(found)
    assert all(item.score is None or math.isfinite(item.score) for item in answer.items)


ODD = {
    "all sold once": [chr(97 + 3 * i) + chr(98 + 3 * i) + chr(99 + 3 * i) for i in range(30)],
    "one in every basket": [f"z{'abcdefgh'[i % 8]}" for i in range(120)],
    "the same basket always": ["abc"] * 60,
    "two identical": [["abx", "aby", "abz"][i % 3] for i in range(120)],
    "a catalogue of three": [["ab", "bc", "ac", "abc"][i % 4] for i in range(120)],
    "a catalogue of two": ["ab"] * 60,
    "never the same twice": [
        f"{chr(97 + i % 24)}{chr(97 + (i + 1 + i // 24) % 24)}" for i in range(240)
    ],
    "single products and one pair": [*["ab"], *["abcdefgh"[i % 8] for i in range(119)]],
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", ODD)
def test_odd_baskets_give_a_model_that_serves(tmp_path, name):
    model_of(tmp_path, baskets_of(ODD[name]), CARDS)
    assert_serves(tmp_path)


def test_what_nobody_can_learn_from_is_refused_at_the_gate(tmp_path):
    _, verdict = model_of(tmp_path, baskets_of(ODD["all sold once"]))
    failed = {rule["name"]: rule["why"] for rule in verdict["rules"] if not rule["passed"]}
    assert "beats_popularity" in failed
    assert "bring more orders" in failed["beats_popularity"].lower()
    with pytest.raises(ValueError, match="nothing is registered"):
        check_verdict(verdict)


@pytest.mark.parametrize("learned", [("train",), ("train", "validation"), ("train", "test")])
def test_splits_without_baskets_are_done_without(tmp_path, learned):
    baskets = [
        {**row, "split": learned[i % len(learned)]}
        for i, row in enumerate(baskets_of([PAIRS[i // 2 % 4] for i in range(80)]))
    ]
    recommender, verdict = model_of(tmp_path, baskets, CARDS)
    assert_serves(tmp_path)
    ids = recommender.bundle.product_ids
    for one, other in PAIRS:
        assert ids[recommender.recommend([one], 1).rows[0]] == other
    assert verdict["passed"] == ("test" in learned)


OLD = BasketWeighting(window_days=2.0, half_life_days=0.01, size_exponent=0.0, join_hours=3.0)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_products_of_old_orders_only_may_weigh_nothing(tmp_path, weight):
    """a and b were bought for a day, and then c and d: by weight and by weighting they are gone."""
    baskets = baskets_of(["ab", *(23 * ["ab", "abx"])])
    baskets = [{**row, "weight": weight, "split": "train"} for row in baskets]
    later = baskets_of(["cd", "ef", "cdx", "gh"] * 40)
    for row in later:
        row |= {"order_id": f"late {row['order_id']}", "ts": row["ts"] + timedelta(days=30)}
    model_of(tmp_path, baskets + later, CARDS, OLD if weight else None)
    assert_serves(tmp_path)


# Refusals, each by the first step that looks


@pytest.mark.parametrize(
    ("lists", "weight", "min_orders", "said"),
    [
        ([PAIRS[i % 4] for i in range(80)], 0.0, 1, "item2vec: none of the training baskets"),
        (["abcdefgh"[i % 8] for i in range(80)], 1.0, 1, "holds two products of the catalogue"),
        (ODD["all sold once"], 1.0, 5, "no product has min_product_orders=5"),
        (["ab"] * 4 + ["cde"], 1.0, 5, "the most bought has 4"),
    ],
)
def test_baskets_that_say_nothing_are_refused(tmp_path, lists, weight, min_orders, said):
    settings = SweepSettings(min_product_orders=min_orders)
    with pytest.raises(ValueError, match=said):
        built(tmp_path, baskets_of(lists, weight), CARDS, min_orders)
    with pytest.raises(ValueError, match=said):
        run_shard(plan_shards(1, 1, 1)[0], tmp_path / "baskets", settings)


def test_no_weighting_is_chosen_for_baskets_that_weigh_nothing(tmp_path):
    with pytest.raises(ValueError, match="item2vec"):
        built(tmp_path, baskets_of([PAIRS[i % 4] for i in range(80)], weight=0.0))
    chosen, _ = choose_weighting(tmp_path / "baskets", 1, seed=1)
    assert chosen == type(chosen)()


# What is written on products


def cards_with(**odd):
    return [{**card, **odd} for card in CARDS]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_numbers_that_are_none_are_not_known(tmp_path, number):
    cards = [
        {**card, "price": number, "margin": number, "attributes": json.dumps({"size": "NaN"})}
        for card in CARDS[:5]
    ]
    model_of(tmp_path, baskets_of([PAIRS[i % 4] for i in range(80)]), [*cards, *CARDS[5:]])
    assert_serves(tmp_path)


TEXTS = {"name": " ", "category": "", "brand": "\x00", "attributes": "{}"}
CARD_TABLES = {
    "none at all": [],
    "products that are not sold": [{"product_id": f"x{i}", "name": "Ax"} for i in range(5)],
    "some of the products": CARDS[:3],
    "texts that say nothing": cards_with(**TEXTS),
    "everything unknown": [{"product_id": card["product_id"]} for card in CARDS],
    "all the same": cards_with(name="Thing", brand="Thing"),
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", CARD_TABLES)
def test_odd_product_tables_give_a_model_that_serves(tmp_path, name):
    model_of(tmp_path, baskets_of([PAIRS[i % 4] for i in range(80)]), CARD_TABLES[name])
    assert_serves(tmp_path)
