"""Judging: tasks, metrics, baselines, the evaluation as a whole, the gate."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.baskets.corpus import Corpus
from components.contracts import BASKETS, PRODUCTS, write_table
from components.embeddings.cooccurrence import count_pairs
from components.evaluation.baselines import (
    BasketCounts,
    Cooccurrence,
    Cosine,
    CountsMinusChance,
    Popularity,
)
from components.evaluation.evaluate import evaluate
from components.evaluation.gate import GateFailed, GateSettings, check_verdict, judge
from components.evaluation.metrics import coverage, intervals, popularity_percentile, score
from components.evaluation.tasks import draw_queries
from components.model.bundle import assemble_bundle, write_bundle
from components.model.manifest import IndexStats, Manifest, SubstituteSearch
from components.model.top_k import rank_columns


def corpus(*baskets: list[int]) -> Corpus:
    offsets = np.concatenate([[0], np.cumsum([len(basket) for basket in baskets])]).astype(np.int64)
    items = np.array([item for basket in baskets for item in basket], np.int32)
    return Corpus(items, offsets, np.ones(len(baskets), np.float32))


# Tasks


def test_a_product_page_asks_for_the_rest_of_the_basket() -> None:
    queries = draw_queries(corpus([4, 2, 7], [1, 5]), "item", 10, seed=3)
    asked_and_relevant = {
        frozenset([*queries.asked[i].tolist(), *queries.relevant[i].tolist()]) for i in range(2)
    }
    assert asked_and_relevant == {frozenset([4, 2, 7]), frozenset([1, 5])}
    assert [len(asked) for asked in queries.asked] == [1, 1]


def test_a_cart_asks_for_the_one_product_that_was_taken_out() -> None:
    queries = draw_queries(corpus([4, 2, 7], [1, 5], [3]), "cart", 10, seed=3)
    assert len(queries) == 1  # two products make a product page, not a cart
    assert queries.relevant.sizes.tolist() == [1]
    assert {*queries.asked[0].tolist(), *queries.relevant[0].tolist()} == {4, 2, 7}


def test_every_position_is_asked_and_the_seed_decides() -> None:
    baskets = corpus(*[[0, 1, 2]] * 300)
    asked = [int(query[0]) for query in draw_queries(baskets, "item", 300, seed=1).asked]
    assert set(asked) == {0, 1, 2}
    assert asked == [int(query[0]) for query in draw_queries(baskets, "item", 300, seed=1).asked]
    assert asked != [int(query[0]) for query in draw_queries(baskets, "item", 300, seed=2).asked]
    assert len(draw_queries(baskets, "item", 7, seed=1)) == 7


@pytest.mark.parametrize("baskets", [corpus(), corpus([3]), corpus([], [1])])
def test_without_baskets_of_two_there_are_no_queries(baskets: Corpus) -> None:
    assert len(draw_queries(baskets, "item", 10, seed=0)) == 0


# Metrics


def test_metrics_of_known_rankings() -> None:
    found = np.array([[1, 2, 3], [1, 2, 3], [9, 8, 1], [5, -1, -1], [7, 8, 9]])
    relevant = corpus([1, 2, 3, 4], [3], [1, 8], [5], [0])
    scores = score(found, relevant, n_items=10)
    second_and_third = (1 / np.log2(3) + 1 / 2) / (1 + 1 / np.log2(3))
    assert scores["ndcg"] == pytest.approx([1, 1 / 2, second_and_third, 1, 0])
    assert scores["hr"].tolist() == [1, 1, 1, 1, 0]
    assert scores["recall"].tolist() == [3 / 4, 1, 1, 1, 0]
    assert scores["mrr"] == pytest.approx([1, 1 / 3, 1 / 2, 1, 0])


def test_a_miss_hits_nothing_of_the_query_before() -> None:
    # Row -1 of query 1 must not be read as the last product of query 0.
    scores = score(np.array([[0, 1], [-1, 2]]), corpus([9], [5]), n_items=10)
    assert scores["hr"].tolist() == [0, 0]


def test_coverage_and_popularity_of_what_is_recommended() -> None:
    found = np.array([[0, 1], [0, -1]])
    assert coverage(found, 4) == 0.5
    assert popularity_percentile(np.array([[0]]), 5) == 100
    assert popularity_percentile(np.array([[4]]), 5) == 0
    assert popularity_percentile(np.array([[0]]), 1) == 100
    assert math.isnan(popularity_percentile(np.array([[-1]]), 5))


def test_a_constant_difference_has_no_spread() -> None:
    noise = np.random.default_rng(0).random(200)
    values = {"model": noise + 0.1, "difference": (noise + 0.1) - noise}
    found = intervals(values, np.arange(200), seed=1)
    assert found["difference"] == pytest.approx({"mean": 0.1, "low": 0.1, "high": 0.1})
    assert found["model"]["low"] < found["model"]["mean"] < found["model"]["high"]


def test_intervals_have_the_width_that_theory_says() -> None:
    values = np.random.default_rng(0).normal(size=2_000)
    found = intervals({"x": values}, np.arange(2_000), seed=1)["x"]
    standard_error = values.std() / np.sqrt(2_000)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
    assert found == intervals({"x": values}, np.arange(2_000), seed=1)["x"]


def test_queries_of_one_basket_count_as_one_observation() -> None:
    values = np.random.default_rng(0).normal(size=100)
    once = intervals({"x": values}, np.arange(100), seed=1)["x"]
    ten_times = intervals({"x": np.repeat(values, 10)}, np.repeat(np.arange(100), 10), seed=1)["x"]
    assert ten_times == pytest.approx(once)


# Baselines


CLIQUES = [[0, 1], [2, 3], [4, 5]]


def test_partners_rank_first() -> None:
    together = BasketCounts(corpus(*CLIQUES * 3), 6)
    queries = [np.array([row], np.int32) for row in range(6)]
    beyond = CountsMinusChance(corpus(*CLIQUES * 3), 6)
    for ranker in (Cooccurrence(together), Cosine(together), beyond):
        found, _ = ranker.rank(queries, 2)
        assert found[:, 0].tolist() == [1, 0, 3, 2, 5, 4]
        assert all(row not in found[row] for row in range(6))


def test_carts_sum_over_their_products() -> None:
    together = BasketCounts(corpus([0, 3], [1, 3], [0, 2], [1, 4]), 5)
    found, scores = Cooccurrence(together).rank([np.array([0, 1], np.int32)], 5)
    assert found.tolist() == [[3, 2, 4, -1, -1]]
    assert scores[0, :3].tolist() == [1, 0.5, 0.5]


BESTSELLER_IN_MOST = [
    [0, 1, 7, 8], [0, 1, 9, 10], [1, 2, 5, 6], [0, 3, 5, 7], [0, 4, 6, 8],
    [0, 5, 6, 9], [0, 3, 4, 9],
]  # fmt: skip
"""Product 0 is in six of seven baskets, also in two of the three of product 1; 2 only with 1."""


def test_counts_minus_chance_leave_the_bestseller_behind() -> None:
    baskets = corpus(*BESTSELLER_IN_MOST * 5)
    query = [np.array([1], np.int32)]
    assert Cooccurrence(BasketCounts(baskets, 11)).rank(query, 1)[0].tolist() == [[0]]
    assert CountsMinusChance(baskets, 11).rank(query, 1)[0].tolist() == [[2]]


def test_counts_minus_chance_are_those_of_the_formula() -> None:
    baskets = corpus([0, 1], [0, 1, 2], [1, 2], [2])
    _, scores = CountsMinusChance(baskets, 3).rank([np.array([0], np.int32)], 2)
    weight = 2**-0.75  # of the basket of three; the basket of one has no pairs
    n_orders, n_others = 1 + weight, 1 + 2 * weight
    beyond = [1 + weight - 3 / 7 * n_others, weight - 2 / 7 * n_others]
    assert scores[0] == pytest.approx([one / (n_orders + 5) for one in beyond], rel=1e-5)


def test_popularity_skips_what_was_asked() -> None:
    ranker = Popularity(np.array([9, 7, 5, 3]))
    found, _ = ranker.rank([np.array([1], np.int32), np.array([0, 2], np.int32)], 3)
    assert found.tolist() == [[0, 2, 3], [1, 3, -1]]


def test_no_queries_make_no_answers() -> None:
    together = BasketCounts(corpus([0, 1]), 2)
    beyond = CountsMinusChance(corpus([0, 1]), 2)
    for ranker in (Popularity(np.array([1, 1])), Cooccurrence(together), Cosine(together), beyond):
        assert ranker.rank([], 10)[0].shape == (0, 10)


def test_the_best_are_those_of_a_full_sort() -> None:
    rng = np.random.default_rng(0)
    for width in (1, 3, 10, 511, 513, 1500):
        scores = rng.normal(size=(5, width)).astype(np.float32)
        scores[1] = 0
        scores[2] = -np.inf
        scores[3] *= scores[3] > 2
        scores[4] = np.round(scores[4])
        found, best = rank_columns(scores, 10)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        expected = np.where(np.take_along_axis(scores, order, 1) > -np.inf, order, -1)
        assert (found[:, : expected.shape[1]] == expected).all()
        assert (best[0, : min(width, 10)] == np.sort(scores[0])[::-1][:10]).all()


# The evaluation as a whole


def write_baskets(path: Path, train: list[list[str]], test: list[list[str]]) -> Path:
    items = [*train, *test]
    table = pa.table(
        {
            "order_id": [str(i) for i in range(len(items))],
            "user_id": pa.nulls(len(items), pa.string()),
            "ts": pa.nulls(len(items), pa.timestamp("us", tz="UTC")),
            "items": pa.array(items, pa.list_(pa.string())),
            "positions": pa.nulls(len(items), pa.list_(pa.int32())),
            "weight": np.ones(len(items), np.float32),
            "split": ["train"] * len(train) + ["test"] * len(test),
        }
    )
    write_table(table, BASKETS, path)
    return path


def make_bundle(path: Path, product_ids: list[str], in_vectors: Any, out_vectors: Any) -> Path:
    n_items = len(product_ids)
    names = [None, *(f"the {id_}" for id_ in product_ids[1:])]
    columns = [product_ids, names, *(pa.nulls(n_items, field.type) for field in list(PRODUCTS)[2:])]
    pairs = count_pairs(corpus(*CLIQUES * 3), n_items)
    dims = np.shape(in_vectors)[1]
    counts = {"n_items": n_items, "n_products": n_items, "n_orders": 9, "dims": dims}
    bundle = assemble_bundle(
        Manifest(created_at="2026-01-01T00:00:00Z", beta_single=0.1, beta_cart=0.1, **counts),
        pa.table(columns, names=PRODUCTS.names),
        np.asarray(in_vectors, np.float32),
        np.asarray(out_vectors, np.float32),
        np.full(n_items, 3),
        pairs,
    )
    write_bundle(bundle, path)
    return path


IDS = ["a", "A", "b", "B", "c", "C"]
PARTNERS = np.eye(6)[[1, 0, 3, 2, 5, 4]] * 9
TRAIN = [["a", "A"], ["b", "B"], ["c", "C"]] * 3


def test_a_model_of_the_pairs_is_perfect_and_beats_popularity(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", IDS, PARTNERS, np.eye(6))
    baskets = write_baskets(tmp_path / "baskets.parquet", TRAIN, TRAIN * 5)
    found = evaluate(bundle, baskets)
    model, popularity = found["tasks"]["item"]["model"], found["tasks"]["item"]["popularity"]
    assert model["ndcg"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert model["coverage"] == 1
    assert popularity["ndcg"]["mean"] < 1
    assert found["paired"]["item"]["popularity"]["low"] > 0
    assert found["paired"]["item"]["cooccurrence"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert found["n_queries"] == {"item": 45, "cart": 0}
    assert found["catalogue"] == 6
    assert found["tasks"]["cart"]["model"]["ndcg"]["mean"] is None
    assert "champion" not in found["tasks"]["item"]
    json.dumps(found, allow_nan=False)


def test_examples_name_products_and_evidence(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", IDS, PARTNERS, np.eye(6))
    baskets = write_baskets(tmp_path / "baskets.parquet", TRAIN, TRAIN)
    example = evaluate(bundle, baskets)["examples"][0]
    assert (example["product_id"], example["label"], example["n_orders"]) == ("a", "a", 3)
    first, second = example["recommendations"][:2]
    assert (first["product_id"], first["label"]) == ("A", "the A")
    assert first["support"] == 3
    assert first["lift"] == pytest.approx(3)  # together in all of 3 baskets of 9; by chance in 1
    assert second["support"] is None


def test_a_better_champion_is_seen_to_be_better(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", IDS, -PARTNERS, np.eye(6))
    make_bundle(tmp_path / "champion" / "bundle", IDS[::-1], PARTNERS, np.eye(6))
    baskets = write_baskets(tmp_path / "baskets.parquet", TRAIN, TRAIN * 5)
    found = evaluate(bundle, baskets, tmp_path / "champion")
    assert found["tasks"]["item"]["champion"]["ndcg"]["mean"] == 1
    assert found["paired"]["item"]["champion"]["high"] < 0
    rules = {rule["name"]: rule for rule in judge(found, SERVING, GateSettings())["rules"]}
    assert not rules["not_worse_than_champion"]["passed"]
    assert "the new model lost to the champion" in rules["not_worse_than_champion"]["why"]


def test_a_champion_of_other_products_answers_with_its_bestsellers(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", IDS, PARTNERS, np.eye(6))
    other = ["a", "A", "x", "X", "y", "Y"]
    make_bundle(tmp_path / "champion" / "bundle", other, PARTNERS, np.eye(6))
    baskets = write_baskets(tmp_path / "baskets.parquet", TRAIN, [["a", "A"]] * 9 + [["b", "B"]])
    champion = evaluate(bundle, baskets, tmp_path / "champion")["tasks"]["item"]["champion"]
    assert champion["hr"]["mean"] == pytest.approx(0.9)  # it has never heard of b and B
    assert champion["coverage"] == pytest.approx(2 / 6)


def test_a_champion_folder_without_bundle_is_no_champion(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", IDS, PARTNERS, np.eye(6))
    baskets = write_baskets(tmp_path / "baskets.parquet", TRAIN, TRAIN)
    (tmp_path / "champion").mkdir()
    assert "champion" not in evaluate(bundle, baskets, tmp_path / "champion")["paired"]["item"]


def test_no_test_orders_fail_the_gate_in_words(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", IDS, PARTNERS, np.eye(6))
    baskets = write_baskets(tmp_path / "baskets.parquet", TRAIN, [])
    found = evaluate(bundle, baskets)
    json.dumps(found, allow_nan=False)
    verdict = judge(found, SERVING, GateSettings())
    assert not verdict["passed"]
    assert "could not be measured on 0 test baskets" in verdict["rules"][0]["why"]


# The gate


SERVING = {
    "started": True, "asked": 200, "correct": 200, "p50_ms": 1.0, "p99_ms": 3.0, "errors": [],
}  # fmt: skip


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.001, "high": mean + 0.001}


def ranker(ndcg: float) -> dict[str, Any]:
    return {
        "ndcg": interval(ndcg), "excess": interval(ndcg - 0.02), "coverage": 0.2,
        "popularity_percentile": 60.0,
    }  # fmt: skip


GOOD: dict[str, Any] = {
    "k": 10,
    "n_queries": {"item": 1000, "cart": 1000},
    "catalogue": 5000,
    "popularity_discount": {"model": 0.75, "champion": 0.75},
    "tasks": {
        task: {
            "model": ranker(0.1),
            "popularity": ranker(0.07),
            "counts_minus_chance": ranker(0.09),
            "champion": ranker(0.1),
        }
        for task in ("item", "cart")
    },
    **{
        measure: {
            task: {
                "popularity": interval(0.03),
                "counts_minus_chance": interval(0.01),
                "champion": interval(0.0),
            }
            for task in ("item", "cart")
        }
        for measure in ("paired", "paired_excess")
    },
    "ann_recall": 0.99,
}


def verdict_with(change: dict[str, Any], serving: dict[str, Any] = SERVING) -> dict[str, Any]:
    """The verdict on GOOD after `change` of {"dotted.path": value}."""
    evaluation = copy.deepcopy(GOOD)
    for path, value in change.items():
        *parents, last = path.split(".")
        found = evaluation
        for key in parents:
            found = found[key]
        found[last] = value
    return judge(evaluation, serving, GateSettings())


def failed(verdict: dict[str, Any]) -> list[str]:
    return [rule["name"] for rule in verdict["rules"] if not rule["passed"]]


def test_a_good_model_passes() -> None:
    verdict = verdict_with({})
    assert verdict["passed"]
    assert not failed(verdict)
    check_verdict(verdict)


@pytest.mark.parametrize("broken", [None, math.nan, -1.0])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("paired.item.popularity.low", "beats_popularity"),
        ("paired.item.champion.low", "not_worse_than_champion"),
        ("paired.cart.champion.low", "not_worse_than_champion"),
        ("paired_excess.item.champion.low", "not_worse_than_champion"),
        ("paired_excess.cart.champion.low", "not_worse_than_champion"),
        ("paired_excess.item.counts_minus_chance.mean", "beats_counts_minus_chance"),
        ("tasks.item.model.coverage", "coverage_floor"),
    ],
)
def test_each_rule_fails_alone(path: str, name: str, broken: float | None) -> None:
    verdict = verdict_with({path: broken})
    assert failed(verdict) == [name]
    with pytest.raises(GateFailed, match=f"1 of 6 rules failed.*\n- {name}: "):
        check_verdict(verdict)
    json.dumps(verdict, allow_nan=False)


@pytest.mark.parametrize("recall", [0.949, math.nan, 0.0])
def test_a_lossy_index_fails(recall: float) -> None:
    assert failed(verdict_with({"ann_recall": recall})) == ["ann_recall"]


def test_the_gate_judges_the_worse_of_both_searches() -> None:
    good, bad = (
        IndexStats(m=16, ef_construction=200, ef=50, recall_at_10=recall) for recall in (0.99, 0.9)
    )
    facts = {"created_at": "", "n_items": 9, "n_products": 9, "n_orders": 9, "dims": 2}
    substitutes = SubstituteSearch(index=bad, exact_ms=2, index_ms=1, by_index=True)
    unused = substitutes.model_copy(update={"by_index": False})
    recalls = [
        Manifest(**facts, index=index, substitutes=one).search_recall
        for index in (None, good)
        for one in (None, substitutes, unused)
    ]
    assert recalls == [None, 0.9, None, 0.99, 0.9, 0.99]


def test_exact_search_needs_no_recall() -> None:
    rule = verdict_with({"ann_recall": None})["rules"][4]
    assert rule["passed"]
    assert "exact" in rule["why"]


@pytest.mark.parametrize(
    "change",
    [
        {"started": False, "asked": 0, "correct": 0, "errors": ["address in use"]},
        {"correct": 199, "errors": ["place 3 is tea, expected milk"]},
        {"correct": math.nan},
        {"asked": 0, "correct": 0},
    ],
)
def test_a_service_that_answers_wrongly_fails(change: dict[str, Any]) -> None:
    verdict = verdict_with({}, {**SERVING, **change})
    assert failed(verdict) == ["serving"]
    if change.get("errors"):
        assert change["errors"][0] in verdict["rules"][5]["why"]


def test_no_champion_passes_with_a_word() -> None:
    evaluation = copy.deepcopy(GOOD)
    for task in ("item", "cart"):
        del evaluation["tasks"][task]["champion"], evaluation["paired"][task]["champion"]
        del evaluation["paired_excess"][task]["champion"]
    verdict = judge(evaluation, SERVING, GateSettings())
    assert verdict["passed"]
    assert "no champion" in verdict["rules"][2]["why"]


def test_another_discount_moves_ndcg_but_not_its_excess() -> None:
    worse = {"paired.item.champion.low": -0.05, "popularity_discount.champion": 0.0}
    verdict = verdict_with(worse)
    assert verdict["passed"]
    assert "NDCG is not compared" in verdict["rules"][2]["why"]
    worse["paired_excess.cart.champion.low"] = -0.05
    assert failed(verdict_with(worse)) == ["not_worse_than_champion"]


def test_a_small_loss_to_the_champion_is_within_the_margin() -> None:
    within, beyond = -0.02 * 0.1 + 1e-6, -0.02 * 0.1 - 1e-6
    assert verdict_with({"paired.cart.champion.low": within})["passed"]
    rule = verdict_with({"paired.cart.champion.low": beyond})["rules"][2]
    assert not rule["passed"]
    assert rule["by"] == pytest.approx(-1e-6)
    assert "in carts" in rule["why"]


def test_few_queries_lower_the_coverage_that_can_be_expected() -> None:
    # Ten queries hand out 100 places: no model can cover 5 % of 5,000 products with them.
    few = {"n_queries.item": 10, "tasks.item.model.coverage": 0.002}
    assert verdict_with(few)["passed"]
