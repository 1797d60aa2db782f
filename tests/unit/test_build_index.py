"""Index construction: the cheap one where its recall suffices."""

import numpy as np
import pytest

from components.ranking import build_index as index


@pytest.fixture
def large(monkeypatch):
    """Items and queries of a catalogue that passes for large."""
    monkeypatch.setattr(index, "FAST_BUILD_MIN_ITEMS", 300)
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 300, 8)).astype(np.float32)


def test_a_large_catalogue_is_indexed_with_less_effort(large):
    found, facts = index.build_accurate_index(*large, seed=0)
    assert facts.ef_construction == found.ef_construction == index.FAST_EF_CONSTRUCTION
    assert facts.recall_at_10 >= index.TARGET_RECALL


def test_full_construction_where_the_recall_is_too_low(large, monkeypatch):
    monkeypatch.setattr(index, "TARGET_RECALL", 1.1)
    found, facts = index.build_accurate_index(*large, seed=0)
    assert facts.ef_construction == found.ef_construction == index.EF_CONSTRUCTION


def test_full_construction_of_a_small_catalogue(large):
    _, facts = index.build_accurate_index(*large[:, :-1], seed=0)
    assert facts.ef_construction == index.EF_CONSTRUCTION


def test_recall_is_the_share_of_the_exact_ten_best(large):
    items, queries = large
    # Of half of the items, about half of the best are found.
    half = index.build_index(items[::2])
    rows = np.arange(0, 300, 2)

    class Half:
        ef_construction = half.ef_construction

        def set_ef(self, ef):
            half.set_ef(ef)

        def knn_query(self, asked, k):
            labels, distances = half.knn_query(asked, k)
            return rows[labels], distances

    recall = index.measure_index(Half(), items, queries, seed=0).recall_at_10
    assert recall == pytest.approx(0.5, abs=0.05)
