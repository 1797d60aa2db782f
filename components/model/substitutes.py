"""What a product could be replaced by: what is bought in the same company and looks like it.

Two IN vectors are alike when the same things are bought beside them, whether or not they are ever
bought together: in·in finds substitutes where in·out finds complements. Companions of one meal are
bought in the same company, too; what is written on products tells them apart.
"""

import numpy as np

from components.model.arrays import Float32Array, Int32Array
from components.model.text_similarity import AttributeIndex, Attributes

ATTRIBUTE_WEIGHT = 0.5
"""Weight of likeness of attributes beside the cosine. Where a household buys another product of the
same category the next time (demo data, validation), NDCG@10 is .187 with it, .082 by company alone
and .133 by looks alone; with a weight of .25 it is .177, with 1 .182."""

N_ATTRIBUTE_CANDIDATES = 200
"""Products most alike by attributes that get something for it; a thousand change nothing."""


class Substitutes:
    """Scores by cosines of the catalogue's IN vectors (n_items, dims) and by attributes; exact."""

    def __init__(self, in_vectors: Float32Array, attributes: AttributeIndex) -> None:
        self._attributes = attributes
        self._cosines = Cosines(in_vectors)

    def scores(self, row: int, described: Attributes) -> Float32Array:
        """Scores (n_items,) of the catalogue as substitutes for a row of it, -inf for itself."""
        scores: Float32Array = self._cosines.compute_for_rows(np.array([row], np.int32))[0]
        alike, similar = self._attributes.nearest(described, N_ATTRIBUTE_CANDIDATES)
        scores[alike] += np.float32(ATTRIBUTE_WEIGHT) * similar
        scores[row] = -np.inf
        return scores


class Cosines:
    """Between IN vectors (n_items, dims)."""

    def __init__(self, in_vectors: Float32Array) -> None:
        self._vectors = in_vectors
        squares = np.einsum("ij,ij->i", in_vectors, in_vectors)
        # Not a copy of unit length: memory-mapped vectors are shared between workers.
        self._inverse = np.where(squares > 0, 1 / np.sqrt(np.maximum(squares, 1e-30)), 0)
        self._inverse = self._inverse.astype(np.float32)

    def compute_for_rows(self, rows: Int32Array) -> Float32Array:
        """With all products, (n_rows, n_items); 0 with a vector of length 0."""
        mine = self._vectors[rows] * self._inverse[rows, None]
        cosines: Float32Array = (mine @ self._vectors.T) * self._inverse
        return cosines

    def compute_for_pairs(
        self, one: Int32Array, other: Int32Array, block: int = 100_000
    ) -> Float32Array:
        """Cosines (n,) of given pairs of rows."""
        found = np.empty(len(one), np.float32)
        for start in range(0, len(one), block):
            a, b = one[start : start + block], other[start : start + block]
            products = np.einsum("ij,ij->i", self._vectors[a], self._vectors[b])
            found[start : start + block] = products * self._inverse[a] * self._inverse[b]
        return found
