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
from components.model.features import AT
from components.model.recommender import RARE, blend_carts
from components.ranking.queries import Questions, ndcg
from components.ranking.reranker import MIX

N_TUNED = 4_000
"""Questions that weights are tuned on."""

ROUNDS = 2
"""Times that every weight is tried again while the others stand."""

NOISE = 0.001
"""Share of NDCG that a larger weight must gain over a smaller one."""

PAGE_GRID: dict[str, Sequence[float]] = {
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

START = Blend(
    beta_single=0.75,
    page_cooccurrence=2.0,
    page_trend=0.2,
    cart_weights=CartWeights(neighbours=1.0, cooccurrence=0.25, cosine=0.1, vectors=0.5, trend=0.1),
    cart_mix=MIX["b"],
)
"""What candidates are drawn by, and where tuning begins."""


def blend_pages(features: Float32Array, blend: Blend, beta_cart: float) -> Float32Array:
    """Scores (n, depth) of pages' candidates as `Recommender.rank_pages` has them, but for what is
    the same for all candidates of a page."""
    scores = features[..., AT["vector_max"]] + blend.page_trend * features[..., AT["trend_short"]]
    scores = scores + (blend.beta_single - beta_cart) * features[..., AT["log_popularity"]]
    paired: Float32Array = np.log1p(features[..., AT["probability_sum"]] / np.float32(RARE))
    total: Float32Array = scores + blend.page_cooccurrence * paired
    return total


def tune_pages(questions: Questions, blend: Blend, beta_cart: float) -> Blend:
    """The blend with the weights of pages that rank `questions` best."""
    questions = _answerable(questions.take(slice(N_TUNED)))

    def measure(**weights: float) -> float:
        tried = blend.model_copy(update=weights)
        return _mean(ndcg(blend_pages(questions.features, tried, beta_cart), questions))

    found = _climb(measure, PAGE_GRID, {name: getattr(blend, name) for name in PAGE_GRID})
    return blend.model_copy(update=found)


def tune_carts(questions: Questions, blend: Blend) -> Blend:
    """The blend with the weights of carts that rank `questions` best."""
    questions = _answerable(questions.take(slice(N_TUNED)))
    start = blend.cart_weights

    def measure(**weights: float) -> float:
        tried = start.model_copy(update=weights)
        return _mean(ndcg(blend_carts(questions.features, tried), questions))

    found = _climb(measure, CART_GRID, {name: getattr(start, name) for name in CART_GRID})
    return blend.model_copy(update={"cart_weights": start.model_copy(update=found)})


def parts_of_pages(questions: Questions, blend: Blend, beta_cart: float) -> dict[str, float]:
    """NDCG@10 of what pages mix, each part alone on the same candidates, and the blend."""
    features = questions.features
    alone = blend.model_copy(update={"page_cooccurrence": 0.0, "page_trend": 0.0})
    scores = {
        "vectors": blend_pages(features, alone, beta_cart),
        "co-occurrence": features[..., AT["probability_sum"]],
        "neighbours": features[..., AT["neighbours_sum"]],
        "blend": blend_pages(features, blend, beta_cart),
    }
    return {name: _mean(ndcg(one, questions)) for name, one in scores.items()}


def parts_of_carts(questions: Questions, blend: Blend) -> dict[str, float]:
    """NDCG@10 of ways to fuse a cart, each alone on the same candidates, and of the blend."""
    features = questions.features
    scores = {
        "vectors, mean": features[..., AT["vector_mean"]],
        "vectors, sum of softmax": features[..., AT["vector_sum"]],
        "vectors, max of softmax": features[..., AT["vector_max"]],
        "co-occurrence, sum": features[..., AT["probability_sum"]],
        "co-occurrence, max": features[..., AT["probability_max"]],
        "neighbours, sum": features[..., AT["neighbours_sum"]],
        "blend": blend_carts(features, blend.cart_weights),
    }
    return {name: _mean(ndcg(one, questions)) for name, one in scores.items()}


def _answerable(questions: Questions) -> Questions:
    """Those with a hit among their candidates; all others score 0, whatever the weights."""
    return questions.take(np.asarray(questions.hits.any(axis=1)))


def _climb(
    measure: Callable[..., float], grid: dict[str, Sequence[float]], start: dict[str, Any]
) -> dict[str, Any]:
    """The best of `grid`, one weight after the other; smaller weights win what noise decides."""
    best = dict(start)
    if not measure(**best):
        return best  # nothing asks, or nothing is ever right: there is nothing to tune by
    measure = cache(measure)  # the second round mostly asks what the first one did
    for _ in range(ROUNDS):
        for name, values in grid.items():
            found = [measure(**{**best, name: value}) for value in values]
            enough = max(found) * (1 - NOISE)
            best[name] = next(v for v, one in zip(values, found, strict=True) if one >= enough)
    return best


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if len(values) else 0.0
