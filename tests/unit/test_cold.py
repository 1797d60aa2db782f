"""Judging answers for hidden products, and how strictly variants may be left out."""

import math

import numpy as np
import pytest

from components.baskets.corpus import Corpus
from components.evaluation.cold import draw_cold_queries, evaluate_cold_start
from components.evaluation.tasks import Queries, draw_queries
from components.evaluation.variants import choose_variants, compute_lifts, find_pairs
from components.model.bundle import Pairs, assemble_bundle
from components.model.manifest import Manifest
from components.model.recommender import Recommender
from components.model.variants import LEVELS
from tests.factories import products_table

SHIRTS = [f"{colour} shirt" for colour in ("red", "blue", "green", "black", "white")]
BREADS = [f"{grain} bread" for grain in ("rye", "wheat", "oat", "spelt", "corn")]


def corpus(*baskets):
    offsets = np.concatenate([[0], np.cumsum([len(basket) for basket in baskets])]).astype(np.int64)
    items = np.array([item for basket in baskets for item in basket], np.int32)
    return Corpus(items, offsets, np.ones(len(baskets), np.float32))


def shop(names, companion, together=(), scores=10.0):
    """A bundle: `companion[i]` is bought with i; `together` are pairs with support and orders."""
    n_items = len(names)
    table = products_table([f"p{row}" for row in range(n_items)], {}, {})
    table = table.set_column(1, "name", [names])
    out = np.eye(n_items, dtype=np.float32)
    pairs = sorted([(a, b, s) for a, b, s in together] + [(b, a, s) for a, b, s in together])
    counts = np.bincount([pair[0] for pair in pairs], minlength=n_items).astype(np.int64)
    n_orders = np.arange(n_items, 0, -1) + 100
    manifest = Manifest(
        created_at="", n_items=n_items, n_products=n_items, n_orders=10_000, dims=n_items
    )
    return assemble_bundle(
        manifest,
        table,
        in_vectors=scores * out[companion],
        out_vectors=out,
        n_orders=n_orders,
        pairs=Pairs(
            np.concatenate([[0], np.cumsum(counts)]),
            np.array([pair[1] for pair in pairs], np.int32),
            np.array([pair[2] for pair in pairs], np.int32),
            np.array([0.1 for _ in pairs], np.float32),
        ),
    )


# 0 cap, 1 tie, 2 butter; 3 to 7 shirts with the tie; 8 to 12 breads with the butter.
NAMES = ["cap", "tie", "butter", *SHIRTS, *BREADS]
WEAR = shop(NAMES, [0, 3, 8, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2])
ORDERS = corpus(*[[shirt, 1] for shirt in range(3, 8)], *[[bread, 2] for bread in range(8, 13)])


def hiding(*rows):
    hidden = np.zeros(len(NAMES), bool)
    hidden[list(rows)] = True
    return hidden


def test_a_hidden_product_is_asked_and_the_others_are_right():
    baskets = corpus([3, 1], [3, 4], [1, 2], [], [3, 4, 1, 2])
    queries = draw_cold_queries(baskets, hiding(3, 4), 100, np.random.default_rng(0))
    assert len(queries) == 2, "one with none and one with nothing but hidden products ask nothing"
    for asked, relevant in zip(
        queries.asked, map(queries.relevant.__getitem__, (0, 1)), strict=True
    ):
        assert len(asked) == 1
        assert asked[0] in (3, 4)
        assert set(relevant.tolist()) <= {1, 2}


def seed_that_hides(wanted):
    """The first seed with which `evaluate_cold_start` hides some of `wanted` and nothing else."""
    return next(
        seed
        for seed in range(10_000)
        if (found := np.flatnonzero(np.random.default_rng(seed).random(13) < 0.2)).size >= 2
        and set(found.tolist()) <= wanted
    )


def test_products_described_alike_know_what_goes_with_a_hidden_one():
    seed = seed_that_hides({3, 4, 8, 9})
    judged = evaluate_cold_start(Recommender(WEAR), ORDERS, seed, share=0.2)
    assert judged["n_queries"] == judged["n_products"] >= 2
    assert judged["ndcg"]["attribute_neighbours"]["mean"] == 1
    assert judged["ndcg"]["model"]["mean"] == 1
    assert judged["ndcg"]["bestsellers"]["mean"] < 0.7
    assert judged["paired"]["bestsellers"]["low"] > 0.3
    assert judged["paired"].keys() == {"category_bestsellers", "bestsellers", "model"}


