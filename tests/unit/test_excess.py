"""Excess NDCG, and what a shopper sees of an answer."""

from collections.abc import Sequence

import numpy as np
import pytest

from components.baskets.corpus import Corpus
from components.evaluation.baselines import Ranker
from components.evaluation.evaluate import evaluate_task
from components.evaluation.excess import compute_chance, compute_excess_ndcg, compute_shares
from components.evaluation.measures import MEASURES, CatalogueFacts, measure
from components.evaluation.metrics import score
from components.evaluation.tasks import draw_queries
from components.evaluation.visible_quality import VISIBLE_MEASURES, measure_visible
from components.model.arrays import Float32Array, Int32Array, Int64Array
from tests.factories import corpus_of


class Fixed:
    """Ranks the same products for every query."""

    def __init__(self, *rows: int) -> None:
        self._rows = rows

    def rank(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        found = np.full((len(queries), k), -1, np.int64)
        found[:, : len(self._rows)] = self._rows
        return found, np.zeros(found.shape, np.float32)


def draw_independent(n_baskets: int, shares: list[float], size: int) -> Corpus:
    """Baskets whose lines have nothing to do with each other; the last product is drawn most."""
    rng = np.random.default_rng(0)
    lines = [rng.choice(len(shares), size, p=shares) for _ in range(n_baskets)]
    return corpus_of(*[sorted(set(line.tolist())) for line in lines])


def test_shares_are_those_of_all_lines() -> None:
    assert compute_shares(corpus_of([0, 1], [0], [0, 2]), 4) == pytest.approx([0.6, 0.2, 0.2, 0])
    assert compute_shares(corpus_of(), 2).tolist() == [0, 0]


def test_chance_grows_with_the_basket_and_ends_at_one() -> None:
    n_relevant = np.array([0, 1, 2, 1_000_000])
    assert compute_chance(np.array(0.5), n_relevant) == pytest.approx([0, 0.5, 0.75, 1])
    assert compute_chance(np.array(1.0), n_relevant).tolist() == [0, 1, 1, 1]
    assert compute_chance(np.array(0.0), n_relevant).tolist() == [0, 0, 0, 0]


def test_a_place_is_reduced_whether_it_hits_or_not() -> None:
    shares = np.array([0.5, 0.25, 0.25, 0.0])
    found = np.array([[0, 3], [0, 3], [-1, 3]])
    excess = compute_excess_ndcg(found, corpus_of([0, 3], [1], [3]), shares)
    second, ideal_of_two = 1 / np.log2(3), 1 + 1 / np.log2(3)
    expected = [(1 - 0.75 + second) / ideal_of_two, -0.5, second]
    assert excess == pytest.approx(expected)


def test_without_chance_excess_is_ndcg() -> None:
    found = np.array([[2, 1, 0], [0, 1, 2]])
    relevant = corpus_of([0, 1], [2])
    excess = compute_excess_ndcg(found, relevant, np.zeros(3))
    assert excess == pytest.approx(score(found, relevant, 3)["ndcg"])


def test_bestsellers_of_independent_lines_gain_nothing() -> None:
    """Lines drawn alike: a basket of one more line holds every product by chance alone."""
    shares = [0.02] * 45 + [0.1]
    baskets = draw_independent(20_000, shares, 2)
    queries = draw_queries(baskets, "item", 20_000, seed=0)
    found, _ = Fixed(45, 0, 1).rank(queries.asked, 10)
    scores = measure(found, queries, CatalogueFacts(compute_shares(baskets, 46)))
    assert scores["ndcg"].mean() > 0.1
    assert abs(scores["excess"].mean()) < 0.01


def test_a_product_of_all_baskets_is_worth_nothing() -> None:
    baskets = corpus_of(*[[0]] * 9)
    excess = compute_excess_ndcg(np.zeros((9, 1), np.int64), baskets, compute_shares(baskets, 1))
    assert excess.tolist() == [0] * 9


def test_visible_quality_of_known_answers() -> None:
    kinds = np.array([0, 0, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5])
    found = np.array([[1, 2, 10, 11, 3, 4], [10, 11, -1, -1, -1, -1], [-1] * 6])
    asked = [np.array([0], np.int32), np.array([10], np.int32), np.array([0], np.int32)]
    measured = measure_visible(found, asked, kinds)
    assert measured["bestsellers_at_5"] == pytest.approx([3 / 5, 0, 0])
    assert measured["own_kind_at_5"] == pytest.approx([1 / 5, 1, 0])
    assert measured["kinds_at_5"].tolist() == [4, 1, 0]


def test_a_cart_has_the_kinds_of_all_its_products() -> None:
    cart = [np.array([0, 2], np.int32)]
    measured = measure_visible(np.array([[1, 3]]), cart, np.array([7, 7, 8, 9]))
    assert measured["own_kind_at_5"].tolist() == [0.5]


def test_kinds_may_be_unknown() -> None:
    measured = measure_visible(np.array([[1]]), [np.array([0], np.int32)], kinds=None)
    assert measured["bestsellers_at_5"].tolist() == [1]
    assert np.isnan(measured["own_kind_at_5"]).all()


def test_no_queries_have_all_measures() -> None:
    queries = draw_queries(corpus_of(), "item", 10, seed=0)
    found = np.zeros((0, 10), np.int64)
    facts = CatalogueFacts(np.ones(2) / 2, np.array([0, 1]))
    assert {
        name: len(one) for name, one in measure(found, queries, facts).items()
    } == dict.fromkeys(MEASURES, 0)


def test_differences_in_excess_are_paired() -> None:
    baskets = corpus_of(*[[0, 1], [0, 2], [0, 3]] * 30)
    queries = draw_queries(baskets, "item", 90, seed=0)
    rankers: dict[str, Ranker] = {
        "model": Fixed(1, 2, 3),
        "popularity": Fixed(0),
        "same": Fixed(1, 2, 3),
    }
    facts = CatalogueFacts(compute_shares(baskets, 4), np.array([0, 1, 1, 2]))
    metrics, paired = evaluate_task("item", rankers, queries, facts, seed=0)
    assert paired["paired_excess"]["same"] == {"mean": 0, "low": 0, "high": 0}
    gain = metrics["model"]["excess"]["mean"] - metrics["popularity"]["excess"]["mean"]
    assert paired["paired_excess"]["popularity"]["mean"] == pytest.approx(gain)
    assert metrics["model"]["kinds_at_5"]["mean"] == 2
    assert metrics["model"].keys() >= set(VISIBLE_MEASURES)
