"""Validation baskets as questions: candidates, what is known of them, what was right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.baskets.corpus import Corpus
from components.evaluation.metrics import find_hits, ideal_dcg
from components.evaluation.tasks import TASKS, draw_queries
from components.model.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
from components.model.features import FEATURES
from components.model.recommender import N_CANDIDATES, Recommender
from components.model.text_similarity import concat_arrays
from components.ranking.text_features import TextSimilarity

K = 10
BATCH = 128
N_QUERIES = {"a": 40_000, "b": 9_000}
"""Questions of each task to tune and judge by; those of pages say whose pages are learned from."""

MAX_QUERIES_PER_BASKET = {"a": 8, "b": 1}
"""Questions of one basket at most, where there are few baskets."""

OFFLINE_FEATURES = (*FEATURES, "described_alike")
"""What pages are ranked by: they are ranked in advance, and can take the time to compare texts."""

NO_ROWS = np.full((0, N_CANDIDATES), -1)
NO_FEATURES = np.zeros((0, N_CANDIDATES, len(FEATURES)), np.float32)
NO_OFFLINE_FEATURES = np.zeros((0, N_CANDIDATES, len(OFFLINE_FEATURES)), np.float32)


@dataclass(frozen=True)
class LabelledQueries:
    """What baskets ask, with candidates in order of rows: scores tie as in `Recommender.rank`.

    Many baskets ask for one page; what is known of its candidates stands there once.
    """

    features: Float32Array
    """(n_asked, DEPTH, n_features): FEATURES of carts, PAGE_FEATURES of pages."""
    rows: Int64Array
    """(n_asked, DEPTH) of the catalogue; -1 where there is no candidate."""
    asked: Int64Array
    """(n_questions,): which of those each question is about."""
    hits: BoolArray
    """(n_questions, DEPTH): which candidates were in the basket."""
    gain: Float32Array
    """(n_questions,): what a hit in first place adds to a question's NDCG@10."""
    basket: Int64Array
    """(n_questions,): which basket asks; see `draw_queries`."""
    products: Int32Array | None = None
    """(n_asked,): whose pages; None for carts."""

    def __len__(self) -> int:
        return len(self.basket)

    @property
    def is_candidate(self) -> BoolArray:
        """(n_asked, DEPTH): where there is a candidate at all."""
        found: BoolArray = self.rows >= 0
        return found

    def take(self, chosen: BoolArray | slice) -> "LabelledQueries":
        """Only these questions, and what they are about."""
        kept, asked = np.unique(self.asked[chosen], return_inverse=True)
        products = None if self.products is None else self.products[kept]
        return LabelledQueries(
            self.features[kept], self.rows[kept], asked, self.hits[chosen], self.gain[chosen],
            self.basket[chosen], products,
        )  # fmt: skip


def draw_labelled_queries(
    recommender: Recommender, validation: Corpus, task: str, seed: int
) -> LabelledQueries:
    """Questions of a task, with candidates by the recommender's blend."""
    n_baskets = len(validation.with_at_least(TASKS[task]))
    times = min(MAX_QUERIES_PER_BASKET[task], max(1, -(-N_QUERIES[task] // max(n_baskets, 1))))
    queries = draw_queries(validation, task, N_QUERIES[task], seed, times)
    about, asked, products = queries.asked, np.arange(len(queries)), None
    if task == "a":
        products, asked = np.unique(concat_arrays(queries.asked, np.int32), return_inverse=True)
        about = list(products[:, None])
    rows, features = (_collect_item_candidates if task == "a" else _collect_cart_candidates)(
        recommender, about
    )
    gain = (1 / ideal_dcg(queries.relevant.sizes, K)).astype(np.float32)
    hits = find_hits(rows[asked], queries.relevant, recommender.bundle.manifest.n_items)
    return LabelledQueries(features, rows, asked, hits, gain, queries.basket, products)


def compute_offline_features(
    recommender: Recommender, texts: TextSimilarity, products: Int32Array, rows: Int64Array
) -> Float32Array:  # fmt: skip
    """PAGE_FEATURES of candidate `rows` (n, depth) of these products' pages."""
    queries, feature_builder = list(products[:, None]), recommender.feature_builder
    known = feature_builder.features(queries, feature_builder.find_pairs(queries), rows)
    return np.concatenate([known, texts.compute_cosines(products, rows)[..., None]], axis=2)


def _collect_item_candidates(
    recommender: Recommender, asked: Sequence[Int32Array]
) -> tuple[Int64Array, Float32Array]:
    """Candidates, in order of rows, and their features."""
    rows = np.sort(recommender.rank(asked, N_CANDIDATES)[0], axis=1)
    products, texts = concat_arrays(asked, np.int32), TextSimilarity(recommender.attributes)
    blocks = [
        compute_offline_features(recommender, texts, products[at], rows[at])
        for at in _batches(len(asked))
    ]
    return rows, np.concatenate([NO_OFFLINE_FEATURES, *blocks])


def _collect_cart_candidates(
    recommender: Recommender, asked: Sequence[Int32Array]
) -> tuple[Int64Array, Float32Array]:
    """Candidates, in order of rows, and their features."""
    blocks = [
        recommender.find_cart_candidates(recommender.normalize_carts(asked[at]), N_CANDIDATES)
        for at in _batches(len(asked))
    ]
    rows, features = zip((NO_ROWS, NO_FEATURES), *blocks, strict=True)
    return np.concatenate(rows), np.concatenate(features)


def _batches(n: int) -> list[slice]:
    return [slice(start, start + BATCH) for start in range(0, n, BATCH)]


def ndcg(scores: Float32Array, queries: LabelledQueries) -> Float64Array:
    """NDCG@10 of every question when candidates are ranked by `scores` (n_asked, DEPTH)."""
    scores = np.where(queries.is_candidate, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    discounts = 1 / np.log2(np.arange(order.shape[1]) + 2)
    hits = np.take_along_axis(queries.hits, order[queries.asked], 1)
    found: Float64Array = hits @ discounts
    return found * queries.gain
