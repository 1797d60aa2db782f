"""Pairs that are bought together more than by chance come first, and each says what it is."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import poisson

from bento.answering.catalogue import Catalogue
from bento.answering.rendering import ResponseRenderer
from bento.answering.rules import RuleSet
from bento.answering.selection import Selection
from bento.schemas.catalogue import ChangedProduct
from bento.schemas.requests import RecommendRequest, SimilarRequest
from bento.schemas.responses import RecommendResponse
from components.baskets.weighting import BasketWeighting
from components.embeddings.cooccurrence import count_pairs
from components.model.bundle import Pairs, read_bundle, write_bundle
from components.model.chance import Chance
from components.model.evidence import (
    LIKELY,
    LIKELY_LEVEL,
    REAL,
    REAL_LEVEL,
    UNPROVEN,
    find_grades,
    put_likely_first,
)
from components.model.recommender import Recommender
from components.ranking.chance import build_chance, grade_pairs
from components.ranking.precompute import precompute_items
from tests.factories import corpus_of, make_bundle
from tests.unit.test_rules import rule

TEA, MILK, COFFEE, SUGAR, BREAD, BUTTER, PASTA, PESTO = range(8)
N_TEA = 40
TOGETHER = {MILK: 20, COFFEE: 2, SUGAR: 6, BREAD: 4, PESTO: 8, BUTTER: 1}
"""Orders with tea and another."""
EXPECTED = {MILK: 2.0, COFFEE: 2.5, SUGAR: 5.0, BREAD: 5.0, PESTO: 1.0, BUTTER: 0.01}
"""By chance: milk and pesto are real, sugar is likely, the others are not."""


def chance_of(expected, n_items=8):
    """All orders with tea have two lines."""
    shares = np.zeros(n_items, np.float32)
    shares[list(expected)] = np.array(list(expected.values())) / N_TEA
    one = np.ones(1, np.float32)
    baskets = np.full((n_items, 1), N_TEA, np.float32)
    return Chance(shares, one, baskets, np.zeros(len(TOGETHER), np.float32))


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """By vectors: milk, coffee, sugar, bread, butter, pasta, pesto."""
    bundle = read_bundle(make_bundle(tmp_path_factory.mktemp("counted") / "bundle"))
    offsets = np.array([0, *[len(TOGETHER)] * 8], np.int64)
    support = np.array(list(TOGETHER.values()), np.int32)
    rows = np.array(list(TOGETHER), np.int32)
    pairs = Pairs(offsets, rows, support, np.zeros(len(rows), np.float32))
    n_orders = np.full(8, N_TEA, np.int64)
    chance = chance_of(EXPECTED)
    chance = replace(chance, grades=grade_pairs(chance, pairs))
    features = replace(bundle.item_features, recent=np.zeros(len(rows), np.float32))
    return replace(bundle, pairs=pairs, chance=chance, item_features=features, n_orders=n_orders)


@pytest.fixture(scope="module")
def paged(counted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("paged") / "bundle"
    write_bundle(replace(counted, precomputed=precompute_items(Recommender(counted), None)), folder)
    return read_bundle(folder)


def select(bundle, *rules):
    selection = Selection(Recommender(bundle), Catalogue(bundle.records, bundle.facets))
    selection.rules = RuleSet(rules)
    return selection


def ask(selection, **question):
    question = {"items": ["tea"], "k": 7, **question}
    answer = selection.recommend(RecommendRequest.model_validate(question))
    body = ResponseRenderer("3", "default").response(answer, "r", None)
    return RecommendResponse.model_validate_json(body)


def sources_of(answer):
    return {item.product_id: item.source for item in answer.items}


# Grades


@pytest.mark.parametrize(("level", "grade"), [(REAL_LEVEL, REAL), (LIKELY_LEVEL, LIKELY)])
@pytest.mark.parametrize("times", [0.2, 0.5, 0.7, 0.9, 1.1])
def test_a_grade_is_an_exact_test_of_the_baskets_with_both(level, grade, times):
    """Of the pairs of product 0 alone, bought with others 2 to 59 times."""
    support = np.arange(2, 60, dtype=np.int32)
    offsets = np.array([0, *[58] * 59], np.int64)
    pairs = Pairs(offsets, np.arange(1, 59, dtype=np.int32), support, np.zeros(58, np.float32))
    chance = chance_of(dict(enumerate(support * times / 2, 1)), 59)
    chance = replace(chance, baskets=2 * chance.baskets)
    expected = chance.count_expected(np.zeros(58, int), pairs.rows)
    passes = poisson.sf(support - 1, expected) <= level
    np.testing.assert_array_equal(grade_pairs(chance, pairs) >= grade, passes)


def test_of_pairs_of_chance_no_more_pass_than_the_level_says():
    """Baskets of 5 out of 300 products, and 0 always with 1."""
    rng, n = np.random.default_rng(0), 300
    baskets = [rng.choice(np.arange(2, n), 5, replace=False).tolist() for _ in range(3000)]
    baskets = [[0, 1, *basket[2:]] if i % 100 == 0 else basket for i, basket in enumerate(baskets)]
    pairs = count_pairs(corpus_of(*baskets), n)
    chance = build_chance(corpus_of(*baskets), pairs, BasketWeighting())
    own = pairs.entries(0)
    assert chance.grades[own][pairs.rows[own] == 1].tolist() == [REAL]
    assert 0.01 < (chance.grades == REAL).sum() / n**2 <= REAL_LEVEL


def test_grades_are_the_highest_with_any_product_of_the_query(counted):
    rows = np.array([MILK, SUGAR, COFFEE, BUTTER, PASTA, -1])
    likely = [REAL, LIKELY, UNPROVEN, UNPROVEN, UNPROVEN, UNPROVEN]
    for query, expected in (([TEA], likely), ([PASTA, TEA], likely), ([PASTA], [UNPROVEN] * 6)):
        assert find_grades(counted, np.array(query, np.int32), rows).tolist() == expected


def test_likely_products_come_first_and_scores_fall(counted):
    rows = np.array([[COFFEE, SUGAR, BREAD, MILK, -1]])
    scores = np.array([[5, 4, 3, 2, -np.inf]], np.float32)
    found, values = put_likely_first(counted, [np.array([TEA], np.int32)], (rows, scores))
    assert found.tolist() == [[SUGAR, MILK, COFFEE, BREAD, -1]]
    assert values.tolist() == [[4, 2, 2, 2, -np.inf]]


# Answers


@pytest.mark.parametrize("more", [{}, {"exclude": []}, {"context": "cart"}])
def test_a_page_shows_likely_products_first_and_names_the_unproven(counted, paged, more):
    for bundle in (counted, paged):
        answer = ask(select(bundle), **more)
        found = sources_of(answer)
        assert list(found)[:3] == ["milk", "sugar", "pesto"]
        assert {id_ for id_, source in found.items() if source == "model"} == {"milk", "pesto"}
        assert set(found.values()) == {"model", "embeddings"}
        assert answer.source == "model"
        scores = [item.score for item in answer.items]
        assert scores == sorted(scores, reverse=True)


def test_pages_store_which_products_are_real(paged):
    marked = paged.precomputed.rows[TEA][paged.precomputed.is_real[TEA]]
    assert sorted(marked.tolist()) == [MILK, PESTO]


def test_a_cart_prefers_what_is_likely_with_any_of_it(counted):
    found = sources_of(ask(select(counted), items=["tea", "pasta"], k=6))
    assert {id_ for id_, source in found.items() if source == "model"} == {"milk", "pesto"}
    assert set(list(found)[:3]) == {"milk", "sugar", "pesto"}


def test_strict_shows_real_pairs_alone(counted, paged):
    for bundle in (counted, paged):
        answer = ask(select(bundle), strict=True)
        assert sources_of(answer) == {"milk": "model", "pesto": "model"}
        assert answer.message == "2 products pass strict, 7 were asked for"


def test_a_filled_up_product_is_named_by_what_chose_it(counted, monkeypatch):
    monkeypatch.setattr("bento.answering.answer_builder.N_CANDIDATES", 2)
    known = ask(select(counted), k=2, exclude=["milk", "coffee", "sugar"])
    assert sources_of(known) == {"pesto": "model", "bread": "embeddings"}
    new = {"items": ["nobody"], "attributes": {"category": "bakery"}}
    unknown = ask(select(counted), k=2, exclude=["bread", "butter", "tea"], **new)
    assert sources_of(unknown) == {"milk": "attribute_neighbours", "coffee": "bestsellers"}


def test_bundles_of_before_answer_as_before(counted):
    old = replace(counted, chance=None)
    answer = ask(select(old))
    assert set(sources_of(answer).values()) == {"model"}
    # A lift above 1: milk in 20 of the 40 orders with tea, in 40 of 360.
    assert "milk" in sources_of(ask(select(old), strict=True))
    assert "butter" not in sources_of(ask(select(old), strict=True))


def test_a_reason_has_the_orders_and_those_by_chance(counted):
    items = {item.product_id: item for item in ask(select(counted), explain=True).items}
    why = items["milk"].because_of
    assert (why.bought_together, why.confidence) == (20, 0.5)
    assert why.expected == pytest.approx(2, rel=1e-4)
    assert why.times_more_often == pytest.approx(10, rel=1e-4)
    assert items["pasta"].because_of is None
    assert (items["pasta"].source, items["pasta"].proposed_by) == ("embeddings", "embeddings")
    assert (items["coffee"].source, items["coffee"].proposed_by) == ("embeddings", "counts")


# Stock


def without(bundle, *ids, rules=()):
    selection = select(bundle, *rules)
    changes = [ChangedProduct(id_, {"in_stock": False}) for id_ in ids]
    selection.catalogue = selection.catalogue.with_changes(changes)
    return selection


@pytest.mark.parametrize("items", [["tea"], ["tea", "pasta"]])
def test_what_is_out_of_stock_is_not_shown_unless_asked_for(counted, paged, items):
    for bundle in (counted, paged):
        selection = without(bundle, "milk", "butter", "tea")
        hidden = ask(selection, items=items)
        assert not {"milk", "butter"} & sources_of(hidden).keys()
        assert hidden.message.startswith(f"{6 - len(items)} products pass the stock, ")
        every = sources_of(ask(selection, items=items, include_out_of_stock=True))
        assert every == sources_of(ask(select(bundle), items=items))
        only = ask(selection, items=items, filters={"in_stock": False})
        assert sources_of(only).keys() == {"milk", "butter"}


def test_unknown_stock_is_shown(counted):
    selection = select(counted)
    changes = [ChangedProduct("milk", {"in_stock": None}), ChangedProduct("sugar", {})]
    selection.catalogue = selection.catalogue.with_changes(changes)
    assert len(ask(selection).items) == 7


def test_the_next_best_takes_the_place(paged):
    for more in ({}, {"exclude": []}):
        assert list(sources_of(ask(without(paged, "milk"), k=2, **more))) == ["sugar", "pesto"]


def test_a_pin_that_is_out_of_stock_is_left_out(counted):
    pin = rule("pin", {"product_id": "pasta"}, position=1)
    assert ask(select(counted, pin)).items[0].product_id == "pasta"
    selection = without(counted, "pasta", rules=[pin])
    assert "pasta" not in sources_of(ask(selection))
    assert ask(selection, include_out_of_stock=True).items[0].product_id == "pasta"


def test_substitutes_are_in_stock(counted):
    def found(**more):
        shown = selection.similar(SimilarRequest(item="tea", k=7, **more)).shown
        return {one.row for one in shown}

    selection = without(counted, "milk")
    assert found() == {COFFEE, SUGAR, BREAD, BUTTER, PASTA, PESTO}
    assert MILK in found(include_out_of_stock=True)
