"""How much of each part is mixed, tuned on validation baskets; a part that does not help gets none.

The parts are weighed on the candidates' features, which were computed once: trying a setting costs
milliseconds.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from components.model.arrays import Float32Array, Float64Array
from components.model.bundle import Blend, CartWeights
from components.model.features import COLUMN
from components.model.recommender import COOCCURRENCE_SCALE, blend_cart_scores
from components.ranking.queries import LabelledQueries, ndcg
from components.ranking.reranker import BLEND_WEIGHT

N_TUNING_QUERIES = 4_000
"""Questions that weights are tuned on."""

N_PASSES = 2
"""Times that every weight is tried again while the others stand."""

MIN_RELATIVE_GAIN = 0.001
"""Share of NDCG that a larger weight must gain over a smaller one."""

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
}
"""Beside 1 for the neighbours."""

INITIAL_BLEND = Blend(
    beta_single=0.75,
    page_cooccurrence=2.0,
    page_trend=0.2,
    cart_weights=CartWeights(neighbours=1.0, cooccurrence=0.25, cosine=0.1, vectors=0.5, trend=0.1),
    cart_mix=BLEND_WEIGHT["b"],
)
"""What candidates are drawn by, and where tuning begins."""


def blend_item_scores(features: Float32Array, blend: Blend, beta_cart: float) -> Float32Array:
    """Scores (n, depth) of pages' candidates as `Recommender.rank_items` has them, but for what is
    the same for all candidates of a page."""
    scores = (
        features[..., COLUMN["vector_max"]]
        + blend.page_trend * features[..., COLUMN["trend_short"]]
    )
    scores = scores + (blend.beta_single - beta_cart) * features[..., COLUMN["log_popularity"]]
    paired: Float32Array = np.log1p(
        features[..., COLUMN["probability_sum"]] / np.float32(COOCCURRENCE_SCALE)
    )
    total: Float32Array = scores + blend.page_cooccurrence * paired
    return total


def tune_item_blend(queries: LabelledQueries, blend: Blend, beta_cart: float) -> Blend:
    """The blend with the weights of pages that rank `queries` best."""
    queries = _drop_without_hits(queries.take(slice(N_TUNING_QUERIES)))

    def measure(**weights: float) -> float:
        tried = blend.model_copy(update=weights)
        return _mean(ndcg(blend_item_scores(queries.features, tried, beta_cart), queries))

    found = _coordinate_ascent(
        measure, ITEM_GRID, {name: getattr(blend, name) for name in ITEM_GRID}
    )
    return blend.model_copy(update=found)


def tune_cart_blend(queries: LabelledQueries, blend: Blend) -> Blend:
    """The blend with the weights of carts that rank `queries` best."""
    queries = _drop_without_hits(queries.take(slice(N_TUNING_QUERIES)))
    start = blend.cart_weights

    def measure(**weights: float) -> float:
        tried = start.model_copy(update=weights)
        return _mean(ndcg(blend_cart_scores(queries.features, tried), queries))

    found = _coordinate_ascent(
        measure, CART_GRID, {name: getattr(start, name) for name in CART_GRID}
    )
    return blend.model_copy(update={"cart_weights": start.model_copy(update=found)})


def measure_item_parts(
    queries: LabelledQueries, blend: Blend, beta_cart: float
) -> dict[str, float]:
    """NDCG@10 of what pages mix, each part alone on the same candidates, and the blend."""
    features = queries.features
    alone = blend.model_copy(update={"page_cooccurrence": 0.0, "page_trend": 0.0})
    scores = {
        "vectors": blend_item_scores(features, alone, beta_cart),
        "co-occurrence": features[..., COLUMN["probability_sum"]],
        "neighbours": features[..., COLUMN["neighbours_sum"]],
        "blend": blend_item_scores(features, blend, beta_cart),
    }
    return {name: _mean(ndcg(one, queries)) for name, one in scores.items()}


def measure_cart_parts(queries: LabelledQueries, blend: Blend) -> dict[str, float]:
    """NDCG@10 of ways to fuse a cart, each alone on the same candidates, and of the blend."""
    features = queries.features
    scores = {
        "vectors, mean": features[..., COLUMN["vector_mean"]],
        "vectors, sum of softmax": features[..., COLUMN["vector_sum"]],
        "vectors, max of softmax": features[..., COLUMN["vector_max"]],
        "co-occurrence, sum": features[..., COLUMN["probability_sum"]],
        "co-occurrence, max": features[..., COLUMN["probability_max"]],
        "neighbours, sum": features[..., COLUMN["neighbours_sum"]],
        "blend": blend_cart_scores(features, blend.cart_weights),
    }
    return {name: _mean(ndcg(one, queries)) for name, one in scores.items()}


def _drop_without_hits(queries: LabelledQueries) -> LabelledQueries:
    """Those with a hit among their candidates; all others score 0, whatever the weights."""
    return queries.take(np.asarray(queries.hits.any(axis=1)))


def _coordinate_ascent(
    measure: Callable[..., float], grid: dict[str, Sequence[float]], start: dict[str, Any]
) -> dict[str, Any]:
    """The best of `grid`, one weight after the other; smaller weights win what noise decides."""
    best = dict(start)
    if not measure(**best):
        return best  # nothing asks, or nothing is ever right: there is nothing to tune by
    measure = cache(measure)  # the second round mostly asks what the first one did
    for _ in range(N_PASSES):
        for name, values in grid.items():
            found = [measure(**{**best, name: value}) for value in values]
            enough = max(found) * (1 - MIN_RELATIVE_GAIN)
            best[name] = next(v for v, one in zip(values, found, strict=True) if one >= enough)
    return best


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if len(values) else 0.0
