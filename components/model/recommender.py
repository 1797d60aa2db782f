"""The one ranking code: the gate judges with it, the service answers with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.bundle import Bundle, CartWeights
from components.model.cold_start import ColdStartRanker
from components.model.features import COLUMN, CandidatePairs, FeatureBuilder, places
from components.model.float16 import inner_products, to_float32
from components.model.product_records import ProductRecords, build_records
from components.model.sorted_keys import find_keys, find_present, lookup_values
from components.model.substitutes import Substitutes
from components.model.text_similarity import (
    AttributeIndex,
    Attributes,
    build_attribute_index,
    described,
    find_top_k,
)
from components.model.tree_ensemble import TreeScorer, mix_scores
from components.model.variants import drop_variants
from components.model.vector_index import build_query_matrix, load_index, search

BLOCK = 64
"""Queries scored at once: large enough for BLAS, small enough for the cache and for memory."""

N_CANDIDATES = 60
"""Candidates of a cart, and of a page, that a forest re-ranks."""

VARIANT_OVERFETCH = 50
"""Places ranked beyond those asked for where variants are left out."""

COOCCURRENCE_SCALE = 0.003
"""Probability of a companion at which co-occurrence begins to count in full; flat around it."""

NEARBY_MIN_ITEMS = 20_000
"""Catalogue size from which companions of a product without vectors are looked for on its
neighbours' pages only. On the demo data's 24,607 products the ten best are the same either way."""

SPEAKERS, HEARD, BESTSELLERS = 10, 20, 100
"""Where pages are ranked among companions, the strongest of those speak for so many of theirs, and
at least so many bestsellers are looked at, too."""

GROUPS = 512
"""Groups of columns whose best scores bound the k-th best; see `rank_columns`."""


NO_ROWS, NO_SCORES = np.empty(0, np.int32), np.empty(0, np.float32)


@dataclass(frozen=True)
class Recommendation:
    """An answer: rows of the bundle's product table with scores, best first, and how it came."""

    rows: Int64Array
    scores: Float32Array
    source: str
    """`model`, or the step of `ColdStartRanker` that answered."""
    unknown: list[str] = field(default_factory=list)
    """Products asked for that the bundle has no vectors of."""


