"""Answers for products that the model has no vectors of: named sources, the first that has any."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.model.arrays import (
    AnyArray,
    Float32Array,
    Int32Array,
    Int64Array,
    concat_arrays,
    to_offsets,
)
from components.model.bundle import Bundle
from components.model.float16 import inner_products
from components.model.item_ranking import ItemRanker
from components.model.product_records import hash_facet
from components.model.ragged import RaggedRows
from components.model.sorted_keys import find_keys
from components.model.text_similarity import NEAREST, AttributeIndex, Attributes, read_attributes
from components.model.top_k import find_top_k

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa

SIMILARITY_EXPONENT = 3
"""So that among twenty neighbours the similar one counts, not the nineteen that share a word.
NDCG@10 of cold products (validation, three draws) is 15 % higher than with 0 on Online Retail and
1 % on the demo data; with 2 and 4 it is up to 2 % lower."""

NEARBY_MIN_ITEMS = 20_000
"""Catalogue size from which companions of a cold product are looked for among those of its
neighbours only. On the demo data's 24,607 products the ten best are the same either way."""

Ranked = tuple[Int64Array, Float32Array]


class ColdStartRanker:
    """Ranks by attribute neighbours, else by bestsellers of the categories, else by bestsellers."""

    def __init__(self, bundle: Bundle, items: ItemRanker) -> None:
        self._bundle, self._items = bundle, items
        self._n_items = bundle.manifest.n_items

    def rank_companions(
        self, asked: Sequence[Attributes], k: int
    ) -> tuple[str, Int64Array, Float32Array]:
        """Source, rows and scores of the companions of products with these attributes."""
        return self._rank(self._rank_by_neighbours, asked, k)

    def rank_substitutes(self, asked: Attributes, k: int) -> tuple[str, Int64Array, Float32Array]:
        """Source, rows and scores of products with similar attributes."""
        return self._rank(self._rank_neighbours, [asked], k)

    def score_by_neighbours(
        self, rows: Int32Array, weights: Float32Array, among: Int64Array | None = None
    ) -> Float32Array:
        """Scores of the companions of a product with these neighbours, whose weights sum to 1.

        Its IN vector is the mean of theirs, and so are its companions' probabilities. Of all
        products (n_items,), or of the rows `among` (n,), which are ascending.
        """
        bundle = self._bundle
        mean = weights @ bundle.in_vectors[rows]
        candidates = slice(None) if among is None else among
        scores: Float32Array = inner_products(mean[None], bundle.out_vectors[candidates])[0]
        scores += self._items.bias if among is None else self._items.compute_bias(among)
        if not bundle.manifest.page_cooccurrence:
            return scores
        probability = np.zeros(len(scores), np.float32)
        for row, weight in zip(rows, weights, strict=True):
            pairs = bundle.pairs.entries(row)
            place: AnyArray = bundle.pairs.rows[pairs]
            values = weight * bundle.pairs.probability[pairs]
            if among is not None:
                place, is_among = find_keys(among, place)
                place, values = place[is_among], values[is_among]
            probability[place] += values
        return scores + self._items.compute_gain(probability)

    def _rank(
        self,
        rank_by_attributes: Callable[[Sequence[Attributes], int], Ranked],
        asked: Sequence[Attributes],
        k: int,
    ) -> tuple[str, Int64Array, Float32Array]:
        rows, scores = rank_by_attributes(asked, k)
        if len(rows):
            return "attribute_neighbours", rows, scores
        categories = {one.category for one in asked if one.category}
        facets = [hash_facet("category", category) for category in categories]
        parts = [self._bundle.facets.find_rows(facet) for facet in facets]
        rows = np.unique(concat_arrays(parts, np.int32))
        if len(rows := rows[rows < self._n_items]):
            return "category_bestsellers", *self._take_bestsellers(rows, k)
        return "bestsellers", *self._take_bestsellers(np.arange(self._n_items), k)

    def _rank_by_neighbours(self, asked: Sequence[Attributes], k: int) -> Ranked:
        near = [self._bundle.attributes.nearest(one) for one in asked]
        rows = concat_arrays([rows for rows, _ in near], np.int32)
        if not len(rows):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        similarity = concat_arrays([similarity for _, similarity in near], np.float32)
        among = self._find_candidates(rows)
        scores = self.score_by_neighbours(rows, to_weights(similarity), among)
        best = find_top_k(scores, k)
        return (best if among is None else among[best]).astype(np.int64), scores[best]

    def _rank_neighbours(self, asked: Sequence[Attributes], k: int) -> Ranked:
        (attributes,) = asked
        rows, similarity = self._bundle.attributes.nearest(attributes, k)
        return rows.astype(np.int64), similarity

    def _find_candidates(self, rows: Int32Array) -> Int64Array | None:
        """Precomputed companions of these rows, ascending; None for the whole catalogue.

        A mean of vectors has its best companions among those of its neighbours.
        """
        table = self._bundle.precomputed
        if table is None or self._n_items < NEARBY_MIN_ITEMS:
            return None
        companions = np.unique(table.rows[rows])
        return companions[companions >= 0].astype(np.int64)

    def _take_bestsellers(self, rows: AnyArray, k: int) -> Ranked:
        """The first of ascending rows: the catalogue is sorted most bought first."""
        best = rows[:k].astype(np.int64)
        shares = self._bundle.n_orders[best] / self._bundle.manifest.n_orders
        return best, shares.astype(np.float32)


@dataclass(frozen=True)
class ColdNeighbours(RaggedRows):
    """List i holds the catalogue rows nearest to cold product i, most similar first.

    `weights` sum to 1 per list. A list is empty where no attribute is known.
    """

    weights: Float32Array


def find_cold_neighbours(
    index: AttributeIndex, cold: "pa.Table", k: int = NEAREST
) -> ColdNeighbours:
    """The neighbours of each row of `cold` (the columns of Attributes); a millisecond a product."""
    found: dict[Attributes, tuple[Int32Array, Float32Array]] = {}
    every = list(read_attributes(cold))
    for attributes in every:
        # Shops list the same thing many times over.
        if attributes not in found:
            rows, similarity = index.nearest(attributes, k)
            found[attributes] = rows, to_weights(similarity)
    lists = [found[attributes] for attributes in every]
    return ColdNeighbours(
        to_offsets([len(rows) for rows, _ in lists]),
        concat_arrays([rows for rows, _ in lists], np.int32),
        concat_arrays([weights for _, weights in lists], np.float32),
    )


def to_weights(similarity: Float32Array) -> Float32Array:
    """Weights of neighbours with these similarities (n,), none of them 0; they sum to 1."""
    weights = similarity**SIMILARITY_EXPONENT
    total: Float32Array = weights / max(weights.sum(), np.finfo(np.float32).tiny)
    return total
