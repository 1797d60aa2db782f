"""The one ranking code: the gate judges with it, the service answers with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bento.fallback import Fallback
from bento.substitutes import Substitutes
from components.attributes.text import Attributes, build_attributes
from components.bundle.bundle import Bundle, CartWeights
from components.bundle.index import items_matrix, load_index, queries_matrix, search

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

BLOCK = 64
"""Queries scored at once: large enough for BLAS, small enough for the cache and for memory."""

CELLS = 2**24
"""Scores held at once while carts are ranked, one per asked product and candidate: 64 MB."""

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

    One product: in·out + beta log p + w log(1 + P / RARE), P being the size-weighted probability of
    a companion and w the bundle's weight; by the bundle's index where it has one.

    A cart: what co-occurrence and neighbours say for each of its products is summed, with the
    bundle's weights. From the vectors comes the largest probability (softmax over the catalogue)
    that any of its products gives a candidate: averaging vectors loses a quarter to half of the
    hits.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        manifest = bundle.manifest
        self._n_items = manifest.n_items
        log_popularity = np.log(bundle.n_orders / manifest.n_orders).astype(np.float32)
        self._items = items_matrix(bundle.out_vectors, log_popularity)
        self._single = queries_matrix(bundle.in_vectors, manifest.beta_single)
        self._cart = queries_matrix(bundle.in_vectors, manifest.beta_cart)
        # Of every product's softmax; filled in as carts need them. A race writes the same twice.
        self._log_norms = np.full(self._n_items, np.nan, np.float32)
        self._row_of = {id_: row for row, id_ in enumerate(bundle.product_ids)}
        self._cards = [bundle.products[name].combine_chunks() for name in Attributes._fields]
        attributes = build_attributes(bundle.products, self._n_items)
        self._fallback = Fallback(bundle, attributes, self.score_as)
        self._substitutes = Substitutes(bundle.in_vectors, attributes)
        self._index = None
        if bundle.index_path and manifest.index:
            self._index = load_index(
                bundle.index_path, self._n_items, manifest.dims + 1, manifest.index.ef
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
        scores: Floats = self._items @ (weights @ self._single[rows])
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
        singles = [i for i, query in enumerate(queries) if len(query) == 1]
        carts = [i for i, query in enumerate(queries) if len(query) != 1]
        rank_singles = self._rank_by_index if self._index else self._rank_exactly
        blocks = [(rank_singles, singles[i : i + BLOCK]) for i in range(0, len(singles), BLOCK)]
        for cart_block in _grouped(carts, queries, max(1, CELLS // self._n_items)):
            blocks.append((self._rank_exactly, cart_block))
        for ranked, block in blocks:
            rows[block], scores[block] = ranked([queries[i] for i in block], k)
        return rows, scores

    def scores(self, query: Ints) -> Floats:
        """Exact scores (n_items,) of the whole catalogue for one product or one cart."""
        best: Floats = self._score([query])[0]
        return best

    def _score(self, queries: Sequence[Ints]) -> Floats:
        """Exact scores (n_queries, n_items) of single products, or of carts, not of both."""
        if len(queries[0]) == 1:
            singles: Floats = self._single[np.concatenate(queries)] @ self._items.T
            for row, query in zip(singles, queries, strict=True):
                companions, gain = self._counted(query[0])
                row[companions] += gain
            return singles
        weights = self.bundle.manifest.cart_weights
        if not weights.cooccurrence and not weights.neighbours:
            return self._score_by_vectors(queries)
        if weights.vectors:
            scores = np.float32(weights.vectors) * np.exp(self._score_by_vectors(queries))
        else:
            scores = np.zeros((len(queries), self._n_items), np.float32)
        for row, query in zip(scores, queries, strict=True):
            self._add_counted(row, query, weights)
        return scores

    def _counted(self, product: int) -> tuple[Ints, Floats]:
        """Companions of a product on its page, and what co-occurrence adds to their scores."""
        weight = np.float32(self.bundle.manifest.page_cooccurrence)
        if not weight:
            return NO_ROWS, NO_SCORES
        pairs = slice(*self.bundle.pair_offsets[product : product + 2])
        probability = self.bundle.pair_probability[pairs]
        return self.bundle.pair_rows[pairs], weight * np.log1p(probability / np.float32(RARE))

    def _score_by_vectors(self, queries: Sequence[Ints]) -> Floats:
        """Logarithms of the largest probability that a product of each cart gives a candidate."""
        asked = np.concatenate(queries)
        products, places = np.unique(asked, return_inverse=True)
        logits = self._cart[products] @ self._items.T
        logits -= self._log_norms_of(products, logits)[:, None]
        ends = np.cumsum([len(query) for query in queries])
        return np.stack([logits[cart].max(axis=0) for cart in np.split(places, ends[:-1])])

    def _add_counted(self, scores: Floats, query: Ints, weights: CartWeights) -> None:
        """Add to `scores` (n_items,) what co-occurrence and neighbours say for a cart."""
        bundle = self.bundle
        for product in query:
            # A product names another once, so that no row is met twice in an addition.
            pairs = slice(*bundle.pair_offsets[product : product + 2])
            probability = bundle.pair_probability[pairs]
            scores[bundle.pair_rows[pairs]] += weights.cooccurrence * probability
            if (neighbours := bundle.neighbours) is not None:
                mine = slice(*neighbours.offsets[product : product + 2])
                scale = weights.neighbours * neighbours.scales[product]
                scores[neighbours.rows[mine]] += scale * neighbours.weights[mine]

    def _log_norms_of(self, products: Ints, logits: Floats) -> Floats:
        """Logarithm of the softmax denominators of `products`, whose logits are (n, n_items)."""
        new = np.flatnonzero(np.isnan(self._log_norms[products]))
        if len(new):
            top = logits[new].max(axis=1)
            sums = np.exp(logits[new] - top[:, None]).sum(axis=1)
            self._log_norms[products[new]] = top + np.log(sums)
        return self._log_norms[products]

    def _rank_exactly(self, queries: Sequence[Ints], k: int) -> tuple[Rows, Floats]:
        block = self._score(queries)
        for scores, query in zip(block, queries, strict=True):
            scores[query] = -np.inf
        return best_of(block, k)

    def _rank_by_index(self, queries: Sequence[Ints], k: int) -> tuple[Rows, Floats]:
        """As `_rank_exactly`, as far as the index finds the best k by vectors.

        Co-occurrence only ever adds, so that the best are among those and the counted companions.
        """
        rows = np.full((len(queries), k), -1, np.int64)
        best = np.full((len(queries), k), -np.inf, np.float32)
        products = np.array([query[0] for query in queries])
        vectors = self._single[products]
        nearest = search(self._index, vectors, min(k + 1, self._n_items))
        for i, product in enumerate(products):
            companions, gain = self._counted(product)
            others = nearest[i][~np.isin(nearest[i], companions)]
            # In order of rows, for ties go to the lower one.
            candidates = np.concatenate([companions, others]).astype(np.int64)
            order = np.argsort(candidates)
            scores = self._items[candidates] @ vectors[i]
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


def _grouped(chosen: list[int], queries: Sequence[Ints], n_products: int) -> list[list[int]]:
    """Consecutive `chosen` queries in groups of about `n_products` asked products each."""
    groups: dict[int, list[int]] = {}
    n_before = 0
    for i in chosen:
        groups.setdefault(n_before // n_products, []).append(i)
        n_before += len(queries[i])
    return list(groups.values())
