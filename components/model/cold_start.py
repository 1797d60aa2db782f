"""What answers for products that the model has no vectors of: named steps, the first that can."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.bundle import Bundle
from components.model.cold_neighbours import weights_of
from components.model.product_records import facet, make_cards
from components.model.text_similarity import AttributeIndex, Attributes, joined, largest

Step = Callable[[Sequence[Attributes], int], tuple[Int64Array, Float32Array]]


class Fallback:
    """The chain below the model: attribute neighbours, bestsellers of the categories, bestsellers.

    `score_as(rows, weights, among)` gives the scores of the rows `among`, or of all of the
    catalogue, for a product that `rows`, weighted so, describe best; `around(rows)` says which rows
    are worth it, or None for all.
    """

    def __init__(
        self,
        bundle: Bundle,
        attributes: AttributeIndex,
        score_as: Callable[[Int32Array, Float32Array, Int64Array | None], Float32Array],
        around: Callable[[Int32Array], Int64Array | None],
    ) -> None:
        self._attributes = attributes
        self._score_as, self._around = score_as, around
        self._n_items = bundle.manifest.n_items
        self._n_orders, self._of = bundle.n_orders, bundle.manifest.n_orders
        self._facets = bundle.facets or make_cards(bundle.products)[1]

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
        rows = joined([rows for rows, _ in near], np.int32)
        if not len(rows):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        similar = joined([similar for _, similar in near], np.float32)
        among = self._around(rows)
        scores = self._score_as(rows, weights_of(similar), among)
        best = largest(scores, k)
        return (best if among is None else among[best]).astype(np.int64), scores[best]

    def _neighbours(self, asked: Sequence[Attributes], k: int) -> tuple[Int64Array, Float32Array]:
        (one,) = asked
        rows, similar = self._attributes.nearest(one, k)
        return rows.astype(np.int64), similar

    def _category_bestsellers(
        self, asked: Sequence[Attributes], k: int
    ) -> tuple[Int64Array, Float32Array]:
        names = {one.category for one in asked if one.category}
        rows = joined([self._facets.having(facet("category", name)) for name in names], np.int32)
        return self._most_bought(np.unique(rows[rows < self._n_items]), k)

    def _bestsellers(self, k: int) -> tuple[Int64Array, Float32Array]:
        return self._most_bought(np.arange(self._n_items), k)

    def _most_bought(
        self, rows: npt.NDArray[np.integer], k: int
    ) -> tuple[Int64Array, Float32Array]:
        """The first of ascending rows: the catalogue is sorted most bought first."""
        best = rows[:k].astype(np.int64)
        return best, (self._n_orders[best] / self._of).astype(np.float32)
