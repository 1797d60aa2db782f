"""What answers for products that the model has no vectors of: named steps, the first that can."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.bundle import Bundle
from components.model.cold_neighbours import to_weights
from components.model.product_records import build_records, hash_facet
from components.model.text_similarity import AttributeIndex, Attributes, concat_arrays, find_top_k

Step = Callable[[Sequence[Attributes], int], tuple[Int64Array, Float32Array]]


class ColdStartRanker:
    """The chain below the model: attribute neighbours, bestsellers of the categories, bestsellers.

    `score_by_neighbours(rows, weights, among)` gives the scores of the rows `among`, or of all of the
    catalogue, for a product that `rows`, weighted so, describe best; `find_rows_near(rows)` says which rows
    are worth it, or None for all.
    """

    def __init__(
        self,
        bundle: Bundle,
        attributes: AttributeIndex,
        score_by_neighbours: Callable[[Int32Array, Float32Array, Int64Array | None], Float32Array],
        find_rows_near: Callable[[Int32Array], Int64Array | None],
    ) -> None:
        self._attributes = attributes
        self._score_as, self._around = score_by_neighbours, find_rows_near
        self._n_items = bundle.manifest.n_items
        self._n_orders, self._of = bundle.n_orders, bundle.manifest.n_orders
        self._facets = bundle.facets or build_records(bundle.products)[1]

    def companions(
        self, asked: Sequence[Attributes], k: int
    ) -> tuple[str, Int64Array, Float32Array]:
        """Source, rows and scores of what goes with products that look like this; best first."""
        return self._first(self._by_neighbours, asked, k)

    def substitutes(self, asked: Attributes, k: int) -> tuple[str, Int64Array, Float32Array]:
        """Source, rows and scores of what looks like this itself; best first."""
        return self._first(self._neighbours, [asked], k)

    def _first(
        self, by_attributes: Step, asked: Sequence[Attributes], k: int
    ) -> tuple[str, Int64Array, Float32Array]:
        chain: dict[str, Step] = {
            "attribute_neighbours": by_attributes,
            "category_bestsellers": self._category_bestsellers,
        }
        for source, step in chain.items():
            rows, scores = step(asked, k)
            if len(rows):
                return source, rows, scores
        return "bestsellers", *self._bestsellers(k)

    def _by_neighbours(
        self, asked: Sequence[Attributes], k: int
    ) -> tuple[Int64Array, Float32Array]:
        near = [self._attributes.nearest(one) for one in asked]
        rows = concat_arrays([rows for rows, _ in near], np.int32)
        if not len(rows):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        similar = concat_arrays([similar for _, similar in near], np.float32)
        among = self._around(rows)
        scores = self._score_as(rows, to_weights(similar), among)
        best = find_top_k(scores, k)
        return (best if among is None else among[best]).astype(np.int64), scores[best]

    def _neighbours(self, asked: Sequence[Attributes], k: int) -> tuple[Int64Array, Float32Array]:
        (one,) = asked
        rows, similar = self._attributes.nearest(one, k)
        return rows.astype(np.int64), similar

    def _category_bestsellers(
        self, asked: Sequence[Attributes], k: int
    ) -> tuple[Int64Array, Float32Array]:
        names = {one.category for one in asked if one.category}
        rows = concat_arrays(
            [self._facets.find_rows(hash_facet("category", name)) for name in names], np.int32
        )
        return self._most_bought(np.unique(rows[rows < self._n_items]), k)

    def _bestsellers(self, k: int) -> tuple[Int64Array, Float32Array]:
        return self._most_bought(np.arange(self._n_items), k)

    def _most_bought(
        self, rows: npt.NDArray[np.integer], k: int
    ) -> tuple[Int64Array, Float32Array]:
        """The first of ascending rows: the catalogue is sorted most bought first."""
        best = rows[:k].astype(np.int64)
        return best, (self._n_orders[best] / self._of).astype(np.float32)
