"""The one ranking code: the gate judges with it, the service answers with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bento.evidence import AT, Evidence
from bento.fallback import Fallback
from bento.forest import predict
from bento.substitutes import Substitutes
from components.attributes.text import Attributes, build_attributes
from components.attributes.variants import without_variants
from components.bundle.bundle import Bundle, CartWeights, Forest
from components.bundle.index import items_matrix, load_index, queries_matrix, search

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

BLOCK = 64
"""Queries scored at once: large enough for BLAS, small enough for the cache and for memory."""

DEPTH = 60
"""Candidates of a cart, and of a page, that a forest re-ranks."""

SPARE = 50
"""Places ranked beyond those asked for where variants are left out."""

RARE = 0.003
"""Probability of a companion at which co-occurrence begins to count in full; flat around it."""

GROUPS = 512
"""Groups of columns whose best scores bound the k-th best; see `best_of`."""


NO_ROWS, NO_SCORES = np.empty(0, np.int32), np.empty(0, np.float32)


@dataclass(frozen=True)
class Recommendation:
    """An answer: rows of the bundle's product table with scores, best first, and how it came."""

    rows: Rows
    scores: Floats
    source: str
    """`model`, or the step of `Fallback` that answered."""
    unknown: list[str] = field(default_factory=list)
    """Products asked for that the bundle has no vectors of."""


