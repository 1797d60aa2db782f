"""Substitutes: products that are bought in the same company and described alike.

in·in finds substitutes where in·out finds complements. But companions of one meal are bought in the
same company, too; their texts tell them apart.
"""

from functools import cached_property
from typing import Any

import numpy as np

from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.sorted_keys import find_keys
from components.model.text_similarity import AttributeIndex, Attributes
from components.model.top_k import RankedRows, find_top_k, rank_columns

# Beside the cosine. Where a household buys another product of the same category the next time
# (demo data, validation), NDCG@10 is .187 with it, .082 by vectors alone and .133 by attributes
# alone; with a weight of .25 it is .177, with 1 .182.
ATTRIBUTE_WEIGHT = 0.5
N_ATTRIBUTE_CANDIDATES = 200  # A thousand change nothing

# hnswlib searches at least as broadly as it is asked for rows: of the hundred nearest of 200,000 it
# finds 96.6 % when asked for 101, and 98.5 % when asked for 201, which takes .1 ms more.
OVERFETCH = 2


class SubstituteScorer:
    """Over IN vectors (n_items, dims): exact, or by an hnswlib index of them."""

    def __init__(
        self, in_vectors: Float32Array, attributes: AttributeIndex, index: Any = None
    ) -> None:
        self._vectors, self._attributes, self._index = in_vectors, attributes, index

    def rank(self, row: int, attributes: Attributes, k: int) -> RankedRows:
        """Up to `k`, best first, without the row itself; equal scores go to the lower row."""
        near = None if self._index is None else self._find_near(row, k)
        if near is None:
            found, scores = rank_columns(self.score(row, attributes)[None], k)
            kept = found[0] >= 0
            return found[0][kept], scores[0][kept]
        return self._rank_near(row, attributes, near, k)

    def score(self, row: int, attributes: Attributes) -> Float32Array:
        """(n_items,), -inf for the row itself."""
        unit = self._vectors[row] * self._inverse[row]
        scores: Float32Array = (unit @ self._vectors.T) * self._inverse
        alike, similarity = self._find_alike(attributes)
        scores[alike] += similarity
        scores[row] = -np.inf
        return scores

    def score_rows(self, row: int, attributes: Attributes, rows: Int64Array) -> Float32Array:
        """As `score`, of some other rows (n,)."""
        return self._score_rows(row, rows, *self._find_alike(attributes))

    def compute_parts(
        self, row: int, attributes: Attributes, rows: Int64Array
    ) -> dict[str, Float32Array]:
        """The parts of `score_rows`, (n,) each."""
        nothing = np.empty(0, np.int32), np.empty(0, np.float32)
        cosine = self._score_rows(row, rows, *nothing)
        both = self.score_rows(row, attributes, rows)
        return {"cosine": cosine, "description": both - cosine}

    def _rank_near(self, row: int, attributes: Attributes, near: Int64Array, k: int) -> RankedRows:
        """As exactly, if `near` are the k nearest others: attributes only add to a cosine."""
        alike, similarity = self._find_alike(attributes)
        rows = np.union1d(near, alike)
        rows = rows[rows != row]
        scores = self._score_rows(row, rows, alike, similarity)
        best = find_top_k(scores, k)
        return rows[best], scores[best]

    def _find_near(self, row: int, k: int) -> Int64Array | None:
        """By the index; None where it finds too few, as among many equal vectors."""
        n = min(max(OVERFETCH * k, k + 1), len(self._vectors))
        try:
            labels, _ = self._index.knn_query(self._vectors[row], k=n)
        except RuntimeError:
            return None
        return np.asarray(labels[0], dtype=np.int64)

    def _find_alike(self, attributes: Attributes) -> tuple[Int32Array, Float32Array]:
        """Ascending rows, and the part of their attributes in scores."""
        rows, similarity = self._attributes.nearest(attributes, N_ATTRIBUTE_CANDIDATES)
        order = np.argsort(rows)
        return rows[order], np.float32(ATTRIBUTE_WEIGHT) * similarity[order]

    def _score_rows(
        self, row: int, rows: Int64Array, alike: Int32Array, similarity: Float32Array
    ) -> Float32Array:
        vectors, own = self._vectors[rows], self._vectors[row]
        scores: Float32Array = (vectors @ (own * _invert_norms(own[None]))) * _invert_norms(vectors)
        place, is_alike = find_keys(alike, rows)
        scores[is_alike] += similarity[place[is_alike]]
        return scores

    @cached_property
    def _inverse(self) -> Float32Array:
        """Not a copy of unit length: memory-mapped vectors are shared between workers."""
        return _invert_norms(self._vectors)


def compute_pair_cosines(
    vectors: Float32Array, one: Int32Array, other: Int32Array, block: int = 100_000
) -> Float32Array:
    """Of pairs of rows (n,); 0 with a vector of length 0."""
    inverse = _invert_norms(vectors)
    cosines = np.empty(len(one), np.float32)
    for start in range(0, len(one), block):
        a, b = one[start : start + block], other[start : start + block]
        products = np.einsum("ij,ij->i", vectors[a], vectors[b])
        cosines[start : start + block] = products * inverse[a] * inverse[b]
    return cosines


def _invert_norms(vectors: Float32Array) -> Float32Array:
    squares = np.einsum("ij,ij->i", vectors, vectors)
    inverse = np.where(squares > 0, 1 / np.sqrt(np.maximum(squares, 1e-30)), 0)
    return inverse.astype(np.float32)