@pytest.mark.parametrize("baskets", [corpus(), corpus([], [3]), corpus([0, 1, 2])])
def test_nobody_asks_for_a_hidden_product(baskets):
    judged = evaluate_cold_start(
        Recommender(WEAR), baskets, seed_that_hides({3, 4, 8, 9}), share=0.2
    )
    assert judged["n_queries"] == 0
    assert math.isnan(judged["ndcg"]["attribute_neighbours"]["mean"])


def test_lift_is_known_for_pairs_that_were_counted():
    bundle = shop(["a", "b", "c"], [0, 1, 2], together=[(0, 2, 50)])
    one, other = np.array([0, 0, 2], np.int32), np.array([1, 2, 0], np.int32)
    lift = 50 * 10_000 / (103 * 101)
    np.testing.assert_allclose(compute_lifts(bundle, one, other), [0, lift, lift])
    nothing = shop(["a", "b", "c"], [0, 1, 2])
    assert compute_lifts(nothing, one, other).tolist() == [0, 0, 0]


def pages(*asked_and_relevant):
    asked, relevant = zip(*asked_and_relevant, strict=True)
    queries = [np.array([one], np.int32) for one in asked]
    return Queries(queries, corpus(*[[one] for one in relevant]), np.arange(len(queries)))


# The model shows a cup of another colour first; below, everything by popularity.
CUPS = ["red cup", "blue cup", "tea", "milk", *(4 * chr(97 + row) for row in range(20))]


def cups(**facts):
    return Recommender(shop(CUPS, [1, 0, 3, 2, *range(4, 24)], **facts))


def test_variants_that_nobody_buys_together_are_left_out():
    queries = {"item": pages(*[(0, 2), (1, 3)] * 50)}
    table, measured = choose_variants(cups(), queries, seed=0)
    assert table.concat([0]).tolist() == [1]
    assert table.concat([1]).tolist() == [0]
    (chosen,) = [one for one in measured if one["chosen"]]
    assert chosen["level"] in ("but_colours", "but_one_word")
    assert chosen["tasks"]["item"]["low"] > 0
    assert chosen["tasks"]["item"]["changed"] == pytest.approx(0.1)
    assert [one["pairs"] for one in measured] == sorted(
        (one["pairs"] for one in measured), reverse=True
    )


def test_variants_that_are_bought_together_stay():
    queries = {"item": pages(*[(0, 1), (1, 0)] * 50)}
    table, measured = choose_variants(cups(), queries, seed=0)
    assert len(table.rows) == 0
    strictest = measured[0]
    assert strictest["tasks"]["item"]["mean"] == -1
    assert not strictest["chosen"]


def test_what_orders_speak_for_stays_even_where_it_costs_nothing():
    queries = {"item": pages(*[(0, 2), (2, 3)] * 50)}
    free, _ = choose_variants(cups(), queries, seed=0)
    assert len(free.rows) == 2
    _, measured = choose_variants(cups(together=[(0, 1, 60)]), queries, seed=0)
    by_lift = {(one["level"], one["lift"], one["cosine"]): one["pairs"] for one in measured}
    assert by_lift["but_colours", None, None] == 1
    assert by_lift["but_colours", 5.0, None] == 0


def test_exceptions_are_never_left_out():
    recommender = cups()
    assert find_pairs(recommender.bundle).is_excepted.tolist() == [False]
    assert find_pairs(recommender.bundle, [("p1", "p0")]).is_excepted.tolist() == [True]
    queries = {"item": pages(*[(0, 2), (1, 3)] * 50)}
    exceptions = [("p1", "p0"), ("x", "p0")]
    table, measured = choose_variants(recommender, queries, 0, exceptions)
    assert len(table.rows) == 0
    assert {(one["pairs"], one["excepted"]) for one in measured} == {(0, 0), (0, 1)}


def test_without_queries_nothing_is_left_out():
    queries = {task: draw_queries(corpus([0]), task, 10, 0) for task in ("item", "cart")}
    table, measured = choose_variants(cups(), queries, seed=0)
    assert len(table.rows) == 0
    assert [one["level"] for one in measured if one["chosen"]] == [LEVELS[0]]


def test_carts_are_judged_too():
    carts = Queries([np.array([0, 3], np.int32)] * 50, corpus(*[[1]] * 50), np.arange(50))
    table, measured = choose_variants(
        cups(), {"item": pages(*[(0, 2)] * 50), "cart": carts}, seed=0
    )
    assert measured[0]["tasks"]["item"]["low"] > 0
    assert measured[0]["tasks"]["cart"]["low"] < -0.5
    assert len(table.rows) == 0
