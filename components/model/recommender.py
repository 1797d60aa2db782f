"""The one ranking code: the gate judges with it, the service answers with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.bundle import Bundle
from components.model.cart_ranking import CartRanker
from components.model.cold_start import ColdStartRanker
from components.model.item_ranking import BLOCK, ItemRanker
from components.model.kinds import LIMITED_DEPTH
from components.model.substitutes import SubstituteScorer
from components.model.text_similarity import Attributes, merge_attributes
from components.model.top_k import RankedRows
from components.model.vector_index import load_cosine_index


@dataclass(frozen=True)
class Recommendation:
    """Rows of the product table, best first."""

    rows: Int64Array
    scores: Float32Array
    source: str
    """`model`, or the source of `ColdStartRanker` that answered."""
    unknown: list[str] = field(default_factory=list)
    """Products asked for that the bundle has no vectors of."""


class Recommender:
    """Of one bundle. Immutable and safe to share between threads."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.n_items = bundle.manifest.n_items
        self.items = ItemRanker(bundle)
        self.carts = CartRanker(bundle, self.items)
        self.cold_start = ColdStartRanker(bundle, self.items)

    @cached_property
    def substitutes(self) -> SubstituteScorer:
        bundle, search = self.bundle, self.bundle.manifest.substitutes
        index = None
        if bundle.in_index_path is not None and search is not None and search.by_index:
            dims, ef = bundle.manifest.dims, search.index.ef
            index = load_cosine_index(bundle.in_index_path, self.n_items, dims, ef)
        return SubstituteScorer(bundle.in_vectors, bundle.attributes, index)

    def recommend(
        self, product_ids: Sequence[str], k: int, attributes: Attributes | None = None
    ) -> Recommendation:
        """The `k` best companions of a product or a cart, never one of `product_ids`.

        When no product has vectors, the answer comes from the cold start. It alone uses
        `attributes`, those of the one product asked for, before its card.
        """
        rows = {id_: self.bundle.records.row(id_) for id_ in dict.fromkeys(product_ids)}
        known = [row for row in rows.values() if row is not None and row < self.n_items]
        unknown = [id_ for id_, row in rows.items() if row is None or row >= self.n_items]
        if known:
            found, scores = self.rank([np.array(known, np.int32)], k)
            kept = found[0] >= 0
            return Recommendation(found[0][kept], scores[0][kept], "model", unknown)
        asked = [self._describe(row, attributes) for row in rows.values()]
        source, best, scores = self.cold_start.rank_companions(
            asked or [self._describe(None, attributes)], k
        )
        return Recommendation(best, scores, source, unknown)

    def similar_items(
        self, product_id: str | None, k: int, attributes: Attributes | None = None
    ) -> Recommendation:
        """The `k` best substitutes; by attributes alone for a product without vectors."""
        row = None if product_id is None else self.bundle.records.row(product_id)
        found = self.rank_substitutes(row, self._describe(row, attributes), k)
        if product_id is not None and (row is None or row >= self.n_items):
            found.unknown.append(product_id)
        return found

    def rank_substitutes(self, row: int | None, attributes: Attributes, k: int) -> Recommendation:
        """As `similar_items`, by row; rows behind the catalogue have no vectors."""
        if row is not None and row < self.n_items:
            return Recommendation(*self.substitutes.rank(row, attributes, k), "model")
        source, best, scores = self.cold_start.rank_substitutes(attributes, k)
        return Recommendation(best, scores, source)

    def rank(self, queries: Sequence[Int32Array], k: int) -> RankedRows:
        """Rows and scores (n_queries, k), without the query's own products.

        A query is the rows of one product or of a cart. Missing ones are -1 and -inf. Equal scores
        go to the lower row, which was bought more often. Kinds are limited as the manifest says.
        """
        kinds, limits = self.bundle.kinds, self.bundle.manifest.kind_limits
        if kinds is None or limits.are_lifted:
            return self.rank_unlimited(queries, k)
        ranked = self.rank_unlimited(queries, max(k, LIMITED_DEPTH))
        return kinds.limit(ranked, queries, limits, k)

    def rank_unlimited(self, queries: Sequence[Int32Array], k: int) -> RankedRows:
        """As `rank`, of whatever kinds."""
        rows = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        items = [i for i, query in enumerate(queries) if len(query) == 1]
        carts = [i for i, query in enumerate(queries) if len(query) != 1]
        for start in range(0, len(items), BLOCK):
            block = items[start : start + BLOCK]
            products = np.concatenate([queries[i] for i in block])
            rows[block], scores[block] = self.items.rank(products, k)
        for start in range(0, len(carts), BLOCK):
            block = carts[start : start + BLOCK]
            rows[block], scores[block] = self.carts.rank([queries[i] for i in block], k)
        return rows, scores

    def compute_chance_gain(self, products: Int32Array | None, rows: Int64Array) -> Float32Array:
        """NDCG@K that `rows` (n, depth) earn by chance in first place; 0 in bundles of before.

        On the pages of `products` (n,), or without them in carts, where one product is relevant.
        """
        chance = self.bundle.chance
        if chance is None:
            return np.zeros(rows.shape, np.float32)
        return chance.shares[rows] if products is None else chance.compute_gain(products, rows)

    def _describe(self, row: int | None, attributes: Attributes | None) -> Attributes:
        card = {} if row is None else self.bundle.records.card(row)
        return merge_attributes(attributes, card)
