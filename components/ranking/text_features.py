"""How alike candidates are described: what goes together is often said in the same words."""

import numpy as np
import numpy.typing as npt

from components.model.arrays import Float32Array
from components.model.text_similarity import AttributeIndex


class TextSimilarity:
    """The texts of a catalogue by product; the index has them by token."""

    def __init__(self, index: AttributeIndex) -> None:
        from scipy.sparse import csc_array

        weights = index.weights.astype(np.float32)
        shape = (index.n_items, len(index.tokens))
        self._texts = csc_array((weights, index.rows, index.offsets), shape=shape).tocsr()

    def compute_cosines(
        self, products: npt.NDArray[np.integer], rows: npt.NDArray[np.integer]
    ) -> Float32Array:
        """Cosines (n, depth) between what is written on `products` (n,) and on their `rows`.

        0 where nothing is written. Places without a candidate (-1) hold anything.
        """
        asked = np.repeat(products, rows.shape[1])
        shared = self._texts[asked] * self._texts[rows.ravel()]
        cosines: Float32Array = shared.sum(axis=1).reshape(rows.shape).astype(np.float32)
        return cosines
