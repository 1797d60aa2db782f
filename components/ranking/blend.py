"""Tunes the weights of the blend on validation queries; a part that does not help gets 0."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np

from components.model.arrays import Float32Array, Float64Array
from components.model.cart_ranking import blend_cart_scores
from components.model.features import COLUMN
from components.model.item_ranking import COOCCURRENCE_SCALE
from components.model.manifest import Blend, CartWeights
from components.ranking.queries import LabelledQueries, ndcg
from components.ranking.reranker import BLEND_WEIGHT

N_TUNING_QUERIES = 4_000
N_PASSES = 2  # Passes of coordinate ascent over all weights

MIN_RELATIVE_GAIN = 0.001  # Share of NDCG that a larger weight must gain over a smaller one
MIN_STANDARD_ERRORS = (
    0.5  # Of that gain, paired: few queries must not choose by chance; 0 costs 1 % of carts
)

ITEM_GRID: dict[str, Sequence[float]] = {
    "page_cooccurrence": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
    "beta_single": (0.0, 0.25, 0.5, 0.75, 1.0),
    "page_trend": (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0),
}
CART_GRID: dict[str, Sequence[float]] = {
    "cooccurrence": (0.0, 0.1, 0.25, 0.5, 1.0),
    "cosine": (0.0, 0.05, 0.1, 0.25, 0.5),
    "vectors": (0.0, 0.25, 0.5, 1.0, 2.0),
    "trend": (0.0, 0.05, 0.1, 0.2, 0.3),
}  # The weight of neighbours is fixed at 1

INITIAL_BLEND = Blend(
    beta_single=0.75,
    page_cooccurrence=2.0,
    page_trend=0.2,
    cart_weights=CartWeights(neighbours=1.0, cooccurrence=0.25, cosine=0.1, vectors=0.5, trend=0.1),
    cart_mix=BLEND_WEIGHT["cart"],
)
"""Draws the candidates, and starts the tuning."""

Weights = TypeVar("Weights", Blend, CartWeights)


def blend_item_scores(features: Float32Array, blend: Blend, beta_cart: float) -> Float32Array:
    """Scores (n, depth) as of `ItemRanker.rank_by_blend`, up to a constant per query."""
    scores: Float32Array = (
        features[..., COLUMN["vector_max"]]
        + blend.page_trend * features[..., COLUMN["trend_short"]]
        + (blend.beta_single - beta_cart) * features[..., COLUMN["log_popularity"]]
    )
    probability = features[..., COLUMN["probability_sum"]]
    scores += blend.page_cooccurrence * np.log1p(probability / np.float32(COOCCURRENCE_SCALE))
    return scores


def tune_item_blend(queries: LabelledQueries, blend: Blend, beta_cart: float) -> Blend:
    def score(features: Float32Array, tried: Blend) -> Float32Array:
        return blend_item_scores(features, tried, beta_cart)

    return _tune(queries, ITEM_GRID, blend, score, blend.popularity_discount)


def tune_cart_blend(queries: LabelledQueries, blend: Blend) -> Blend:
    weights = _tune(
        queries, CART_GRID, blend.cart_weights, blend_cart_scores, blend.popularity_discount
    )
    return blend.model_copy(update={"cart_weights": weights})


def measure_item_parts(
    queries: LabelledQueries, blend: Blend, beta_cart: float
) -> dict[str, float]:
    """NDCG@10 of each part alone on the same candidates, and of the blend."""
    features = queries.features
    vectors_only = blend.model_copy(update={"page_cooccurrence": 0.0, "page_trend": 0.0})
    scores = {
        "vectors": blend_item_scores(features, vectors_only, beta_cart),
        "co-occurrence": features[..., COLUMN["probability_sum"]],
        "neighbours": features[..., COLUMN["neighbours_sum"]],
        "blend": blend_item_scores(features, blend, beta_cart),
    }
    return {name: _mean_ndcg(one, queries) for name, one in scores.items()}


def measure_cart_parts(queries: LabelledQueries, blend: Blend) -> dict[str, float]:
    features = queries.features
    columns = {
        "vectors, mean": "vector_mean",
        "vectors, sum of softmax": "vector_sum",
        "vectors, max of softmax": "vector_max",
        "co-occurrence, sum": "probability_sum",
        "co-occurrence, max": "probability_max",
        "neighbours, sum": "neighbours_sum",
    }
    scores = {name: features[..., COLUMN[column]] for name, column in columns.items()}
    scores["blend"] = blend_cart_scores(features, blend.cart_weights)
    return {name: _mean_ndcg(one, queries) for name, one in scores.items()}


def _tune(
    queries: LabelledQueries,
    grid: dict[str, Sequence[float]],
    start: Weights,
    score: Callable[[Float32Array, Weights], Float32Array],
    discount: float,
) -> Weights:
    queries = queries.take(slice(N_TUNING_QUERIES))
    # Without a hit among the candidates, NDCG is 0 whatever the weights.
    queries = queries.take(np.asarray(queries.hits.any(axis=1)))

    def measure(**weights: float) -> Float64Array:
        scores = score(queries.features, start.model_copy(update=weights))
        return ndcg(scores, queries, discount)

    best = _coordinate_ascent(measure, grid, {name: getattr(start, name) for name in grid})
    return start.model_copy(update=best)


def _coordinate_ascent(
    measure: Callable[..., Float64Array], grid: dict[str, Sequence[float]], start: dict[str, Any]
) -> dict[str, Any]:
    """Of values that are not clearly worse than the best the smallest wins."""
    best = dict(start)
    if not measure(**best).any():
        return best  # no queries, or no hits
    measure = cache(measure)
    for _ in range(N_PASSES):
        for name, values in grid.items():
            measured = [measure(**{**best, name: value}) for value in values]
            leader = max(measured, key=np.mean)
            best[name] = next(
                v for v, one in zip(values, measured, strict=True) if _is_enough(one, leader)
            )
    return best


def _is_enough(values: Float64Array, best: Float64Array) -> bool:
    """Whether the mean of `values` (n_queries,) is not clearly below that of the `best`."""
    lost = best - values
    error = lost.std() / np.sqrt(len(lost))
    return bool(lost.mean() <= max(MIN_RELATIVE_GAIN * best.mean(), MIN_STANDARD_ERRORS * error))


def _mean_ndcg(scores: Float32Array, queries: LabelledQueries) -> float:
    return float(ndcg(scores, queries).mean()) if len(queries) else 0.0