class Recommender:
    """Ranks the catalogue of one bundle. Immutable and safe to share between threads.

    A page: the bundle's own answer, re-ranked when it was made. A bundle without pages ranks by
    in·out + beta log p + g trend + w log(1 + P / RARE), P being the size-weighted probability of a
    companion; by the bundle's index where it has one.

    A cart: candidates are what its products name as companions, by co-occurrence and neighbours;
    where they name too few, what is near by vectors, then bestsellers. The bundle's forest ranks
    them; without one, a weighted sum does: what co-occurrence, cosines and neighbours say for each
    product is added up, and from the vectors comes the largest probability (softmax over the
    catalogue) that any of its products gives a candidate. Averaging vectors instead loses a quarter
    to half of the hits.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        manifest = bundle.manifest
        self._n_items = manifest.n_items
        self.evidence = Evidence(bundle)
        dials, weights = [self.evidence.log_popularity], [manifest.beta_single]
        if bundle.facts is not None:
            dials.append(bundle.facts.items[:, 0])
            weights.append(manifest.page_trend)
        self._items = items_matrix(bundle.out_vectors, *dials)
        self._queries = queries_matrix(bundle.in_vectors, *weights)
        self._row_of = {id_: row for row, id_ in enumerate(bundle.product_ids)}
        self._cards = [bundle.products[name].combine_chunks() for name in Attributes._fields]
        attributes = bundle.attributes or build_attributes(bundle.products, self._n_items)
        self._fallback = Fallback(bundle, attributes, self.score_as)
        self._substitutes = Substitutes(bundle.in_vectors, attributes)
        self._index = None
        if bundle.index_path and manifest.index:
            self._index = load_index(
                bundle.index_path, self._n_items, self._items.shape[1], manifest.index.ef
            )

    def row(self, product_id: str) -> int | None:
        """The product's row in the bundle's product table, or None."""
        return self._row_of.get(product_id)

    def recommend(
        self, product_ids: Sequence[str], k: int, attributes: Attributes | None = None
    ) -> Recommendation:
        """The `k` best companions of a product or a cart, never one of `product_ids`.

        Fewer than `k` only when the catalogue has no more. Products without vectors are named in
        `unknown`; when all are, the answer is a fallback that says so in `source`. `attributes` are
        those of the one product asked for, id or not; they are heard only by fallbacks, and before
        what the product table says.
        """
        asked = list(dict.fromkeys(product_ids))
        rows = {id_: self._row_of.get(id_) for id_ in asked}
        with_vectors = [row for row in rows.values() if row is not None and row < self._n_items]
        unknown = [id_ for id_, row in rows.items() if row is None or row >= self._n_items]
        if with_vectors:
            found, scores = self.rank([np.array(with_vectors, np.int32)], k)
            kept = found[0] >= 0
            return Recommendation(found[0][kept], scores[0][kept], "model", unknown)
        described = [self._described(row, attributes) for row in rows.values()]
        source, best, scores = self._fallback.companions(
            described or [self._described(None, attributes)], k
        )
        return Recommendation(best, scores, source, unknown)

    def similar(
        self, product_id: str | None, k: int, attributes: Attributes | None = None
    ) -> Recommendation:
        """The `k` products that could replace one, by the company they are bought in and by looks.

        One without vectors gets those that look most alike; see `recommend` for the rest.
        """
        row = None if product_id is None else self._row_of.get(product_id)
        if row is not None and row < self._n_items:
            described = self._described(row, None)
            found, scores = best_of(self._substitutes.scores(row, described)[None], k)
            kept = found[0] >= 0
            return Recommendation(found[0][kept], scores[0][kept], "model")
        unknown = [] if product_id is None else [product_id]
        described = self._described(row, attributes)
        source, best, scores = self._fallback.substitutes(described, k)
        return Recommendation(best, scores, source, unknown)

    def score_as(self, rows: Ints, weights: Floats) -> Floats:
        """Scores (n_items,) for a product that catalogue rows, weighted to a sum of 1, stand for.

        Its IN vector is the mean of theirs, and so are its companions' probabilities.
        """
        scores: Floats = self._items @ (weights @ self._queries[rows])
        if self.bundle.manifest.page_cooccurrence:
            probability = np.zeros(self._n_items, np.float32)
            for row, weight in zip(rows, weights, strict=True):
                pairs = slice(*self.bundle.pair_offsets[row : row + 2])
                companions = self.bundle.pair_rows[pairs]
                probability[companions] += weight * self.bundle.pair_probability[pairs]
            gain = np.log1p(probability / np.float32(RARE))
            scores += np.float32(self.bundle.manifest.page_cooccurrence) * gain
        return scores

    def _described(self, row: int | None, attributes: Attributes | None) -> Attributes:
        """What the asking one says of a product, else what its card says."""
        given = attributes or Attributes()
        if row is None:
            return given
        card = (column[row].as_py() for column in self._cards)
        known = zip(given, card, strict=True)
        return Attributes._make(own if own is not None else other for own, other in known)

    def rank(self, queries: Sequence[Ints], k: int) -> tuple[Rows, Floats]:
        """Rows and scores (n_queries, k), best first, without the query's own products.

        A query is the rows of one product or of a cart. Where the catalogue has fewer than `k`
        others, rows are filled up with -1 and scores with -inf. Equal scores go to the lower row,
        that is to the product bought more often, as far as float32 products are equal.
        """
        rows = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        pages = [i for i, query in enumerate(queries) if len(query) == 1]
        carts = [i for i, query in enumerate(queries) if len(query) != 1]
        rank_pages = self._look_up if self._has_pages(k) else self.rank_pages
        blocks = [(rank_pages, pages[i : i + BLOCK]) for i in range(0, len(pages), BLOCK)]
        blocks += [(self.rank_carts, carts[i : i + BLOCK]) for i in range(0, len(carts), BLOCK)]
        for ranked, block in blocks:
            rows[block], scores[block] = ranked([queries[i] for i in block], k)
        return rows, scores

    def rank_pages(self, queries: Sequence[Ints], k: int) -> tuple[Rows, Floats]:
        """As `rank`, for single products, by the weights of the blend."""
        ranked = self._rank_by_index if self._index else self._rank_exactly
        if (variants := self.bundle.variants) is None:
            return ranked(queries, k)
        return without_variants(*ranked(queries, k + SPARE), queries, variants, k)

    def rank_carts(self, queries: Sequence[Ints], k: int) -> tuple[Rows, Floats]:
        """As `rank`, for carts, by the forest or by the weights of the blend."""
        carts, variants = self.carts_of(queries), self.bundle.variants
        rows, features = self.cart_candidates(carts, max(DEPTH, k) + (SPARE if variants else 0))
        scores = blend_carts(features, self.bundle.manifest.cart_weights)
        scores[rows < 0] = -np.inf
        if variants is not None:
            for mine, found, cart in zip(scores, rows, carts, strict=True):
                mine[np.isin(found, variants.of(cart))] = -np.inf
        if self.bundle.forest is not None:
            rows, features, scores = _sorted(scores, rows, features)
            scores = _reranked(scores, features, self.bundle.forest)
        rows, scores, _ = _sorted(scores, rows, scores)
        return np.where(scores > -np.inf, rows, -1)[:, :k], scores[:, :k]

    def carts_of(self, queries: Sequence[Ints]) -> list[Ints]:
        """Every product once: ascending, or where the order of a cart tells something, by that."""
        if self.bundle.manifest.cart_recency == 1:
            return [np.unique(query) for query in queries]
        lasts = (np.unique(query[::-1], return_index=True)[1] for query in queries)
        return [
            query[::-1][np.sort(last)][::-1] for query, last in zip(queries, lasts, strict=True)
        ]

    def cart_candidates(self, carts: Sequence[Ints], depth: int) -> tuple[Rows, Floats]:
        """`depth` candidates (n_carts, depth), -1 where there are no more, and their features."""
        said = self.evidence.said(carts)
        rows = self.evidence.candidates(carts, said, depth)
        for cart, mine in zip(carts, rows, strict=True):
            if mine[-1] < 0:
                self._fill(mine, cart)
        return rows, self.evidence.features(carts, said, rows)

    def _fill(self, rows: Rows, cart: Ints) -> None:
        """Put products that are near by vectors, then bestsellers, where `rows` has -1."""
        n_found = int((rows >= 0).sum())
        near = self._nearest(cart, len(rows)).T.ravel() if len(cart) else np.empty(0, np.int64)
        best = np.arange(min(len(rows) + len(cart), self._n_items))
        every = np.concatenate([rows[:n_found], near, best])
        every = every[np.sort(np.unique(every, return_index=True)[1])]
        every = every[~np.isin(every, cart)][: len(rows)]
        rows[: len(every)] = every

    def _nearest(self, products: Ints, k: int) -> Rows:
        """The `k` best by vectors and dials alone for every product, (n_products, k)."""
        vectors, k = self._queries[products], min(k, self._n_items)
        if self._index:
            return search(self._index, vectors, k)
        return best_of(vectors @ self._items.T, k)[0]

    def _has_pages(self, k: int) -> bool:
        """Whether the pages are deep enough for `k`, or as deep as the catalogue."""
        pages = self.bundle.pages
        return pages is not None and pages.rows.shape[1] >= min(k, self._n_items - 1)

    def _look_up(self, queries: Sequence[Ints], k: int) -> tuple[Rows, Floats]:
        pages = self.bundle.pages
        assert pages is not None
        products, width = np.concatenate(queries), min(k, pages.rows.shape[1])
        rows = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows[:, :width] = pages.rows[products, :width]
        scores[:, :width] = pages.scores[products, :width]
        return rows, scores

    def _counted(self, product: int) -> tuple[Ints, Floats]:
        """Companions of a product on its page, and what co-occurrence adds to their scores."""
        weight = np.float32(self.bundle.manifest.page_cooccurrence)
        if not weight:
            return NO_ROWS, NO_SCORES
        pairs = slice(*self.bundle.pair_offsets[product : product + 2])
        probability = self.bundle.pair_probability[pairs]
        return self.bundle.pair_rows[pairs], weight * np.log1p(probability / np.float32(RARE))

    def _rank_exactly(self, queries: Sequence[Ints], k: int) -> tuple[Rows, Floats]:
        block: Floats = self._queries[np.concatenate(queries)] @ self._items.T
        for scores, query in zip(block, queries, strict=True):
            companions, gain = self._counted(query[0])
            scores[companions] += gain
            scores[query] = -np.inf
        return best_of(block, k)

    def _rank_by_index(self, queries: Sequence[Ints], k: int) -> tuple[Rows, Floats]:
        """As `_rank_exactly`, as far as the index finds the best k by vectors.

        Co-occurrence only ever adds, so that the best are among those and the counted companions.
        """
        rows = np.full((len(queries), k), -1, np.int64)
        best = np.full((len(queries), k), -np.inf, np.float32)
        products = np.array([query[0] for query in queries])
        nearest = self._nearest(products, k + 1)
        for i, product in enumerate(products):
            companions, gain = self._counted(product)
            others = nearest[i][~np.isin(nearest[i], companions)]
            # In order of rows, for ties go to the lower one.
            candidates = np.concatenate([companions, others]).astype(np.int64)
            order = np.argsort(candidates)
            scores = self._items[candidates] @ self._queries[product]
            scores[: len(companions)] += gain
            scores[candidates == product] = -np.inf
            columns, best[i : i + 1] = best_of(scores[order][None], k)
            rows[i] = np.where(columns[0] >= 0, candidates[order][columns[0]], -1)
        return rows, best


def best_of(scores: Floats, k: int) -> tuple[Rows, Floats]:
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


def _lower_bounds(scores: Floats, depth: int) -> Floats:
    """A value per row (n,) that at least `depth` of its scores reach, and few more.

    That is the depth-th best of the maxima of many groups of columns: several times cheaper than
    a partition of the whole row, which sparse scores slow down further.
    """
    n, width = scores.shape
    groups = min(width, max(GROUPS, 2 * depth))
    per_group = width // groups
    whole = scores[:, : per_group * groups].reshape(n, per_group, groups)
    maxima = whole.max(axis=1)
    bounds: Floats = np.partition(maxima, groups - depth, axis=1)[:, groups - depth]
    return bounds


def blend_carts(features: Floats, weights: CartWeights) -> Floats:
    """Scores (n_carts, depth) of carts' candidates by the weighted sum of what is said for them."""
    total = weights.neighbours * features[..., AT["neighbours_sum"]]
    total += weights.cooccurrence * features[..., AT["probability_sum"]]
    total += weights.cosine * features[..., AT["cosine_sum"]]
    total += weights.vectors * np.exp(features[..., AT["vector_max"]])
    scores: Floats = total * np.exp(weights.trend * features[..., AT["trend_short"]])
    return scores.astype(np.float32)


def _reranked(scores: Floats, features: Floats, forest: Forest) -> Floats:
    """Scores of the forest for the first DEPTH of sorted candidates, with the others behind."""
    top = scores[:, :DEPTH]
    grown = predict(forest, features[:, :DEPTH].reshape(-1, features.shape[2])).reshape(top.shape)
    return stacked(grown, scores)


def stacked(best: Floats, scores: Floats) -> Floats:
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


def _sorted(scores: Floats, rows: Rows, values: Floats) -> tuple[Rows, Floats, Floats]:
    """Rows, values and scores by falling scores; ties go to the lower row."""
    order = np.lexsort((rows, -scores), axis=1)
    deep = order if values.ndim == 2 else order[..., None]
    return (
        np.take_along_axis(rows, order, 1),
        np.take_along_axis(values, deep, 1),
        np.take_along_axis(scores, order, 1),
    )
