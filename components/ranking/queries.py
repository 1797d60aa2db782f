"""Validation queries with candidates, their features and labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.baskets.corpus import Corpus
from components.evaluation.excess import compute_chance, compute_shares
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
from components.model.cart_ranking import N_BEYOND, N_CANDIDATES
from components.model.features import FEATURES
from components.model.recommender import Recommender
from components.ranking.text_features import TextSimilarity

K = 10
BATCH = 128
N_QUERIES = {"item": 40_000, "cart": 9_000}
MAX_QUERIES_PER_BASKET = {"item": 8, "cart": 1}  # Reached where there are few baskets

# Precomputed items have time for text similarity.
OFFLINE_FEATURES = (*FEATURES, "described_alike")

N_BEYOND_ITEM = 40  # Beside N_CANDIDATES of an item page, which has time for more than a cart
DEPTH = {"item": N_CANDIDATES + N_BEYOND_ITEM, "cart": N_CANDIDATES + N_BEYOND}


@dataclass(frozen=True)
class LabelledQueries:
    """Queries over candidate lists: one list per cart, or per product of item queries.

    Candidates are in order of rows, so that ties break as in `Recommender.rank`.
    """

    features: Float32Array
    """(n_lists, depth, n_features): FEATURES of carts, OFFLINE_FEATURES of items."""
    rows: Int64Array  # (n_lists, depth) of the catalogue; -1 is padding
    chance: Float32Array  # (n_lists, depth): see `Recommender.compute_chance_gain`
    list_index: Int64Array  # (n_queries,): the candidate list of each query
    hits: BoolArray  # (n_queries, depth): candidates that were in the basket
    gain: Float32Array  # (n_queries,): NDCG@10 of one hit in first place
    n_relevant: Int64Array  # (n_queries,)
    basket: Int64Array  # (n_queries,): see `draw_queries`
    shares: Float64Array  # (n_items,): of the lines that queries are drawn from
    products: Int32Array | None = None  # (n_lists,): the query product; None for carts

    def __len__(self) -> int:
        return len(self.basket)

    @property
    def is_candidate(self) -> BoolArray:
        """(n_lists, depth): False for padding."""
        mask: BoolArray = self.rows >= 0
        return mask

    def take(self, chosen: BoolArray | slice) -> "LabelledQueries":
        kept, list_index = np.unique(self.list_index[chosen], return_inverse=True)
        products = None if self.products is None else self.products[kept]
        return LabelledQueries(
            self.features[kept], self.rows[kept], self.chance[kept], list_index, self.hits[chosen],
            self.gain[chosen], self.n_relevant[chosen], self.basket[chosen], self.shares, products,
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
    n_items, n_relevant = recommender.n_items, queries.relevant.sizes
    return LabelledQueries(
        features, rows, recommender.compute_chance_gain(products, rows), list_index,
        hits=find_hits(rows[list_index], queries.relevant, n_items),
        gain=(1 / ideal_dcg(n_relevant, K)).astype(np.float32),
        n_relevant=n_relevant, basket=queries.basket,
        shares=compute_shares(validation, n_items), products=products,
    )  # fmt: skip


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
    texts = TextSimilarity(recommender.bundle.attributes)
    rows = [np.full((0, DEPTH["item"]), -1)]
    features = [np.zeros((0, DEPTH["item"], len(OFFLINE_FEATURES)), np.float32)]
    for batch in _split_batches(len(products)):
        best = recommender.items.find_candidates(products[batch], N_CANDIDATES, N_BEYOND_ITEM)
        found = np.sort(best[0], axis=1)
        rows.append(found)
        features.append(compute_offline_features(recommender, texts, products[batch], found))
    return np.concatenate(rows), np.concatenate(features)


def _collect_cart_candidates(
    recommender: Recommender, carts: Sequence[Int32Array]
) -> tuple[Int64Array, Float32Array]:
    rows = [np.full((0, DEPTH["cart"]), -1)]
    features = [np.zeros((0, DEPTH["cart"], len(FEATURES)), np.float32)]
    for batch in _split_batches(len(carts)):
        found, computed = recommender.carts.find_candidates(
            recommender.carts.normalize(carts[batch])
        )
        rows.append(found)
        features.append(computed)
    return np.concatenate(rows), np.concatenate(features)


def _split_batches(n: int) -> list[slice]:
    return [slice(start, start + BATCH) for start in range(0, n, BATCH)]


def ndcg(
    scores: Float32Array, queries: LabelledQueries, popularity_discount: float = 0.0
) -> Float64Array:
    """NDCG@10 (n_queries,) when candidates are ranked by `scores` (n_lists, depth).

    With a discount of 1 it is excess NDCG, with less that share of chance is taken off.
    """
    scores = np.where(queries.is_candidate, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    discounts = 1 / np.log2(np.arange(order.shape[1]) + 2)
    gains = np.take_along_axis(queries.hits, order[queries.list_index], 1).astype(np.float64)
    if popularity_discount:
        shown = np.take_along_axis(queries.rows, order, 1)
        shares = np.where(shown >= 0, queries.shares[shown], 0)[queries.list_index]
        gains -= popularity_discount * compute_chance(shares, queries.n_relevant[:, None])
    dcg: Float64Array = gains @ discounts
    return dcg * queries.gain
