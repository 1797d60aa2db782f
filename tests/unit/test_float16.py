"""Vectors stored as float16 are widened to the very numbers that they are."""

import numpy as np
import pytest

from components.model.bundle import read_bundle
from components.model.float16 import BLOCK, inner_products, to_float16, to_float32
from components.model.recommender import Recommender
from tests.factories import make_bundle


def test_every_finite_number_is_widened_as_it_is():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    wide = to_float32(finite)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide, finite.astype(np.float32))
    assert np.signbit(wide[finite == 0]).tolist() == [False, True]


def test_wide_vectors_stay_what_they_are():
    vectors = np.ones((2, 3), np.float32)
    assert to_float32(vectors) is vectors


def test_rows_of_a_slice_that_is_not_contiguous_are_widened():
    stored = np.arange(24, dtype=np.float16).reshape(4, 6)
    np.testing.assert_array_equal(to_float32(stored[::2, ::3]), stored[::2, ::3].astype(np.float32))


@pytest.mark.parametrize("n", [0, 1, BLOCK, 2 * BLOCK + 1])
def test_inner_products_are_those_of_the_wide_vectors(n):
    rng = np.random.default_rng(n)
    # Small whole numbers, whose products are exact in any order.
    queries = rng.integers(-9, 9, (3, 8)).astype(np.float32)
    vectors = rng.integers(-9, 9, (n, 8)).astype(np.float16)
    exact = queries @ vectors.astype(np.float32).T
    np.testing.assert_array_equal(inner_products(queries, vectors), exact)


@pytest.mark.parametrize("wrong", [7e4, -np.inf, np.nan])
def test_what_a_half_cannot_hold_is_refused(wrong):
    with pytest.raises(ValueError, match="expected at most 65504"):
        to_float16(np.array([[1, wrong]], np.float32))


def test_a_bundle_stores_out_vectors_in_half_the_bytes_and_answers_from_them(tmp_path):
    bundle = read_bundle(make_bundle(tmp_path / "bundle"))
    assert bundle.out_vectors.dtype == np.float16
    assert bundle.in_vectors.dtype == np.float32
    asked = [np.array([row], np.int32) for row in range(8)]
    rows, scores = Recommender(bundle).rank(asked, 3)
    assert rows[:, 0].tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert scores.dtype == np.float32
