"""Companions of one product."""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from components.model.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from components.model.bundle import Bundle
from components.model.evidence import REAL, find_grades, has_grades, put_likely_first
from components.model.float16 import inner_products, to_float32
from components.model.top_k import (
    RankedRows,
    find_in_rows,
    find_top_k,
    rank_candidates,
    rank_columns,
)
from components.model.variants import drop_variants
from components.model.vector_index import build_query_matrix, load_index, search

BLOCK = 64  # Queries scored at once, for BLAS and the cache; 256 MB for a million products
VARIANT_OVERFETCH = 50  # Candidates beyond those asked for where variants are dropped
COOCCURRENCE_SCALE = (
    0.003  # Probability at which co-occurrence begins to count in full; flat around
)

# Candidates among companions: the strongest, the companions of each, and bestsellers.
N_COMPANIONS, N_SECOND_COMPANIONS, MIN_BESTSELLERS = 10, 20, 100


class ItemRanker:
    """Looks precomputed (and re-ranked) lists up; without them, ranks by the blend

    in·out + beta log p + g trend + w log(1 + P / COOCCURRENCE_SCALE),

    P being the size-weighted probability of a companion. Candidates are, by the manifest, the whole
    catalogue, companions and theirs, or an index's. What only the blend needs is loaded lazily.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.n_items = bundle.manifest.n_items

    def rank(self, products: Int32Array, k: int) -> RankedRows:
        """As `Recommender.rank`, for queries of one product each."""
        if self.is_precomputed(k):
            return self._lookup(products, k)
        ranked = self.rank_by_blend(products, k)
        return put_likely_first(self.bundle, list(products[:, None]), ranked)

    def rank_one(self, row: int, k: int) -> RankedRows:
        if self.is_precomputed(k):
            assert self.bundle.precomputed is not None
            rows = self.bundle.precomputed.rows[row, :k].astype(np.int64)
            scores = self.bundle.precomputed.scores[row, :k]
        else:
            block, values = self.rank(np.array([row], np.int32), k)
            rows, scores = block[0], values[0]
        if rows[-1] >= 0:
            return rows, scores
        n = int((rows >= 0).sum())
        return rows[:n], scores[:n]

    def mark_real(self, row: int, rows: Int64Array) -> bytes:
        """1 for those of `rows`, as in `rank_one`, that are REAL; all in bundles of before."""
        n = len(rows)
        if self._real is not None and n <= self._depth:
            start = row * self._depth
            return self._real[start : start + n].tobytes()
        if not has_grades(self.bundle):
            return b"\1" * n
        grades = find_grades(self.bundle, np.array([row], np.int32), rows)
        marks: bytes = (grades == REAL).tobytes()
        return marks

    def rank_by_blend(self, products: Int32Array, k: int) -> RankedRows:
        is_exact = self._index is None and not self.bundle.manifest.among_companions
        rank = self._rank_exactly if is_exact else self._rank_candidates
        if (variants := self.bundle.variants) is None:
            return rank(products, k)
        return drop_variants(*rank(products, k + VARIANT_OVERFETCH), products.tolist(), variants, k)

    def find_candidates(self, products: Int32Array, n_best: int, n_beyond: int) -> RankedRows:
        """As `add_beyond_chance`, to the `n_best` by the blend."""
        return self.add_beyond_chance(products, self.rank_by_blend(products, n_best), n_beyond)

    def add_beyond_chance(
        self, products: Int32Array, ranked: RankedRows, n_beyond: int
    ) -> RankedRows:
        """Rows and blended scores (n_products, n_best + n_beyond); -1 and -inf for none.

        Those of `ranked`, as by `rank_by_blend`, then the others of the `n_beyond` pairs most
        beyond chance.
        """
        rows, scores = ranked
        pair = self._find_beyond_chance(products, n_beyond)
        beyond, probability = np.full(pair.shape, -1), np.zeros(pair.shape, np.float32)
        beyond[pair >= 0] = self.bundle.pairs.rows[pair[pair >= 0]]
        probability[pair >= 0] = self.bundle.pairs.probability[pair[pair >= 0]]
        beyond[find_in_rows(beyond, rows) | self._mark_variants(products, beyond)] = -1
        outward = to_float32(self.bundle.out_vectors[beyond])
        added = np.einsum("nd,nkd->nk", self.bundle.in_vectors[products], outward)
        added += self.bias[beyond] + self.compute_gain(probability)
        added[beyond < 0] = -np.inf
        return np.concatenate([rows, beyond], axis=1), np.concatenate([scores, added], axis=1)

    def is_precomputed(self, k: int) -> bool:
        table = self.bundle.precomputed
        return table is not None and table.rows.shape[1] >= min(k, self.n_items - 1)

    def score_rows(self, asked: Sequence[int], rows: Int64Array) -> Float32Array:
        """Scores (n,) by vectors and bias, for the best of `asked`; by bias alone without any."""
        if not len(asked):
            return self.compute_bias(rows)
        vectors = self.bundle.in_vectors[np.array(asked)]
        products = inner_products(vectors, self.bundle.out_vectors[rows])
        scores: Float32Array = products.max(axis=0) + self.compute_bias(rows)
        return scores

    def find_near(self, products: Int32Array, k: int) -> Int64Array:
        """Best first, (n_products, up to k); -1 for none."""
        if self.bundle.precomputed is not None:
            return self.bundle.precomputed.rows[products, :k].astype(np.int64)
        if self.bundle.manifest.among_companions:
            return self._rank_candidates(products, k)[0]
        return self._find_nearest(products, k)

    def compute_bias(self, rows: Int64Array | slice) -> Float32Array:
        """The part of popularity and trend in scores, (n_rows,)."""
        bundle, manifest = self.bundle, self.bundle.manifest
        bias = manifest.beta_single * np.log(bundle.n_orders[rows] / manifest.n_orders)
        bias += manifest.page_trend * bundle.item_features.sales[rows, 0]
        rounded: Float32Array = bias.astype(np.float32)
        return rounded

    def compute_gain(self, probability: Float32Array) -> Float32Array:
        """The part of co-occurrence in scores."""
        weight = np.float32(self.bundle.manifest.page_cooccurrence)
        gain: Float32Array = weight * np.log1p(probability / np.float32(COOCCURRENCE_SCALE))
        return gain

    @cached_property
    def bias(self) -> Float32Array:
        """Of the whole catalogue."""
        return self.compute_bias(slice(None))

    @cached_property
    def _real(self) -> memoryview | None:
        """Flat, for a few places."""
        table = self.bundle.precomputed
        if table is None or table.is_real is None:
            return None
        return memoryview(table.is_real.reshape(-1))  # type: ignore[arg-type]

    @cached_property
    def _depth(self) -> int:
        return 0 if self.bundle.precomputed is None else self.bundle.precomputed.rows.shape[1]

    @cached_property
    def _index(self) -> Any:
        path, stats = self.bundle.index_path, self.bundle.manifest.index
        if path is None or stats is None:
            return None
        dims = self.bundle.manifest.dims + len(self._dials)
        return load_index(path, self.n_items, dims, stats.ef)

    @property
    def _dials(self) -> tuple[float, float]:
        """Weights of log popularity and trend, the index's dimensions beyond the vectors."""
        return self.bundle.manifest.beta_single, self.bundle.manifest.page_trend

    def _lookup(self, products: Int32Array, k: int) -> RankedRows:
        table = self.bundle.precomputed
        assert table is not None
        width = min(k, table.rows.shape[1])
        rows = np.full((len(products), k), -1, np.int64)
        scores = np.full((len(products), k), -np.inf, np.float32)
        rows[:, :width] = table.rows[products, :width]
        scores[:, :width] = table.scores[products, :width]
        return rows, scores

    def _rank_exactly(self, products: Int32Array, k: int) -> RankedRows:
        starts = range(0, len(products), BLOCK)
        blocks = (self._score_all(products[start : start + BLOCK]) for start in starts)
        rows, scores = zip(*(rank_columns(block, k) for block in blocks), strict=True)
        return np.concatenate(rows), np.concatenate(scores)

    def _score_all(self, products: Int32Array) -> Float32Array:
        """(n_products, n_items); -inf for the product itself."""
        bundle = self.bundle
        block = inner_products(bundle.in_vectors[products], bundle.out_vectors)
        block += self.bias
        for scores, product in zip(block, products, strict=True):
            if bundle.manifest.page_cooccurrence:
                pairs = bundle.pairs.entries(product)
                gain = self.compute_gain(bundle.pairs.probability[pairs])
                scores[bundle.pairs.rows[pairs]] += gain
            scores[product] = -np.inf
        return block

    def _find_beyond_chance(self, products: Int32Array, k: int) -> Int64Array:
        """Places of the pairs with the largest excess probability, (n_products, k); -1 for none."""
        found = np.full((len(products), k), -1, np.int64)
        if (chance := self.bundle.chance) is None:
            return found
        for own, product in zip(found, products.tolist(), strict=True):
            pairs = self.bundle.pairs.entries(product)
            best = pairs.start + find_top_k(chance.excess[pairs], k)
            best = best[chance.excess[best] > 0]
            own[: len(best)] = best
        return found

    def _mark_variants(self, products: Int32Array, rows: Int64Array) -> BoolArray:
        """Whether `rows` (n_products, k) are variants of the product."""
        marks = np.zeros(rows.shape, bool)
        if (variants := self.bundle.variants) is not None:
            for own, product, row in zip(marks, products.tolist(), rows, strict=True):
                own[:] = np.isin(row, variants.rows[variants.entries(product)])
        return marks

    def _find_nearest(self, products: Int32Array, k: int) -> Int64Array:
        """The best by vectors and bias, (n_products, k)."""
        vectors, k = self.bundle.in_vectors[products], min(k, self.n_items)
        if self._index:
            return search(self._index, build_query_matrix(vectors, *self._dials), k)
        return rank_columns(inner_products(vectors, self.bundle.out_vectors) + self.bias, k)[0]

    def _rank_candidates(self, products: Int32Array, k: int) -> RankedRows:
        """As `_rank_exactly`, among companions and `find_others`.

        With an index nothing is lost: co-occurrence only adds, so that the other products are best
        by vectors.
        """
        bundle = self.bundle
        pair, paired = bundle.pairs.expand(products)
        find_others = self._find_by_index if self._index else self._find_among_companions
        others, owners = find_others(products, k)
        rows = np.concatenate([bundle.pairs.rows[pair], others])
        # Of duplicates the pair comes first, and stays.
        keys = np.concatenate([paired, owners]) * self.n_items + rows
        keys, first = np.unique(keys, return_index=True)
        query, rows = np.divmod(keys, self.n_items)
        scores = self._score_candidates(products, query, rows)
        counted = np.flatnonzero(first < len(pair))
        scores[counted] += self.compute_gain(bundle.pairs.probability[pair[first[counted]]])
        scores[rows == products[query]] = -np.inf
        return rank_candidates(query, rows, scores, len(products), k)

    def _find_by_index(self, products: Int32Array, k: int) -> tuple[Int64Array, Int64Array]:
        """Candidates, and the places of their products."""
        nearest = self._find_nearest(products, k + 1)
        return nearest.ravel(), np.repeat(np.arange(len(products)), nearest.shape[1])

    def _find_among_companions(self, products: Int32Array, k: int) -> tuple[Int64Array, Int64Array]:
        """As `_find_by_index`: companions of companions, and bestsellers."""
        pairs, best = self.bundle.pairs, np.arange(min(max(MIN_BESTSELLERS, k + 1), self.n_items))
        pair, paired = pairs.expand(products, N_COMPANIONS)
        second, companion = pairs.expand(pairs.rows[pair], N_SECOND_COMPANIONS)
        rows = np.concatenate([pairs.rows[second], np.tile(best, len(products))])
        owners = np.repeat(np.arange(len(products)), len(best))
        return rows, np.concatenate([paired[companion], owners])

    def _score_candidates(
        self, products: Int32Array, query: Int64Array, rows: Int64Array
    ) -> Float32Array:
        """By vectors and bias; `query`, which ascends, is the place of the product."""
        outward = to_float32(self.bundle.out_vectors[rows])
        scores = self.bias[rows]
        ends = np.searchsorted(query, np.arange(len(products) + 1)).tolist()
        for product, (start, end) in zip(products, pairwise(ends), strict=True):
            scores[start:end] += outward[start:end] @ self.bundle.in_vectors[product]
        return scores
