"""Text similarity of candidates to the query product: complements often share words."""

import numpy as np
import numpy.typing as npt

from components.model.arrays import Float32Array
from components.model.text_similarity import AttributeIndex


class TextSimilarity:
    def __init__(self, index: AttributeIndex) -> None:
        from scipy.sparse import csc_array

        weights = index.weights.astype(np.float32)
        shape = (index.n_items, len(index.tokens))
        self._texts = csc_array((weights, index.rows, index.offsets), shape=shape).tocsr()

    def compute_cosines(
        self, products: npt.NDArray[np.integer], rows: npt.NDArray[np.integer]
    ) -> Float32Array:
        """Cosines (n, depth) of the texts of `products` (n,) and of their candidate `rows`.

        0 without a text; undefined where a row is -1.
        """
        repeated = np.repeat(products, rows.shape[1])
        shared = self._texts[repeated] * self._texts[rows.ravel()]
        cosines: Float32Array = shared.sum(axis=1).reshape(rows.shape).astype(np.float32)
        return cosines
