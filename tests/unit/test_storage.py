"""What fewer bytes per product cost is measured on vectors whose best companions are obvious."""

import numpy as np
import pytest

from components.baskets.corpus import Corpus
from components.embeddings.item2vec import Vectors
from components.evaluation.tasks import Queries
from components.ranking.storage import measure_storage, storages, truncated

N_ITEMS, DIMS = 16, 8


def pairs(dims: int = DIMS, used: int = DIMS) -> Vectors:
    """Products 2 i and 2 i + 1 are each other's best; only `used` of the dimensions tell."""
    angles = np.linspace(0, np.pi, N_ITEMS // 2, endpoint=False)
    out = np.zeros((N_ITEMS, dims), np.float32)
    if used == 2:
        out[:, 0], out[:, 1] = np.cos(angles).repeat(2), np.sin(angles).repeat(2)
    else:
        out[:, :used] = np.eye(N_ITEMS // 2, used, dtype=np.float32).repeat(2, axis=0)
    return Vectors(10 * out, out)


def everybody_asks() -> Queries:
    """Every product asks for the other of its pair."""
    partner = (np.arange(N_ITEMS) ^ 1).astype(np.int32)
    relevant = Corpus(partner, np.arange(N_ITEMS + 1), np.ones(N_ITEMS, np.float32))
    asked = [np.array([row], np.int32) for row in range(N_ITEMS)]
    return Queries(asked, relevant, np.arange(N_ITEMS))


def measured(vectors: Vectors) -> dict[str, dict[str, float]]:
    rows = measure_storage(vectors, np.zeros(N_ITEMS, np.float32), 0.5, everybody_asks(), seed=1)
    return {row["name"]: row for row in rows}


def test_what_is_stored_now_comes_first_and_changes_nothing() -> None:
    first = next(iter(measured(pairs()).values()))
    stored = ("float32, OUT float16", 48, 1.0)
    assert (first["name"], first["bytes_per_product"], first["ndcg_a"]) == stored
    assert first["change"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_coarser_numbers_keep_obvious_answers() -> None:
    found = measured(pairs())
    assert found["float16"]["bytes_per_product"] == 32
    assert found["int8"]["bytes_per_product"] == 24
    assert found["float16"]["ndcg_a"] == found["int8"]["ndcg_a"] == 1.0


def test_half_of_the_dimensions_loses_half_of_what_needs_them_all() -> None:
    half = measured(pairs())["1/2 of the dimensions"]
    assert half["bytes_per_product"] == 32
    assert half["ndcg_a"] < 0.9
    assert half["change"]["high"] < 0


def test_dimensions_that_say_nothing_cost_nothing() -> None:
    assert measured(pairs(used=2))["1/2 of the dimensions"]["ndcg_a"] == 1.0


def test_truncation_keeps_all_inner_products_of_vectors_that_need_no_more() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(2, N_ITEMS, 3)) @ rng.normal(size=(2, 3, DIMS))
    vectors = Vectors(*mixed.astype(np.float32))
    kept = truncated(vectors, 3)
    assert kept.in_vectors.shape == kept.out_vectors.shape == (N_ITEMS, 3)
    before = vectors.in_vectors @ vectors.out_vectors.T
    np.testing.assert_allclose(kept.in_vectors @ kept.out_vectors.T, before, atol=1e-3)


@pytest.mark.parametrize("n_items", [1, 3])
def test_fewer_products_than_dimensions(n_items: int) -> None:
    vectors = Vectors(*np.ones((2, n_items, DIMS), np.float32))
    for _, _, stored in storages(vectors):
        assert len(stored.in_vectors) == len(stored.out_vectors) == n_items


def test_without_questions_nothing_is_listed() -> None:
    nobody = Queries([], Corpus(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0)),
                     np.zeros(0, np.int64))  # fmt: skip
    assert measure_storage(pairs(), np.zeros(N_ITEMS, np.float32), 0.5, nobody, seed=1) == []
