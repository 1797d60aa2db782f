"""Features and ranking of carts, against the same numbers counted one by one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.model.bundle import PrecomputedItems
from components.model.candidate_pairs import find_candidate_pairs, find_unique
from components.model.features import COLUMN, FEATURES, LIFT_SMOOTHING, FeatureBuilder
from components.model.item_scores import build_item_scores
from components.model.manifest import CartWeights
from components.model.recommender import Recommender
from components.model.reranking import Calibration
from components.model.top_k import find_top_k
from components.model.tree_ensemble import TreeEnsemble, TreeScorer
from components.model.variants import build_variants
from components.ranking.precompute import precompute_items
from components.ranking.reranker import predict, to_tree_ensemble
from tests.factories import random_bundle


def random_carts(bundle, seed):
    rng = np.random.default_rng(seed)
    n_items = bundle.manifest.n_items
    return [np.sort(rng.permutation(n_items)[:n]).astype(np.int32) for n in (1, 2, 3, 4, 5, 6)]


def counted_by_hand(bundle, cart, candidate):
    """All features of one candidate, product by product."""
    item_features, neighbours, n_orders = bundle.item_features, bundle.neighbours, bundle.n_orders
    found = dict.fromkeys(FEATURES, 0.0)
    n_baskets, pairs = bundle.manifest.n_orders, bundle.pairs
    for one in cart:
        for at in range(pairs.offsets[one], pairs.offsets[one + 1]):
            if pairs.rows[at] != candidate:
                continue
            support = float(pairs.support[at])
            chance = n_orders[one] * n_orders[candidate] / n_baskets
            values = {
                "probability": pairs.probability[at],
                "recent": item_features.recent[at],
                "cosine": support / np.sqrt(n_orders[one] * n_orders[candidate]),
                "lift": np.log((support + LIFT_SMOOTHING) / (chance + LIFT_SMOOTHING)),
            }
            for name, value in values.items():
                found[f"{name}_sum"] += value
                found[f"{name}_max"] = max(found[f"{name}_max"], value)
            found["support_max"] = max(found["support_max"], np.log1p(support))
            reverse = support / n_orders[candidate]
            found["reverse_max"] = max(found["reverse_max"], reverse)
            found["share_paired"] += 1 / len(cart)
        for at in range(neighbours.offsets[one], neighbours.offsets[one + 1]):
            if neighbours.rows[at] == candidate:
                value = float(neighbours.scales[one]) * neighbours.weights[at]
                found["neighbours_sum"] += value
                found["neighbours_max"] = max(found["neighbours_max"], value)
                found["neighbours_min"] = min(found["neighbours_min"], value)
    ins, outs = bundle.in_vectors, bundle.out_vectors
    popularity = np.log(n_orders / n_baskets)
    bias = bundle.manifest.beta_cart * popularity[candidate]
    logits = [ins[one] @ outs[candidate] + bias - item_features.log_norms[one] for one in cart]
    length = np.linalg.norm(ins, axis=1)
    alike = [ins[one] @ ins[candidate] / (length[one] * length[candidate]) for one in cart]
    found["vector_max"], found["vector_mean"] = max(logits), np.mean(logits)
    found["vector_sum"] = np.log(np.exp(logits).sum())
    found["reverse_vector_max"] = max(outs[one] @ ins[candidate] for one in cart)
    found["alike_max"] = max(alike)
    found["log_popularity"] = popularity[candidate]
    for column, name in enumerate(("trend_short", "trend_long", "basket_size", "days_unsold")):
        found[name] = item_features.sales[candidate, column]
    found["n_asked"] = len(cart)
    found["asked_popularity"] = np.mean(popularity[cart])
    found["asked_trend"] = np.mean(item_features.sales[cart, 0])
    found["asked_basket_size"] = np.mean(item_features.sales[cart, 2])
    codes, brands = item_features.category_codes, bundle.products["brand"].to_pylist()
    same = n_orders[codes == codes[candidate]].sum()
    found["category_share"] = np.log(n_orders[candidate] / same)
    found["category_lift"] = np.mean(
        [item_features.category_lift[codes[i], codes[candidate]] for i in cart]
    )
    found["same_category"] = sum(codes[i] == codes[candidate] != 0 for i in cart)
    found["same_brand"] = np.mean([brands[i] == brands[candidate] is not None for i in cart])
    prices = bundle.products["price"].to_pylist()
    known = [np.log(prices[i]) for i in cart if prices[i]]
    if known and prices[candidate]:
        found["price_ratio"] = np.log(prices[candidate]) - np.mean(known)
    return [found[name] for name in FEATURES]


@pytest.mark.parametrize("seed", range(6))
def test_every_feature_is_what_counting_one_by_one_gives(seed):
    bundle = random_bundle(seed)
    carts = random_carts(bundle, seed)
    rows = np.tile(np.arange(-1, bundle.manifest.n_items), (len(carts), 1))
    found = FeatureBuilder(bundle).compute(find_candidate_pairs(bundle, carts), rows)
    for cart, mine, candidates in zip(carts, found, rows, strict=True):
        for one, candidate in zip(mine[1:], candidates[1:], strict=True):
            # A cart's own products are never candidates.
            if candidate not in cart:
                expected = counted_by_hand(bundle, cart, candidate)
                for name, value, right in zip(FEATURES, one, expected, strict=True):
                    assert value == pytest.approx(right, rel=1e-4, abs=1e-5), name


def test_features_of_a_product_in_no_list_are_zero():
    bundle = random_bundle(1)
    pairs = find_candidate_pairs(bundle, [np.array([0, 1], np.int32)])
    found = FeatureBuilder(bundle).compute(pairs, np.array([[-1, 10, 11]]))[0, 1:]
    for name in ("probability_sum", "lift_max", "neighbours_min", "support_max", "share_paired"):
        assert not found[:, COLUMN[name]].any()


@pytest.mark.parametrize("seed", range(6))
def test_candidates_are_the_best_by_their_sums_and_not_of_the_cart(seed):
    bundle = random_bundle(seed)
    carts = random_carts(bundle, seed)
    pairs = find_candidate_pairs(bundle, carts)
    sums = pairs.sum_scores()
    rows, _ = pairs.select_best(sums, 20)
    for cart, mine in zip(carts, rows, strict=True):
        mine = mine[mine >= 0]
        scores = []
        for candidate in range(bundle.manifest.n_items):
            one = dict(zip(FEATURES, counted_by_hand(bundle, cart, candidate), strict=True))
            total = one["neighbours_sum"] + 0.3 * one["probability_sum"] + 0.1 * one["cosine_sum"]
            scores.append(total * np.exp(0.2 * one["trend_short"]))
        scores = np.array(scores)
        scores[cart] = 0
        assert set(mine) == set(np.flatnonzero(scores > 1e-9))
        assert (np.diff(scores[mine]) <= 1e-6).all()
    assert np.array_equal(pairs.select_best(sums, 3)[0], rows[:, :3])


@pytest.mark.parametrize("size", [30, 100_000])
def test_marking_and_sorting_find_the_same(size):
    keys = np.random.default_rng(0).integers(0, 30, 200)
    found, where = find_unique(keys, size)
    expected, places = np.unique(keys, return_inverse=True)
    assert np.array_equal(found, expected)
    assert np.array_equal(where, places)
    assert [len(one) for one in find_unique(np.empty(0, np.int64), size)] == [0, 0]


def test_best_few_falls_and_ties_stay_in_order():
    assert find_top_k(np.array([1.0, 3, 2, 3, 0]), 4).tolist() == [1, 3, 2, 0]
    assert find_top_k(np.array([1.0, 3]), 4).tolist() == [1, 0]


RECOMMENDERS = [Recommender(random_bundle(seed)) for seed in range(2)]


@settings(max_examples=60, deadline=None)
@given(
    which=st.sampled_from(range(2)),
    cart=st.lists(st.integers(0, 11), min_size=1, max_size=8),
    k=st.integers(1, 15),
    data=st.data(),
)
def test_neither_order_nor_repetition_changes_an_answer(which, cart, k, data):
    recommender = RECOMMENDERS[which]
    ids = [f"p{row}" for row in cart]
    found = recommender.recommend(ids, k)
    shuffled = data.draw(st.permutations(ids + ids[:2]))
    other = recommender.recommend(shuffled, k)
    assert found.rows.tolist() == other.rows.tolist()
    assert found.scores == pytest.approx(other.scores, rel=1e-5)
    assert not set(found.rows) & set(cart)
    assert len(set(found.rows)) == len(found.rows) == min(k, 12 - len(set(cart)))
    assert (np.diff(found.scores) <= 0).all()


def test_carts_in_a_batch_are_answered_as_they_are_alone():
    recommender = RECOMMENDERS[0]
    carts = random_carts(recommender.bundle, 3)
    rows, scores = recommender.rank(carts, 8)
    for cart, mine, given_scores in zip(carts, rows, scores, strict=True):
        alone, alone_scores = recommender.rank([cart], 8)
        assert alone[0].tolist() == mine.tolist()
        np.testing.assert_allclose(alone_scores[0], given_scores, rtol=1e-5)


# Pages


def test_pages_answer_as_ranking_does_and_fall_back_where_they_end():
    bundle = random_bundle(4)
    ranked, precomputed = Recommender(bundle), precompute_items(Recommender(bundle), None)
    short = PrecomputedItems(precomputed.rows[:, :5], precomputed.scores[:, :5])
    queries = [np.array([row], np.int32) for row in range(12)]
    for table in (precomputed, short):
        looked_up = Recommender(replace(bundle, precomputed=table))
        for k in (1, 5, 6, 11, 40):
            rows, scores = looked_up.rank(queries, k)
            expected, expected_scores = ranked.rank(queries, k)
            assert np.array_equal(rows, expected)
            np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


def test_variants_come_back_neither_on_pages_nor_in_carts():
    bundle = random_bundle(5)
    one, other = np.array([0, 0, 3], np.int32), np.array([1, 2, 4], np.int32)
    bundle = replace(bundle, variants=build_variants(one, other, 12))
    bundle = replace(bundle, precomputed=precompute_items(Recommender(bundle), None))
    for plain in (bundle, replace(bundle, precomputed=None)):
        recommender = Recommender(plain)
        for k in (3, 12):
            assert not set(recommender.recommend(["p0"], k).rows) & {0, 1, 2}
            assert not set(recommender.recommend(["p0", "p3"], k).rows) & {0, 1, 2, 3, 4}
        assert set(recommender.recommend(["p0", "p3"], 12).rows) == set(range(5, 12))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), st.integers(1, 15), st.sampled_from([1.0, 0.7]), st.data())
def test_precomputed_sums_rank_as_pairs_and_neighbours_do(seed, k, recency, data):
    bundle = random_bundle(seed, n_items=16)
    manifest = bundle.manifest.model_copy(update={"cart_recency": recency})
    bundle = replace(bundle, manifest=manifest)
    items = st.lists(st.integers(0, 15), min_size=1, max_size=6)
    cart = np.array(data.draw(items), np.int32)
    summed = Recommender(replace(bundle, item_scores=build_item_scores(bundle)))
    assert summed.carts.has_item_scores
    rows, scores = Recommender(bundle).carts.rank([cart], k)
    found, values = summed.carts.rank([cart], k)
    np.testing.assert_allclose(values, scores, rtol=1e-4, atol=1e-6)
    assert found.tolist() == rows.tolist()


def test_item_scores_of_other_weights_are_not_used():
    bundle = random_bundle(1)
    made = replace(bundle, item_scores=build_item_scores(bundle))
    other = made.manifest.model_copy(update={"cart_weights": CartWeights(neighbours=2.0)})
    assert Recommender(made).carts.has_item_scores
    assert not Recommender(replace(made, manifest=other)).carts.has_item_scores


# The re-ranker


@pytest.fixture(scope="module")
def fitted():
    import lightgbm

    rng = np.random.default_rng(2)
    features = rng.normal(size=(3_000, 6)).astype(np.float32)
    wanted = (features[:, 0] * features[:, 1] > 0).astype(float)
    data = lightgbm.Dataset(features, wanted)
    parameters = {"objective": "cross_entropy", "num_leaves": 15, "verbosity": -1}
    return lightgbm.train({**parameters, "num_threads": 1}, data, 30)


def test_trees_predict_what_their_library_does(fitted):
    features = np.random.default_rng(3).normal(size=(2_000, 6)).astype(np.float32)
    own = TreeScorer(to_tree_ensemble(fitted)).predict(features)
    np.testing.assert_allclose(own, predict(fitted, features), rtol=1e-4, atol=1e-5)


def test_a_value_on_a_threshold_goes_the_same_way(fitted):
    trees = to_tree_ensemble(fitted)
    splits = np.argwhere(np.isfinite(trees.threshold))
    features = np.zeros((len(splits), 6), np.float32)
    for row, (tree, node) in zip(features, splits, strict=True):
        row[trees.feature[tree, node]] = trees.threshold[tree, node]
    up, down = np.float32(np.inf), np.float32(-np.inf)
    for shifted in (features, np.nextafter(features, up), np.nextafter(features, down)):
        own = TreeScorer(trees).predict(shifted)
        library = fitted.predict(shifted, raw_score=True)
        np.testing.assert_allclose(own, library, rtol=1e-4, atol=1e-5)


def test_a_cart_is_ranked_by_the_re_ranker_where_there_is_one():
    """One tree, which wants what is bought less often than most."""
    bundle = random_bundle(0)
    cart = np.array([0, 3], np.int32)
    popularity = np.log(bundle.n_orders / bundle.manifest.n_orders).astype(np.float32)
    border = float(popularity[7])
    tree = TreeEnsemble(
        feature=np.array([[COLUMN["log_popularity"], 0, 0]], np.int16),
        threshold=np.array([[border, np.inf, np.inf]]),
        left=np.array([[1, 1, 2]], np.int16),
        right=np.array([[2, 1, 2]], np.int16),
        value=np.array([[0, 1, -1]], np.float32),
    )
    plain, _ = Recommender(bundle).rank([cart], 10)
    rows, scores = Recommender(replace(bundle, reranker=tree)).rank([cart], 10)
    assert sorted(rows[0]) == sorted(plain[0])
    expected = np.where(popularity[rows[0]] <= border, 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)))
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)
    assert (np.diff(scores[0]) <= 0).all()
    louder = bundle.manifest.model_copy(
        update={"cart_mix": 100.0, "cart_calibration": Calibration(0.01)}
    )
    rows, _ = Recommender(replace(bundle, reranker=tree, manifest=louder)).rank([cart], 10)
    assert rows.tolist() == plain.tolist()
