"""Companions of a cart."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from components.model.arrays import Float32Array, Float64Array, Int32Array, Int64Array
from components.model.bundle import Bundle
from components.model.candidate_pairs import (
    CandidatePairs,
    compute_cart_weights,
    find_candidate_pairs,
)
from components.model.evidence import put_likely_first
from components.model.features import COLUMN, FeatureBuilder, compute_logits
from components.model.item_ranking import VARIANT_OVERFETCH, ItemRanker
from components.model.item_scores import get_cart_weights
from components.model.manifest import CartWeights
from components.model.reranking import discount_blend, rerank
from components.model.sorted_keys import find_present, lookup_values
from components.model.top_k import RankedRows, find_in_rows, find_top_k, sort_rows
from components.model.tree_ensemble import TreeScorer

N_CANDIDATES, N_BEYOND = 60, 30
"""Candidates of a re-ranker: the best by the blend, and the pairs most beyond chance."""


class CartRanker:
    """Ranks pairs and neighbours of the products, then products near by vectors, then bestsellers.

    Their order is that of the bundle's re-ranker, without one that of a weighted sum: of
    co-occurrence, cosines and neighbours, added up over the cart, and of the largest softmax
    probability by the vectors of any of its products. Averaging vectors loses a quarter to half of
    the hits.
    """

    def __init__(self, bundle: Bundle, items: ItemRanker) -> None:
        self.bundle, self.items = bundle, items
        self.features = FeatureBuilder(bundle)

    def rank(self, queries: Sequence[Int32Array], k: int) -> RankedRows:
        """As `Recommender.rank`."""
        bundle, variants = self.bundle, self.bundle.variants
        carts = self.normalize(queries)
        depth = max(N_CANDIDATES, k) + (VARIANT_OVERFETCH if variants else 0)
        if bundle.reranker is None and self.has_item_scores:
            rows, scores = self._mask_variants(carts, *self._blend_item_scores(carts, depth))
        else:
            pairs = find_candidate_pairs(bundle, carts, blend_only=bundle.reranker is None)
            sums = pairs.sum_scores()
            rows, scores = self._mask_variants(carts, *self._blend_pairs(pairs, sums, depth))
        if bundle.reranker is not None:
            rows, scores = self._rerank(pairs, sums, rows, scores)
        elif (chance := self._take_off(rows[:, :N_CANDIDATES])) is not None:
            calibration = bundle.manifest.cart_calibration
            rows, scores = discount_blend(rows, scores, calibration, chance)
        rows = np.where(scores > -np.inf, rows, -1)
        rows, scores = put_likely_first(bundle, carts, (rows, scores))
        return rows[:, :k], scores[:, :k]

    def normalize(self, queries: Sequence[Int32Array]) -> list[Int32Array]:
        """Every product once: ascending, or in cart order where recency counts."""
        if self.bundle.manifest.cart_recency == 1:
            return [np.array(sorted(set(query.tolist())), np.int32) for query in queries]
        lasts = (np.unique(query[::-1], return_index=True)[1] for query in queries)
        return [
            query[::-1][np.sort(last)][::-1] for query, last in zip(queries, lasts, strict=True)
        ]

    def find_candidates(self, carts: Sequence[Int32Array]) -> tuple[Int64Array, Float32Array]:
        """Candidates (n_carts, N_CANDIDATES + N_BEYOND), -1 for none, and their features.

        By row: training must not inherit the order in which they were found.
        """
        pairs = find_candidate_pairs(self.bundle, carts)
        rows, _ = pairs.select_best(pairs.sum_scores(), N_CANDIDATES)
        for cart, own_rows in zip(carts, rows, strict=True):
            if own_rows[-1] < 0:
                self._fill(own_rows, cart)
        rows = np.sort(np.concatenate([rows, _find_beyond_chance(pairs, rows)], axis=1), axis=1)
        return rows, self.features.compute(pairs, rows)

    def predict_log_odds(self, features: Float32Array) -> Float32Array:
        """(...) of FEATURES (..., n_features), by the bundle's trees."""
        flat = self._trees.predict(features.reshape(-1, features.shape[-1]))
        log_odds: Float32Array = flat.reshape(features.shape[:-1])
        return log_odds

    @cached_property
    def has_item_scores(self) -> bool:
        """Whether they were computed with the manifest's cart weights."""
        table = self.bundle.item_scores
        return table is not None and np.array_equal(table.weights, get_cart_weights(self.bundle))

    @cached_property
    def _trees(self) -> TreeScorer:
        assert self.bundle.reranker is not None
        return TreeScorer(self.bundle.reranker)

    def _blend_item_scores(self, carts: Sequence[Int32Array], depth: int) -> RankedRows:
        """Candidates and blended scores, (n_carts, depth)."""
        table = self.bundle.item_scores
        assert table is not None
        is_ordered = self.bundle.manifest.cart_recency != 1
        rows = np.full((len(carts), depth), -1, np.int64)
        scores = np.zeros((len(carts), depth), np.float32)
        for cart, own_rows, own_scores in zip(carts, rows, scores, strict=True):
            factors = compute_cart_weights(self.bundle, [cart]) if is_ordered else None
            found, sums = table.sum_lists(cart, factors)
            sums[find_present(found, cart)] = -np.inf
            best = find_top_k(sums, depth)
            best = best[sums[best] > 0]
            n = len(best)
            own_rows[:n], own_scores[:n] = found[best], sums[best]
            if n < depth:
                self._fill(own_rows, cart)
                own_scores[n:] = lookup_values(found, sums, own_rows[n:])
            self._add_vectors(cart, own_rows, own_scores)
        return rows, scores

    def _rerank(
        self, pairs: CandidatePairs, sums: Float64Array, rows: Int64Array, scores: Float32Array
    ) -> RankedRows:
        """By the bundle's trees; `rows` and `scores` are the blend's order."""
        beyond = _find_beyond_chance(pairs, rows[:, :N_CANDIDATES])
        added, beyond_scores = self._mask_variants(
            pairs.carts, *self._score_pairs(pairs, sums, beyond)
        )
        behind = np.where(find_in_rows(rows, added), -1, rows)
        rows = np.concatenate([rows[:, :N_CANDIDATES], added, behind[:, N_CANDIDATES:]], axis=1)
        scores = np.concatenate(
            [scores[:, :N_CANDIDATES], beyond_scores, scores[:, N_CANDIDATES:]], axis=1
        )
        scores[rows < 0] = -np.inf
        candidates = rows[:, : N_CANDIDATES + N_BEYOND]
        features = self.features.compute(pairs, candidates)
        predicted = self.predict_log_odds(features)
        manifest = self.bundle.manifest
        return rerank(
            rows, scores, predicted, manifest.cart_mix,
            manifest.cart_calibration, self._take_off(candidates),
        )  # fmt: skip

    def _take_off(self, rows: Int64Array) -> Float32Array | None:
        """Of expected gains: the discounted share of a product of all lines."""
        chance, discount = self.bundle.chance, self.bundle.manifest.popularity_discount
        if chance is None or not discount:
            return None
        taken_off: Float32Array = np.float32(discount) * chance.shares[rows]
        return taken_off

    def _mask_variants(
        self, carts: Sequence[Int32Array], rows: Int64Array, scores: Float32Array
    ) -> RankedRows:
        """In order of scores; -1 and -inf where a row is a variant of a product of the cart."""
        scores[rows < 0] = -np.inf
        if (variants := self.bundle.variants) is not None:
            for own_rows, own_scores, cart in zip(rows, scores, carts, strict=True):
                if len(dropped := variants.concat(cart)):
                    own_scores[np.isin(own_rows, dropped)] = -np.inf
        rows, scores = sort_rows(rows, scores)
        return np.where(scores > -np.inf, rows, -1), scores

    def _blend_pairs(self, pairs: CandidatePairs, sums: Float64Array, depth: int) -> RankedRows:
        """As `blend_cart_scores`, at a third of the cost of its features."""
        rows, _ = pairs.select_best(sums, depth)
        for cart, own_rows in zip(pairs.carts, rows, strict=True):
            if own_rows[-1] < 0:
                self._fill(own_rows, cart)
        return self._score_pairs(pairs, sums, rows)

    def _score_pairs(
        self, pairs: CandidatePairs, sums: Float64Array, rows: Int64Array
    ) -> RankedRows:
        """`rows` (n_carts, depth) and their blended scores; those of -1 are anything."""
        scores = np.zeros(rows.shape, np.float32)
        for i, (cart, own_rows, own_scores) in enumerate(
            zip(pairs.carts, rows, scores, strict=True)
        ):
            own_scores[:] = pairs.lookup(sums, i, own_rows)
            self._add_vectors(cart, own_rows, own_scores)
        return rows, scores

    def _add_vectors(self, cart: Int32Array, rows: Int64Array, scores: Float32Array) -> None:
        bundle, weights = self.bundle, self.bundle.manifest.cart_weights
        if not weights.vectors:
            return
        best = np.exp(compute_logits(bundle, cart, np.maximum(rows, 0)).max(axis=0))
        if weights.trend:
            best *= np.exp(weights.trend * bundle.item_features.sales[rows, 0])
        scores += weights.vectors * best

    def _fill(self, rows: Int64Array, cart: Int32Array) -> None:
        """Replace -1 in `rows` by near products, then bestsellers."""
        n_found, n_items = int((rows >= 0).sum()), self.bundle.manifest.n_items
        near = np.empty(0, np.int64)
        if len(cart):
            near = self.items.find_near(cart, len(rows)).T.ravel()
        best = np.arange(min(len(rows) + len(cart), n_items))
        every = np.concatenate([rows[:n_found], near[near >= 0], best])
        every = every[np.sort(np.unique(every, return_index=True)[1])]
        every = every[~np.isin(every, cart)][: len(rows)]
        rows[: len(every)] = every


def _find_beyond_chance(pairs: CandidatePairs, rows: Int64Array) -> Int64Array:
    """(n_carts, N_BEYOND) candidates most beyond chance; -1 for none and for those in `rows`."""
    beyond, _ = pairs.select_best(pairs.sum_excess(), N_BEYOND)
    beyond[find_in_rows(beyond, rows)] = -1
    return beyond


def blend_cart_scores(features: Float32Array, weights: CartWeights) -> Float32Array:
    """(n_carts, depth), from FEATURES."""
    total: Float64Array | Float32Array = (
        weights.neighbours * features[..., COLUMN["neighbours_sum"]]
    )
    total += weights.cooccurrence * features[..., COLUMN["probability_sum"]]
    total += weights.cosine * features[..., COLUMN["cosine_sum"]]
    total += weights.vectors * np.exp(features[..., COLUMN["vector_max"]])
    scores: Float32Array = total * np.exp(weights.trend * features[..., COLUMN["trend_short"]])
    return scores.astype(np.float32)
