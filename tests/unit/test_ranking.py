"""Blend and re-rankers are tuned on validation baskets; odd baskets train or fail clearly."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from components.baskets.corpus import Corpus
from components.bundle.build import build_bundle
from components.contracts import BASKETS, PRODUCTS, write_table
from components.embeddings.model import train_model
from components.evaluation.excess import compute_excess_ndcg
from components.evaluation.metrics import find_hits, score
from components.model.bundle import read_bundle
from components.model.cart_ranking import N_CANDIDATES
from components.model.features import COLUMN, FEATURES
from components.model.recommender import Recommender
from components.model.reranking import mix_log_odds
from components.neighbours.model import train_neighbours
from components.ranking import blend as blending
from components.ranking.gains import split_folds
from components.ranking.model import train_ranking
from components.ranking.queries import K, ndcg
from components.ranking.reranker import fit_if_significant, predict
from components.refit.refit import ModelPaths, refit
from tests.factories import corpus_of, make_labelled_queries

NO_BASKETS = Corpus(np.empty(0, np.int32), np.zeros(1, np.int64), np.empty(0, np.float32))


def fit_carts(queries, blend, mix=0.0):
    return fit_if_significant(queries, split_folds(queries, NO_BASKETS), blend, mix, seed=1)


def random_queries(n=400, seed=0):
    """Five of thirty candidates are relevant, independent of the features."""
    rng = np.random.default_rng(seed)
    features = rng.random((n, 30, len(FEATURES)), np.float32)
    hits = rng.permuted(np.tile(np.arange(30) < 5, (n, 1)), axis=1)
    return make_labelled_queries(features, np.tile(np.arange(30), (n, 1)), hits)


def test_ndcg_of_labelled_queries_is_that_of_the_evaluation():
    rng = np.random.default_rng(1)
    n, n_items = 50, 200
    rows = np.stack([rng.permutation(n_items)[:N_CANDIDATES] for _ in range(n)])
    rows[:, 50:] = -1
    baskets = [rng.permutation(n_items)[: 1 + i % 15] for i in range(n)]
    sizes = np.array([len(one) for one in baskets])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    relevant = Corpus(np.concatenate(baskets).astype(np.int32), offsets, np.ones(n, np.float32))
    hits = np.array([np.isin(a, b) for a, b in zip(rows, baskets, strict=True)])
    features = np.zeros((n, N_CANDIDATES, 1), np.float32)
    queries = make_labelled_queries(features, rows, hits, n_relevant=sizes)
    scores = rng.random((n, N_CANDIDATES)).astype(np.float32)
    order = np.argsort(-np.where(rows >= 0, scores, -np.inf), axis=1)[:, :K]
    expected = score(np.take_along_axis(rows, order, 1), relevant, n_items)["ndcg"]
    np.testing.assert_allclose(ndcg(scores, queries), expected, rtol=1e-6)


def test_discounted_ndcg_is_the_excess_of_the_evaluation():
    rng = np.random.default_rng(1)
    n, n_items = 50, 200
    rows = np.stack([rng.permutation(n_items)[:N_CANDIDATES] for _ in range(n)])
    rows[:25, 5:] = -1
    shares = rng.dirichlet(np.full(n_items, 0.1))
    relevant = corpus_of(*(rng.permutation(n_items)[: 1 + i % 15] for i in range(n)))
    queries = make_labelled_queries(
        np.zeros((n, N_CANDIDATES, 1), np.float32), rows, find_hits(rows, relevant, n_items),
        n_relevant=relevant.sizes, shares=shares,
    )  # fmt: skip
    scores = rng.random((n, N_CANDIDATES)).astype(np.float32)
    order = np.argsort(-np.where(rows >= 0, scores, -np.inf), axis=1, kind="stable")[:, :K]
    expected = compute_excess_ndcg(np.take_along_axis(rows, order, 1), relevant, shares)
    full = ndcg(scores, queries, popularity_discount=1)
    np.testing.assert_allclose(full, expected, rtol=1e-5, atol=1e-7)
    half = ndcg(scores, queries, popularity_discount=0.5)
    np.testing.assert_allclose(half, (full + ndcg(scores, queries)) / 2, rtol=1e-5, atol=1e-7)


def test_useless_parts_get_weight_zero_in_carts():
    queries = random_queries()
    queries.features[..., COLUMN["neighbours_sum"]] = queries.hits
    tuned = blending.tune_cart_blend(queries, blending.INITIAL_BLEND).cart_weights
    assert (tuned.vectors, tuned.cooccurrence, tuned.cosine, tuned.trend) == (0, 0, 0, 0)


def test_useful_parts_get_a_weight():
    queries = random_queries()
    queries.features[..., COLUMN["neighbours_sum"]] = 0
    queries.features[..., COLUMN["cosine_sum"]] = 10 * queries.hits
    assert blending.tune_cart_blend(queries, blending.INITIAL_BLEND).cart_weights.cosine > 0
    queries.features[..., COLUMN["vector_max"]] = 0
    queries.features[..., COLUMN["probability_sum"]] = queries.hits
    tuned = blending.tune_item_blend(queries, blending.INITIAL_BLEND, 0.25)
    assert tuned.page_cooccurrence > 0
    # Noise comes into it with any other weight.
    assert (tuned.beta_single, tuned.page_trend) in [(0.25, 0.0), (0.0, 0.0)]


def test_a_better_reranker_is_shipped():
    """Relevance is the same category, which the blend ignores."""
    queries = random_queries()
    queries.features[..., COLUMN["same_category"]] = queries.hits
    blend = queries.features[..., COLUMN["neighbours_sum"]]
    model, found = fit_carts(queries, blend)
    assert found["pays"]
    assert found["features"][0][0] == "same_category"
    assert ndcg(predict(model, queries.features), queries).min() == pytest.approx(1)


def test_a_reranker_of_noise_is_not_shipped():
    queries = random_queries()
    blend = queries.hits + 0.01 * queries.features[..., 0]
    model, found = fit_carts(queries, blend)
    assert model is None
    assert not found["pays"]
    assert found["gain"]["low"] <= 0


def test_with_few_hits_no_reranker_is_fitted():
    queries = random_queries(n=10)
    model, found = fit_carts(queries, queries.features[..., 0])
    assert (model, found["pays"], found["gain"]) == (None, False, None)


# From baskets to answers


def baskets_from(lists, weight=1.0, splits=(("train", 0.8), ("validation", 1.0))):
    first = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        {
            "order_id": f"o{i:05d}",
            "user_id": f"u{i % 7}",
            "ts": first + timedelta(hours=i),
            "items": list(items),
            "weight": weight,
            "split": next(split for split, end in splits if i < end * len(lists)),
        }
        for i, items in enumerate(lists)
    ]


def built(folder, baskets, cards=(), min_orders=1, exceptions=(), tricks=None, discount=0.0):
    """The whole training on few products, as a recommender."""
    paths = {name: folder / name for name in ("vectors", "pairs", "near", "ranked", "cards")}
    write_table(
        pa.Table.from_pylist(baskets, pa.schema(list(BASKETS))), BASKETS, folder / "baskets"
    )
    write_table(
        pa.Table.from_pylist(list(cards), pa.schema(list(PRODUCTS))), PRODUCTS, paths["cards"]
    )
    counts = {"first_order": None, "last_order": None}
    (folder / "counts.json").write_text(json.dumps(counts))
    settings = {"vector_size": 8, "epochs": 3, "workers": 1, "seed": 1}
    given = folder / "baskets"
    train_model(given, settings, min_orders, paths["vectors"], paths["pairs"], tricks)
    train_neighbours(given, paths["vectors"], paths["near"])
    train_ranking(
        given, paths["vectors"], paths["pairs"], paths["near"], paths["cards"], paths["ranked"], 1,
        tricks, exceptions, discount,
    )  # fmt: skip
    newest = ModelPaths(*(folder / name for name in ("vectors 2", "pairs 2", "near 2", "ranked 2")))
    refit(given, paths["vectors"], paths["ranked"], paths["cards"], newest, 1, tricks)
    build_bundle(
        newest.vectors, newest.cooccurrence, newest.neighbours, newest.ranking, paths["cards"],
        folder / "counts.json", {"config": settings}, 1, folder / "bundle",
    )  # fmt: skip
    return Recommender(read_bundle(folder / "bundle"))


def assert_sane(recommender):
    """Answers have finite scores, no product of the query, and as many items as there are."""
    n_items = recommender.bundle.manifest.n_items
    ids = recommender.bundle.product_ids[:n_items]
    for asked in (ids[:1], ids[-1:], ids[:2], ids[1:3], ids[:3], ids[-3:]):
        found = recommender.recommend(asked, 5)
        answer = {recommender.bundle.product_ids[row] for row in found.rows}
        assert len(answer) == len(found.rows) == min(5, n_items - len(set(asked)))
        assert not answer & set(asked)
        assert np.isfinite(found.scores).all()
    assert len(recommender.similar_items(ids[0], 5).rows) == min(5, n_items - 1)
    bundle = recommender.bundle
    assert bundle.in_index_path.is_file()
    assert bundle.manifest.substitutes.index.recall_at_10 == 1
    assert not bundle.manifest.substitutes.by_index


PAIRS = ["ab", "cd", "ef", "gh"]
CARDS = [
    {"product_id": id_, "name": f"Thing {id_}", "category": "things", "price": 2.0}
    for id_ in "abcdefgh"
]


def test_partners_are_found_and_noise_ships_no_reranker(tmp_path):
    recommender = built(tmp_path, baskets_from([PAIRS[i % 4] for i in range(400)]), CARDS)
    assert_sane(recommender)
    assert recommender.bundle.reranker is None
    ids = recommender.bundle.product_ids
    for one, other in (*PAIRS, *(pair[::-1] for pair in PAIRS)):
        assert ids[recommender.recommend([one], 1).rows[0]] == other


CUPS = [
    {**card, "name": name}
    for card, name in zip(CARDS, ["Red cup", "Blue cup", *"cdefgh"], strict=True)
]
"""Each sold with something else, and never together."""


def test_variants_are_kept_apart_unless_they_are_excepted(tmp_path, capsys):
    baskets = baskets_from([["ac", "bd", "ef", "gh"][i % 4] for i in range(400)])
    for folder in ("apart", "together"):
        (tmp_path / folder).mkdir()
    apart = built(tmp_path / "apart", baskets, CUPS)
    row = {id_: apart.bundle.records.row(id_) for id_ in "ab"}
    assert apart.bundle.variants.concat([row["a"]]).tolist() == [row["b"]]
    assert row["b"] not in apart.recommend(["a"], 7).rows
    together = built(tmp_path / "together", baskets, CUPS, exceptions=[("b", "a"), ("a", "gone")])
    assert len(together.bundle.variants.rows) == 0
    assert together.bundle.records.row("b") in together.recommend(["a"], 7).rows
    assert together.bundle.records.row("b") in together.recommend(["a", "h"], 6).rows
    ranking = together.bundle.manifest.ranking
    assert ranking["exceptions"] == {"given": 2, "unknown": 1}
    assert [one["excepted"] for one in ranking["variants"] if one["chosen"]] == [1]
    assert "unknown products gone" in capsys.readouterr().out


def test_items_are_precomputed_with_the_stored_vectors(tmp_path):
    """Baskets of chance, so that rounded vectors would rank many products differently."""
    rng = np.random.default_rng(1)
    lists = [rng.choice(60, 3, replace=False) for _ in range(400)]
    bundle = built(tmp_path, baskets_from([[f"p{row}" for row in one] for one in lists])).bundle
    trained = np.load(tmp_path / "vectors 2" / "out_vectors.npy")
    assert bundle.out_vectors.dtype == np.float16
    assert (bundle.out_vectors != trained).any()
    products = np.arange(bundle.manifest.n_items, dtype=np.int32)
    blended = Recommender(replace(bundle, precomputed=None))
    rows, scores = blended.items.rank(products, 59)
    assert not bundle.manifest.ranking["pages"]["forest"]["pays"]
    np.testing.assert_array_equal(bundle.precomputed.rows, rows)
    np.testing.assert_allclose(bundle.precomputed.scores, scores, rtol=1e-5, atol=1e-6)


# With chance taken off


def test_equally_popular_products_are_answered_as_without_a_discount(tmp_path):
    baskets = baskets_from([PAIRS[i % 4] for i in range(400)])
    for discount in (0.0, 1.0):
        (tmp_path / str(discount)).mkdir()
        recommender = built(tmp_path / str(discount), baskets, CARDS, discount=discount)
        assert_sane(recommender)
        assert recommender.bundle.manifest.popularity_discount == discount
        np.testing.assert_allclose(recommender.bundle.chance.shares, 1 / 8, rtol=1e-5)
        ids = recommender.bundle.product_ids
        for one, other in PAIRS:
            assert ids[recommender.recommend([one], 1).rows[0]] == other


THINGS = [f"p{row:02d}" for row in range(40)]


def draw_with_a_bestseller(n):
    """z is in 57 % of the baskets, whatever else; 40 % of those of p00 hold p01, and so on.

    The others hold any other product, about 4 of 40.
    """
    rng = np.random.default_rng(3)
    for _ in range(n):
        firsts = 2 * rng.permutation(20)[:4]
        pairs = [[(0, 1), (0,), (1,)][rng.choice(3, p=[0.25, 0.375, 0.375])] for _ in firsts]
        rows = [first + one for first, pair in zip(firsts, pairs, strict=True) for one in pair]
        yield [*(THINGS[row] for row in rows), *(["z"] if rng.random() < 0.57 else [])]


def test_a_bestseller_is_first_on_all_pages_unless_chance_is_taken_off(tmp_path):
    splits, shares = (("train", 0.4), ("validation", 1.0)), {}
    baskets = baskets_from(list(draw_with_a_bestseller(3_200)), splits=splits)
    for discount in (0.0, 1.0):
        (tmp_path / str(discount)).mkdir()
        recommender = built(tmp_path / str(discount), baskets, discount=discount)
        assert_sane(recommender)
        ids = recommender.bundle.product_ids
        assert ids[0] == "z"
        first = [ids[recommender.recommend([one], 1).rows[0]] for one in THINGS]
        partners = [THINGS[row ^ 1] for row in range(40)]
        shares[discount] = [first.count("z") / 40, np.mean(np.array(first) == partners)]
        for one, other in zip(THINGS, THINGS[5:], strict=False):
            assert np.isfinite(recommender.recommend([one, other], 39).scores).all()
    assert shares[0.0][0] > 0.8
    assert shares[1.0][1] > 0.8


def test_baskets_of_one_size_and_one_product_with_all_others_are_trained_with(tmp_path):
    rng = np.random.default_rng(0)
    recommender = built(
        tmp_path, baskets_from([["z", *rng.permutation(list("abcdefgh"))[:3]] for _ in range(600)]),
        discount=1.0,
    )  # fmt: skip
    assert_sane(recommender)
    assert recommender.bundle.chance.shares[0] == pytest.approx(0.25)


# Refit on validation baskets


def test_validation_baskets_are_counted_and_sort_the_catalogue(tmp_path):
    """Until lately people bought a with b; now they buy a with c, which was the least bought."""
    rows = baskets_from([*(75 * ["ab"] + 5 * ["ac"]), *(20 * ["ac"])])
    rows += [{**row, "order_id": f"t{i}", "split": "test"} for i, row in enumerate(rows[:50])]
    bundle = built(tmp_path, rows).bundle
    assert bundle.product_ids == ["a", "b", "c"]
    assert bundle.n_orders.tolist() == [100, 75, 25]
    assert bundle.manifest.n_orders == 100
    at, pairs = bundle.pairs.entries(0), bundle.pairs
    assert dict(zip(pairs.rows[at], pairs.support[at], strict=True)) == {1: 75, 2: 25}


def test_a_product_that_rises_moves_with_its_vectors_records_and_recommendations(tmp_path):
    """c passes b by its validation baskets; vectors, records and precomputed items move with it."""
    rows = baskets_from([*(45 * ["ab"] + 35 * ["ac"]), *(20 * ["ac"])])
    bundle = built(tmp_path, rows, CARDS).bundle
    before = np.load(tmp_path / "vectors" / "in_vectors.npy")
    assert bundle.product_ids[:3] == ["a", "c", "b"]
    np.testing.assert_array_equal(bundle.in_vectors, before[[0, 2, 1]])
    assert bundle.products["name"].to_pylist()[:3] == ["Thing a", "Thing c", "Thing b"]
    assert bundle.precomputed.rows[1][0] == 0


def test_the_blend_moves_log_odds_by_their_own_deviation():
    predicted, blended = np.array([[0.0, 1.0, 9.0]]), np.array([[300.0, 100.0, -np.inf]])
    is_candidate = np.array([[True, True, False]])
    moved = mix_log_odds(predicted, blended, is_candidate, 0.5)[0, :2]
    assert moved.tolist() == pytest.approx([0.25, 0.75])
    moved = mix_log_odds(predicted, blended, is_candidate, 2.0)[0, :2]
    assert moved.tolist() == pytest.approx([1, 0])
    assert mix_log_odds(predicted, blended, is_candidate, 0) is predicted


def test_mixed_log_odds_are_in_order_of_both_standardised():
    predicted, blended = np.random.default_rng(0).normal(size=(2, 20, 30)).astype(np.float32)
    mixed = mix_log_odds(predicted, 100 * blended, np.ones((20, 30), bool), 0.5)
    both = [(one - one.mean(1, keepdims=True)) / one.std(1, keepdims=True)
            for one in (predicted, blended)]  # fmt: skip
    np.testing.assert_array_equal(mixed.argsort(axis=1), (both[0] + 0.5 * both[1]).argsort(axis=1))