class Recommender:
    """Ranks the catalogue of one bundle. Immutable and safe to share between threads.

    A page: the bundle's own answer, re-ranked when it was made. A bundle without pages ranks by
    in·out + beta log p + g trend + w log(1 + P / RARE), P being the size-weighted probability of a
    companion. It looks at the whole catalogue, or as its manifest says only at companions, theirs
    and bestsellers, or at what its index finds.

    A cart: candidates are what its products name as companions, by co-occurrence and neighbours;
    where they name too few, what is near by vectors, then bestsellers. The bundle's forest ranks
    them; without one, a weighted sum does: what co-occurrence, cosines and neighbours say for each
    product is added up, and from the vectors comes the largest probability (softmax over the
    catalogue) that any of its products gives a candidate. Averaging vectors instead loses a quarter
    to half of the hits.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.n_items = bundle.manifest.n_items
        self.feature_builder = FeatureBuilder(bundle)

    # What only some questions need is made when the first one does: a service whose answers are
    # looked up neither copies vectors nor loads an index.

    @cached_property
    def _bias(self) -> Float32Array:
        return self._bias_of(slice(None))

    def _bias_of(self, rows: Int64Array | slice) -> Float32Array:
        """What the weights of the blend make of popularity and trend of these rows, (n_rows,)."""
        bundle, manifest = self.bundle, self.bundle.manifest
        bias = manifest.beta_single * np.log(bundle.n_orders[rows] / manifest.n_orders)
        if bundle.item_features is not None:
            bias += manifest.page_trend * bundle.item_features.items[rows, 0]
        rounded: Float32Array = bias.astype(np.float32)
        return rounded

    @cached_property
    def _dials(self) -> list[float]:
        """Weights of the dimensions that the index has beyond the vectors."""
        manifest = self.bundle.manifest
        trend = [manifest.page_trend] if self.bundle.item_features is not None else []
        return [manifest.beta_single, *trend]

    @cached_property
    def _index(self) -> Any:
        """The bundle's index, or None where there is none."""
        bundle, item_features = self.bundle, self.bundle.manifest.index
        if bundle.index_path is None or item_features is None:
            return None
        dims = bundle.manifest.dims + len(self._dials)
        return load_index(bundle.index_path, self.n_items, dims, item_features.ef)

    @cached_property
    def _trees(self) -> TreeScorer:
        assert self.bundle.reranker is not None
        return TreeScorer(self.bundle.reranker)

    @cached_property
    def _records(self) -> ProductRecords:
        return self.bundle.records or build_records(self.bundle.products)[0]

    @cached_property
    def attributes(self) -> AttributeIndex:
        """What is written on the catalogue's products."""
        return self.bundle.attributes or build_attribute_index(self.bundle.products, self.n_items)

    @cached_property
    def _fallback(self) -> ColdStartRanker:
        return ColdStartRanker(
            self.bundle, self.attributes, self.score_by_neighbours, self.find_rows_near
        )

    @cached_property
    def _substitutes(self) -> Substitutes:
        return Substitutes(self.bundle.in_vectors, self.attributes)

    def row(self, product_id: str) -> int | None:
        """The product's row in the bundle's product table, or None."""
        return self._records.row(product_id)

    def recommend(
        self, product_ids: Sequence[str], k: int, attributes: Attributes | None = None
    ) -> Recommendation:
        """The `k` best companions of a product or a cart, never one of `product_ids`.

        Fewer than `k` only when the catalogue has no more. Products without vectors are named in
        `unknown`; when all are, the answer is a fallback that says so in `source`. `attributes` are
        those of the one product asked for, id or not; they are heard only by fallbacks, and before
        what the product table says.
        """
        rows = {id_: self.row(id_) for id_ in dict.fromkeys(product_ids)}
        unknown = [id_ for id_, row in rows.items() if not self.has_vectors(row)]
        if len(unknown) < len(rows):
            known = [row for row in rows.values() if row is not None and row < self.n_items]
            found, scores = self.rank([np.array(known, np.int32)], k)
            kept = found[0] >= 0
            return Recommendation(found[0][kept], scores[0][kept], "model", unknown)
        described = [self.described(row, attributes) for row in rows.values()]
        source, best, scores = self.recommend_cold(described, attributes, k)
        return Recommendation(best, scores, source, unknown)

    def recommend_cold(
        self, described: Sequence[Attributes], attributes: Attributes | None, k: int
    ) -> tuple[str, Int64Array, Float32Array]:
        """Source, rows and scores of what goes with products that have no vectors."""
        return self._fallback.companions(described or [self.described(None, attributes)], k)

    def similar_items(
        self, product_id: str | None, k: int, attributes: Attributes | None = None
    ) -> Recommendation:
        """The `k` products that could replace one, by the company they are bought in and by looks.

        One without vectors gets those that look most alike; see `recommend` for the rest.
        """
        row = None if product_id is None else self.row(product_id)
        found = self.substitutes(row, self.described(row, attributes), k)
        if product_id is not None and not self.has_vectors(row):
            found.unknown.append(product_id)
        return found

    def substitutes(self, row: int | None, described: Attributes, k: int) -> Recommendation:
        """As `similar_items`, for a row of the catalogue, or for what looks like that."""
        if row is not None and row < self.n_items:
            found, scores = rank_columns(self._substitutes.scores(row, described)[None], k)
            kept = found[0] >= 0
            return Recommendation(found[0][kept], scores[0][kept], "model")
        source, best, scores = self._fallback.substitutes(described, k)
        return Recommendation(best, scores, source)

    def has_vectors(self, row: int | None) -> bool:
        """Whether the model knows that product."""
        return row is not None and row < self.n_items

    def page(self, row: int, depth: int) -> tuple[Int64Array, Float32Array]:
        """Rows and scores of up to `depth` companions on a product's page, best first."""
        if self._has_pages(depth):
            assert self.bundle.precomputed is not None
            rows = self.bundle.precomputed.rows[row, :depth].astype(np.int64)
            scores = self.bundle.precomputed.scores[row, :depth]
        else:
            block, values = self.rank_items([np.array([row], np.int32)], depth)
            rows, scores = block[0], values[0]
        if rows[-1] >= 0:
            return rows, scores
        n = int((rows >= 0).sum())
        return rows[:n], scores[:n]

    def score_rows(self, asked: Sequence[int], rows: Int64Array) -> Float32Array:
        """Scores (n,) of any rows by vectors, popularity and trend alone, for the best of `asked`.

        Without `asked`, by popularity and trend.
        """
        if not len(asked):
            return self._bias_of(rows)
        vectors = self.bundle.in_vectors[np.array(asked)]
        likely = inner_products(vectors, self.bundle.out_vectors[rows])
        scores: Float32Array = likely.max(axis=0) + self._bias_of(rows)
        return scores

    def score_substitutes(self, row: int, described: Attributes) -> Float32Array:
        """Scores (n_items,) of the whole catalogue as substitutes; -inf for the row itself."""
        return self._substitutes.scores(row, described)

    def score_by_neighbours(
        self, rows: Int32Array, weights: Float32Array, among: Int64Array | None = None
    ) -> Float32Array:
        """Scores for a product that catalogue rows, weighted to a sum of 1, stand for.

        Its IN vector is the mean of theirs, and so are its companions' probabilities. Of all
        products (n_items,), or of the rows `among` (n,), which are ascending.
        """
        bundle = self.bundle
        every = slice(None) if among is None else among
        mean = weights @ bundle.in_vectors[rows]
        scores: Float32Array = inner_products(mean[None], bundle.out_vectors[every])[0]
        scores += self._bias if among is None else self._bias_of(among)
        if weight := bundle.manifest.page_cooccurrence:
            probability = np.zeros(len(scores), np.float32)
            for row, share in zip(rows, weights, strict=True):
                pairs = slice(*bundle.pair_offsets[row : row + 2])
                likely = share * bundle.pair_probability[pairs]
                if among is None:
                    probability[bundle.pair_rows[pairs]] += likely
                else:
                    place, there = find_keys(among, bundle.pair_rows[pairs])
                    probability[place[there]] += likely[there]
            scores += np.float32(weight) * np.log1p(probability / np.float32(COOCCURRENCE_SCALE))
        return scores

    def find_rows_near(self, rows: Int32Array) -> Int64Array | None:
        """What may go with products like these, ascending; None where it may be anything.

        That is what is on their pages: a mean of vectors has its best companions among theirs, and
        a large catalogue is not to be gone through for one question.
        """
        if self.bundle.precomputed is None or self.n_items < NEARBY_MIN_ITEMS:
            return None
        precomputed = np.unique(self.bundle.precomputed.rows[rows])
        return precomputed[precomputed >= 0].astype(np.int64)

    def described(self, row: int | None, attributes: Attributes | None) -> Attributes:
        """What the asking one says of a product, else what its card says."""
        return described(attributes, {} if row is None else self._records.card(row))

    def rank(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        """Rows and scores (n_queries, k), best first, without the query's own products.

        A query is the rows of one product or of a cart. Where the catalogue has fewer than `k`
        others, rows are filled up with -1 and scores with -inf. Equal scores go to the lower row,
        that is to the product bought more often, as far as float32 products are equal.
        """
        rows = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        precomputed = [i for i, query in enumerate(queries) if len(query) == 1]
        carts = [i for i, query in enumerate(queries) if len(query) != 1]
        rank_items = self._look_up if self._has_pages(k) else self.rank_items
        blocks = [
            (rank_items, precomputed[i : i + BLOCK]) for i in range(0, len(precomputed), BLOCK)
        ]
        blocks += [(self.rank_carts, carts[i : i + BLOCK]) for i in range(0, len(carts), BLOCK)]
        for ranked, block in blocks:
            rows[block], scores[block] = ranked([queries[i] for i in block], k)
        return rows, scores

    def rank_items(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        """As `rank`, for single products, by the weights of the blend."""
        is_exact = self._index is None and not self.bundle.manifest.among_companions
        ranked = self._rank_exactly if is_exact else self._rank_found
        if (variants := self.bundle.variants) is None:
            return ranked(queries, k)
        return drop_variants(*ranked(queries, k + VARIANT_OVERFETCH), queries, variants, k)

    def rank_carts(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        """As `rank`, for carts, by the forest or by the weights of the blend."""
        carts, variants = self.normalize_carts(queries), self.bundle.variants
        depth = max(N_CANDIDATES, k) + (VARIANT_OVERFETCH if variants else 0)
        if self.bundle.reranker is None and self.feature_builder.has_item_scores:
            rows, scores = self._voiced(carts, depth)
        else:
            find_pairs = self.feature_builder.find_pairs(
                carts, blended=self.bundle.reranker is None
            )
            rows, scores = self._blended(carts, find_pairs, depth)
        scores[rows < 0] = -np.inf
        if variants is not None:
            for mine, found, cart in zip(scores, rows, carts, strict=True):
                if len(own := variants.find_variants(cart)):
                    mine[np.isin(found, own)] = -np.inf
        rows, scores = _sorted(scores, rows)
        if self.bundle.reranker is not None:
            features = self.feature_builder.features(carts, find_pairs, rows[:, :N_CANDIDATES])
            predicted = self._trees.predict(features.reshape(-1, features.shape[2]))
            predicted = predicted.reshape(features.shape[:2])
            rows, scores = rerank(rows, scores, predicted, self.bundle.manifest.cart_mix)
        return np.where(scores > -np.inf, rows, -1)[:, :k], scores[:, :k]

    def _voiced(self, carts: Sequence[Int32Array], depth: int) -> tuple[Int64Array, Float32Array]:
        """As `_blended`, where what products say for others was added up in advance."""
        rows = np.full((len(carts), depth), -1, np.int64)
        scores = np.zeros((len(carts), depth), np.float32)
        for cart, mine, score in zip(carts, rows, scores, strict=True):
            found, sums = self.feature_builder.sum_item_scores(cart)
            sums[find_present(found, cart)] = -np.inf
            best = find_top_k(sums, depth)
            best = best[sums[best] > 0]
            mine[: len(best)], score[: len(best)] = found[best], sums[best]
            if len(best) < depth:
                self._fill(mine, cart)
                score[len(best) :] = lookup_values(found, sums, mine[len(best) :])
            self._add_vectors(cart, mine, score)
        return rows, scores

    def _blended(
        self, carts: Sequence[Int32Array], find_pairs: CandidatePairs, depth: int
    ) -> tuple[Int64Array, Float32Array]:
        """Candidates and what `blend_cart_scores` gives them, without the features it does not look at.

        A cart costs a third so.
        """
        feature_builder = self.feature_builder
        sums = feature_builder.sums(find_pairs)
        rows, scores = feature_builder.candidates(carts, find_pairs, sums, depth)
        for i, (cart, mine, score) in enumerate(zip(carts, rows, scores, strict=True)):
            if mine[-1] < 0:
                self._fill(mine, cart)
                score[:] = feature_builder.get_sums(find_pairs, sums, i, mine)
            self._add_vectors(cart, mine, score)
        return rows, scores

    def _add_vectors(self, cart: Int32Array, rows: Int64Array, scores: Float32Array) -> None:
        """Add what the vectors of a cart say for candidates to their scores."""
        feature_builder, weights = self.feature_builder, self.bundle.manifest.cart_weights
        if not weights.vectors:
            return
        best = np.exp(feature_builder.logits(cart, np.maximum(rows, 0)).max(axis=0))
        if weights.trend:
            best *= np.exp(weights.trend * feature_builder.item_features.items[rows, 0])
        scores += weights.vectors * best

    def normalize_carts(self, queries: Sequence[Int32Array]) -> list[Int32Array]:
        """Every product once: ascending, or where the order of a cart tells something, by that."""
        if self.bundle.manifest.cart_recency == 1:
            return [np.array(sorted(set(query.tolist())), np.int32) for query in queries]
        lasts = (np.unique(query[::-1], return_index=True)[1] for query in queries)
        return [
            query[::-1][np.sort(last)][::-1] for query, last in zip(queries, lasts, strict=True)
        ]

    def find_cart_candidates(
        self, carts: Sequence[Int32Array], depth: int
    ) -> tuple[Int64Array, Float32Array]:
        """`depth` candidates (n_carts, depth), -1 where there are no more, and their features.

        In order of rows: what learns from them must not inherit the order they were drawn by.
        """
        find_pairs = self.feature_builder.find_pairs(carts)
        rows, _ = self.feature_builder.candidates(
            carts, find_pairs, self.feature_builder.sums(find_pairs), depth
        )
        for cart, mine in zip(carts, rows, strict=True):
            if mine[-1] < 0:
                self._fill(mine, cart)
        rows = np.sort(rows, axis=1)
        return rows, self.feature_builder.features(carts, find_pairs, rows)

    def _fill(self, rows: Int64Array, cart: Int32Array) -> None:
        """Put products that are near by vectors, then bestsellers, where `rows` has -1."""
        n_found = int((rows >= 0).sum())
        near = self._near(cart, len(rows)).T.ravel() if len(cart) else np.empty(0, np.int64)
        near = near[near >= 0]
        best = np.arange(min(len(rows) + len(cart), self.n_items))
        every = np.concatenate([rows[:n_found], near, best])
        every = every[np.sort(np.unique(every, return_index=True)[1])]
        every = every[~np.isin(every, cart)][: len(rows)]
        rows[: len(every)] = every

    def _near(self, products: Int32Array, k: int) -> Int64Array:
        """Some that are near to every product, best first, (n_products, up to k)."""
        if self.bundle.precomputed is not None:
            return self.bundle.precomputed.rows[products, :k].astype(np.int64)
        if self.bundle.manifest.among_companions:
            return self._rank_found(list(products[:, None]), k)[0]
        return self._nearest(products, k)

    def _nearest(self, products: Int32Array, k: int) -> Int64Array:
        """The `k` best by vectors and dials alone for every product, (n_products, k)."""
        vectors, k = self.bundle.in_vectors[products], min(k, self.n_items)
        if self._index:
            return search(self._index, build_query_matrix(vectors, *self._dials), k)
        return rank_columns(inner_products(vectors, self.bundle.out_vectors) + self._bias, k)[0]

    def _has_pages(self, k: int) -> bool:
        """Whether the pages are deep enough for `k`, or as deep as the catalogue."""
        precomputed = self.bundle.precomputed
        return precomputed is not None and precomputed.rows.shape[1] >= min(k, self.n_items - 1)

    def _look_up(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        precomputed = self.bundle.precomputed
        assert precomputed is not None
        products, width = np.concatenate(queries), min(k, precomputed.rows.shape[1])
        rows = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows[:, :width] = precomputed.rows[products, :width]
        scores[:, :width] = precomputed.scores[products, :width]
        return rows, scores

    def _counted(self, product: int) -> tuple[Int32Array, Float32Array]:
        """Companions of a product on its page, and what co-occurrence adds to their scores."""
        if not self.bundle.manifest.page_cooccurrence:
            return NO_ROWS, NO_SCORES
        pairs = slice(*self.bundle.pair_offsets[product : product + 2])
        return self.bundle.pair_rows[pairs], self._gain(pairs)

    def _gain(self, pairs: slice | Int64Array) -> Float32Array:
        """What co-occurrence adds to scores on pages, by places in the bundle's pair arrays."""
        weight = np.float32(self.bundle.manifest.page_cooccurrence)
        gain: Float32Array = weight * np.log1p(
            self.bundle.pair_probability[pairs] / np.float32(COOCCURRENCE_SCALE)
        )
        return gain

    def _rank_exactly(
        self, queries: Sequence[Int32Array], k: int
    ) -> tuple[Int64Array, Float32Array]:
        """In blocks, whose scores take 256 MB for a million products."""
        blocks = (queries[start : start + BLOCK] for start in range(0, len(queries), BLOCK))
        found = (rank_columns(self._scored(block), k) for block in blocks)
        rows, scores = zip(*found, strict=True)
        return np.concatenate(rows), np.concatenate(scores)

    def _scored(self, queries: Sequence[Int32Array]) -> Float32Array:
        """Scores (n_queries, n_items) of all products on these pages; -inf for what is asked."""
        asked = self.bundle.in_vectors[np.concatenate(queries)]
        block = inner_products(asked, self.bundle.out_vectors)
        block += self._bias
        for scores, query in zip(block, queries, strict=True):
            companions, gain = self._counted(query[0])
            scores[companions] += gain
            scores[query] = -np.inf
        return block

    def _rank_found(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        """As `_rank_exactly`, as far as the best are among companions and what else is found.

        By the index they are: co-occurrence only ever adds, so that what is no companion must be
        among the best by vectors.
        """
        bundle, products = self.bundle, np.array([query[0] for query in queries], np.int32)
        pair, paired = places(bundle.pair_offsets, products)
        others, whose = (self._by_index if self._index else self._further)(products, k)
        rows = np.concatenate([bundle.pair_rows[pair], others])
        # Of what was found twice, the counted one comes first, and stays.
        keys = np.concatenate([paired, whose]) * self.n_items + rows
        keys, first = np.unique(keys, return_index=True)
        query, rows = np.divmod(keys, self.n_items)
        scores = self._by_vectors(products, query, rows)
        counted = np.flatnonzero(first < len(pair))
        scores[counted] += self._gain(pair[first[counted]])
        scores[rows == products[query]] = -np.inf
        return _best_of_each(query, rows, scores, len(queries), k)

    def _by_index(self, products: Int32Array, k: int) -> tuple[Int64Array, Int64Array]:
        """The `k` best beside the products by vectors and dials, and for whose page each is."""
        nearest = self._nearest(products, k + 1)
        return nearest.ravel(), np.repeat(np.arange(len(products)), nearest.shape[1])

    def _further(self, products: Int32Array, k: int) -> tuple[Int64Array, Int64Array]:
        """Companions of companions, and bestsellers to fill a page, and for whose page each is."""
        bundle, best = self.bundle, np.arange(min(max(BESTSELLERS, k + 1), self.n_items))
        pair, paired = places(bundle.pair_offsets, products, SPEAKERS)
        further, speaker = places(bundle.pair_offsets, bundle.pair_rows[pair], HEARD)
        rows = np.concatenate([bundle.pair_rows[further], np.tile(best, len(products))])
        for_all = np.repeat(np.arange(len(products)), len(best))
        return rows, np.concatenate([paired[speaker], for_all])

    def _by_vectors(
        self, products: Int32Array, query: Int64Array, rows: Int64Array
    ) -> Float32Array:
        """Scores (n,) by vectors, popularity and trend of `rows`, each on a product's page.

        `query`, which ascends, says which of the `products` that is.
        """
        outward = to_float32(self.bundle.out_vectors[rows])
        scores = self._bias[rows]
        ends = np.searchsorted(query, np.arange(len(products) + 1)).tolist()
        for product, (start, end) in zip(products, pairwise(ends), strict=True):
            scores[start:end] += outward[start:end] @ self.bundle.in_vectors[product]
        return scores


def _best_of_each(
    query: Int64Array, rows: Int64Array, scores: Float32Array, n_queries: int, k: int
) -> tuple[Int64Array, Float32Array]:
    """Rows and scores (n_queries, k), best first, of flat candidates, whose `query` ascends."""
    order = np.lexsort((rows, -scores, query))
    starts = np.searchsorted(query, np.arange(n_queries))
    place = np.arange(len(query)) - starts[query]
    order, query, place = (one[place < k] for one in (order, query, place))
    there = scores[order] > -np.inf
    found = np.full((n_queries, k), -1, np.int64)
    best = np.full((n_queries, k), -np.inf, np.float32)
    found[query[there], place[there]] = rows[order[there]]
    best[query[there], place[there]] = scores[order[there]]
    return found, best


def rank_columns(scores: Float32Array, k: int) -> tuple[Int64Array, Float32Array]:
    """Columns and scores (n, k) of the k largest per row, best first; -1 for what is -inf.

    Ties go to the lower column.
    """
    n, width = scores.shape
    columns = np.full((n, k), -1, np.int64)
    best = np.full((n, k), -np.inf, np.float32)
    depth = min(k, width)
    for i, (row, bound) in enumerate(zip(scores, _lower_bounds(scores, depth), strict=True)):
        above = np.flatnonzero(row > bound)
        order = above[np.argsort(-row[above], kind="stable")][:depth]
        if len(order) < depth:
            # Sparse scores tie by the thousand at zero: those need cutting, not sorting.
            order = np.concatenate([order, np.flatnonzero(row == bound)[: depth - len(order)]])
        order = order[row[order] > -np.inf]
        columns[i, : len(order)] = order
        best[i, : len(order)] = row[order]
    return columns, best


def _lower_bounds(scores: Float32Array, depth: int) -> Float32Array:
    """A value per row (n,) that at least `depth` of its scores reach, and few more.

    That is the depth-th best of the maxima of many groups of columns: several times cheaper than
    a partition of the whole row, which sparse scores slow down further.
    """
    n, width = scores.shape
    groups = min(width, max(GROUPS, 2 * depth))
    per_group = width // groups
    whole = scores[:, : per_group * groups].reshape(n, per_group, groups)
    maxima = whole.max(axis=1)
    bounds: Float32Array = np.partition(maxima, groups - depth, axis=1)[:, groups - depth]
    return bounds


def blend_cart_scores(features: Float32Array, weights: CartWeights) -> Float32Array:
    """Scores (n_carts, depth) of carts' candidates by the weighted sum of what is said for them."""
    total = weights.neighbours * features[..., COLUMN["neighbours_sum"]]
    total += weights.cooccurrence * features[..., COLUMN["probability_sum"]]
    total += weights.cosine * features[..., COLUMN["cosine_sum"]]
    total += weights.vectors * np.exp(features[..., COLUMN["vector_max"]])
    scores: Float32Array = total * np.exp(weights.trend * features[..., COLUMN["trend_short"]])
    return scores.astype(np.float32)


def rerank(
    rows: Int64Array, scores: Float32Array, predicted: Float32Array, mix: float
) -> tuple[Int64Array, Float32Array]:
    """Sorted candidates (n, k), the first by what trees give them and the blend, others behind.

    `predicted` (n, depth) are the trees' scores; see `components.model.tree_ensemble.mix_scores`.
    """
    first = scores[:, : predicted.shape[1]]
    return _sorted(stack_below(mix_scores(predicted, first, np.isfinite(first), mix), scores), rows)


def stack_below(best: Float32Array, scores: Float32Array) -> Float32Array:
    """`best` (n, depth) for the first places, and for those behind, `scores` moved below them.

    `scores` (n, k) fall along a row; where they are -inf there is no candidate.
    """
    depth = best.shape[1]
    best = np.where(np.isfinite(scores[:, :depth]), best, -np.inf).astype(np.float32)
    lowest = np.where(np.isfinite(best), best, np.inf).min(axis=1, initial=np.inf)
    behind = np.full(scores[:, depth:].shape, -np.inf, np.float32)
    there = np.isfinite(scores[:, depth:])
    shift = np.broadcast_to((lowest - scores[:, depth - 1])[:, None], there.shape)
    behind[there] = scores[:, depth:][there] + shift[there]
    return np.concatenate([best, behind], axis=1)


def _sorted(scores: Float32Array, rows: Int64Array) -> tuple[Int64Array, Float32Array]:
    """Rows and scores by falling scores; ties go to the lower row."""
    if (scores[:, 1:] < scores[:, :-1]).all():
        return rows, scores
    if len(rows) == 1:
        best = np.lexsort((rows[0], -scores[0]))
        return rows[:, best], scores[:, best]
    order = np.lexsort((rows, -scores), axis=1)
    return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
