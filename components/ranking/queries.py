"""Validation queries with candidates, their features and labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.baskets.corpus import Corpus
from components.evaluation.metrics import find_hits, ideal_dcg
from components.evaluation.tasks import TASKS, draw_queries
from components.model.arrays import (
    BoolArray,
    Float32Array,
    Float64Array,
    Int32Array,
    Int64Array,
    concat_arrays,
)
from components.model.candidate_pairs import find_candidate_pairs
from components.model.cart_ranking import N_CANDIDATES
from components.model.features import FEATURES
from components.model.recommender import Recommender
from components.ranking.text_features import TextSimilarity

K = 10
BATCH = 128
N_QUERIES = {"item": 40_000, "cart": 9_000}
MAX_QUERIES_PER_BASKET = {"item": 8, "cart": 1}  # Reached where there are few baskets

# Precomputed items have time for text similarity.
OFFLINE_FEATURES = (*FEATURES, "described_alike")

NO_ROWS = np.full((0, N_CANDIDATES), -1)
NO_FEATURES = np.zeros((0, N_CANDIDATES, len(FEATURES)), np.float32)
NO_OFFLINE_FEATURES = np.zeros((0, N_CANDIDATES, len(OFFLINE_FEATURES)), np.float32)


@dataclass(frozen=True)
class LabelledQueries:
    """Queries over candidate lists: one list per cart, or per product of item queries.

    Candidates are in order of rows, so that ties break as in `Recommender.rank`.
    """

    features: Float32Array
    """(n_lists, N_CANDIDATES, n_features): FEATURES of carts, OFFLINE_FEATURES of items."""
    rows: Int64Array  # (n_lists, N_CANDIDATES) of the catalogue; -1 is padding
    list_index: Int64Array  # (n_queries,): the candidate list of each query
    hits: BoolArray  # (n_queries, N_CANDIDATES): candidates that were in the basket
    gain: Float32Array  # (n_queries,): NDCG@10 of one hit in first place
    basket: Int64Array  # (n_queries,): see `draw_queries`
    products: Int32Array | None = None  # (n_lists,): the query product; None for carts

    def __len__(self) -> int:
        return len(self.basket)

    @property
    def is_candidate(self) -> BoolArray:
        """(n_lists, N_CANDIDATES): False for padding."""
        mask: BoolArray = self.rows >= 0
        return mask

    def take(self, chosen: BoolArray | slice) -> "LabelledQueries":
        kept, list_index = np.unique(self.list_index[chosen], return_inverse=True)
        products = None if self.products is None else self.products[kept]
        return LabelledQueries(
            self.features[kept], self.rows[kept], list_index, self.hits[chosen], self.gain[chosen],
            self.basket[chosen], products,
        )  # fmt: skip


def draw_labelled_queries(
    recommender: Recommender, validation: Corpus, task: str, seed: int
) -> LabelledQueries:
    n_baskets = len(validation.with_at_least(TASKS[task]))
    times = min(MAX_QUERIES_PER_BASKET[task], max(1, -(-N_QUERIES[task] // max(n_baskets, 1))))
    queries = draw_queries(validation, task, N_QUERIES[task], seed, times)
    if task == "item":
        asked = concat_arrays(queries.asked, np.int32)
        products, list_index = np.unique(asked, return_inverse=True)
        rows, features = _collect_item_candidates(recommender, products)
    else:
        products, list_index = None, np.arange(len(queries))
        rows, features = _collect_cart_candidates(recommender, queries.asked)
    gain = (1 / ideal_dcg(queries.relevant.sizes, K)).astype(np.float32)
    hits = find_hits(rows[list_index], queries.relevant, recommender.bundle.manifest.n_items)
    return LabelledQueries(features, rows, list_index, hits, gain, queries.basket, products)


def compute_offline_features(
    recommender: Recommender, texts: TextSimilarity, products: Int32Array, rows: Int64Array
) -> Float32Array:
    """OFFLINE_FEATURES of the candidate `rows` (n, depth) of `products` (n,)."""
    pairs = find_candidate_pairs(recommender.bundle, list(products[:, None]))
    features = recommender.carts.features.compute(pairs, rows)
    return np.concatenate([features, texts.compute_cosines(products, rows)[..., None]], axis=2)


def _collect_item_candidates(
    recommender: Recommender, products: Int32Array
) -> tuple[Int64Array, Float32Array]:
    rows = np.sort(recommender.rank(list(products[:, None]), N_CANDIDATES)[0], axis=1)
    texts = TextSimilarity(recommender.bundle.attributes)
    blocks = [
        compute_offline_features(recommender, texts, products[batch], rows[batch])
        for batch in _split_batches(len(products))
    ]
    return rows, np.concatenate([NO_OFFLINE_FEATURES, *blocks])


def _collect_cart_candidates(
    recommender: Recommender, carts: Sequence[Int32Array]
) -> tuple[Int64Array, Float32Array]:
    blocks = [
        recommender.carts.find_candidates(recommender.carts.normalize(carts[batch]), N_CANDIDATES)
        for batch in _split_batches(len(carts))
    ]
    rows, features = zip((NO_ROWS, NO_FEATURES), *blocks, strict=True)
    return np.concatenate(rows), np.concatenate(features)


def _split_batches(n: int) -> list[slice]:
    return [slice(start, start + BATCH) for start in range(0, n, BATCH)]


def ndcg(scores: Float32Array, queries: LabelledQueries) -> Float64Array:
    """NDCG@10 (n_queries,) when candidates are ranked by `scores` (n_lists, N_CANDIDATES)."""
    scores = np.where(queries.is_candidate, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    discounts = 1 / np.log2(np.arange(order.shape[1]) + 2)
    hits = np.take_along_axis(queries.hits, order[queries.list_index], 1)
    dcg: Float64Array = hits @ discounts
    return dcg * queries.gain
