"""The data of the re-rankers: gains over all baskets, and text similarity."""

import numpy as np
import pyarrow as pa
import pytest

from components.contracts import PRODUCTS
from components.evaluation.metrics import ideal_dcg
from components.model.features import FEATURES
from components.model.text_similarity import build_attribute_index
from components.ranking.gains import split_folds
from components.ranking.queries import OFFLINE_FEATURES, K, ndcg
from components.ranking.reranker import BLEND_WEIGHT, fit_if_significant, predict
from components.ranking.text_features import TextSimilarity
from tests.factories import corpus_of, make_labelled_queries, make_paired_queries


def make_item_queries(products, rows):
    """Candidate lists of `products` without a query."""
    features = np.zeros((*np.shape(rows), len(OFFLINE_FEATURES)), np.float32)
    hits = np.zeros((0, np.shape(rows)[1]), bool)
    products = np.array(products, np.int32)
    return make_labelled_queries(features, np.array(rows), hits, products=products)


def test_item_gains_are_the_expectation_over_drawn_query_products():
    """By hand: every basket of two or more draws a query product; the others are relevant."""
    baskets = [(0, 1, 2), (3,), (0, 1), (2, 3), (1, 0, 2, 3), (3, 0)]
    products, rows = [0, 3], [[1, 2, 3], [0, 2, -1]]
    found = split_folds(make_item_queries(products, rows), corpus_of(*baskets))
    large = [basket for basket in baskets if len(basket) > 1]
    for fold, gains in enumerate(found):
        for page, product in enumerate(products):
            asking = [basket for basket in large[fold::2] if product in basket]
            assert gains.weight[page] == pytest.approx(sum(1 / len(one) for one in asking))
            for place, row in enumerate(rows[page]):
                expected = [
                    1 / len(one) / ideal_dcg(np.array([len(one) - 1]), K)[0]
                    for one in asking
                    if row in one
                ]
                assert gains.total[page, place] == pytest.approx(sum(expected))
    both = found[0] + found[1]
    np.testing.assert_allclose(both.weight, found[0].weight + found[1].weight)


def test_a_cart_has_gains_in_its_own_fold_alone():
    hits = np.array([[True, False], [False, True], [True, True]])
    features, rows = np.zeros((3, 2, len(FEATURES)), np.float32), np.tile([4, 5], (3, 1))
    gain, basket = np.array([1.0, 0.5, 0.25], np.float32), np.array([7, 2, 4])
    queries = make_labelled_queries(features, rows, hits, gain=gain, basket=basket)
    even, odd = split_folds(queries, corpus_of())
    assert (even.weight.tolist(), odd.weight.tolist()) == ([0, 1, 1], [1, 0, 0])
    assert even.total.tolist() == [[0, 0], [0, 0.5], [0.25, 0.25]]
    assert odd.total.tolist() == [[1, 0], [0, 0], [0, 0]]


def test_item_rerankers_are_fitted_on_all_baskets():
    queries, baskets, _ = make_paired_queries()
    features = queries.features
    folds, blend = split_folds(queries, baskets), features[..., 0]
    model, found = fit_if_significant(queries, folds, blend, BLEND_WEIGHT["item"], seed=1)
    assert found["pays"]
    assert found["features"][0][0] == "described_alike"
    assert ndcg(predict(model, features), queries).min() == pytest.approx(1)


def test_text_similarity_follows_shared_words():
    names = ["red mug", "red mug", "blue plate", "red plate", None]
    cards = pa.Table.from_pylist(
        [{"product_id": str(i), "name": name} for i, name in enumerate(names)],
        pa.schema(list(PRODUCTS)),
    )
    texts = TextSimilarity(build_attribute_index(cards, len(names)))
    rows = np.array([[1, 3, 2, 4], [0, 3, -1, 2]])
    cosines = texts.compute_cosines(np.array([0, 4], np.int32), rows)
    assert cosines[0, 0] == pytest.approx(1, abs=1e-3)
    assert 0 < cosines[0, 1] < 1
    assert cosines[0, 2:].tolist() == [0, 0]
    assert cosines[1, [0, 1, 3]].tolist() == [0, 0, 0]
