"""The parts of scores, for people: recomputed for the products of one page or cart.

`blend` is the sum of the parts before it. Where a re-ranker or a popularity discount orders the
products, the score is `expected_gain` less `chance_taken_off` instead. Products that the evidence
puts behind others, or that were filled up, have lower scores than their parts.
"""

from collections.abc import Mapping

import numpy as np

from components.model.arrays import AnyArray, Float32Array, Int64Array
from components.model.candidate_pairs import find_candidate_pairs
from components.model.features import COLUMN
from components.model.float16 import inner_products
from components.model.recommender import Recommender
from components.model.sorted_keys import lookup_values
from components.model.top_k import RankedRows

Parts = Mapping[str, AnyArray]


def compute_page_parts(recommender: Recommender, product: int, rows: Int64Array) -> Parts:
    """Arrays (n_rows,) by name."""
    bundle, items = recommender.bundle, recommender.items
    pairs = bundle.pairs.entries(product)
    order = np.argsort(bundle.pairs.rows[pairs])
    companions = bundle.pairs.rows[pairs][order]
    probability = lookup_values(companions, bundle.pairs.probability[pairs][order], rows)
    trend = bundle.manifest.page_trend * bundle.item_features.sales[rows, 0]
    parts: dict[str, AnyArray] = {
        "in_out": inner_products(bundle.in_vectors[[product]], bundle.out_vectors[rows])[0],
        "popularity": items.compute_bias(rows) - trend,
        "trend": trend,
        "counts": items.compute_gain(probability.astype(np.float32)),
    }
    parts["blend"] = sum_parts(parts)
    if _has_page_gains(recommender):
        assert bundle.precomputed is not None
        ranked = items.rank_one(product, bundle.precomputed.rows.shape[1])
        chance = recommender.compute_chance_gain(np.array([product]), rows[None])[0]
        parts |= _split_gain(recommender, rows, ranked, chance)
    return parts


def compute_cart_parts(
    recommender: Recommender, products: Int64Array, rows: Int64Array, ranked: RankedRows
) -> Parts:
    """As `compute_page_parts`; `ranked` is the cart's ranking, the costly part of an answer."""
    bundle, carts = recommender.bundle, recommender.carts
    (cart,) = carts.normalize([products.astype(np.int32)])
    pairs = find_candidate_pairs(bundle, [cart])
    features = carts.features.compute(pairs, rows[None])[0]
    weights = bundle.manifest.cart_weights
    trend = np.exp(weights.trend * features[:, COLUMN["trend_short"]])
    parts: dict[str, AnyArray] = {
        "neighbours": trend * weights.neighbours * features[:, COLUMN["neighbours_sum"]],
        "counts": trend * weights.cooccurrence * features[:, COLUMN["probability_sum"]],
        "cosine": trend * weights.cosine * features[:, COLUMN["cosine_sum"]],
        "vectors": trend * weights.vectors * np.exp(features[:, COLUMN["vector_max"]]),
    }
    parts["blend"] = sum_parts(parts)
    if bundle.reranker is not None:
        parts["log_odds"] = carts.predict_log_odds(features)
    if bundle.reranker is not None or (bundle.chance and bundle.manifest.popularity_discount):
        chance = recommender.compute_chance_gain(None, rows)
        parts |= _split_gain(recommender, rows, ranked, chance)
    return parts


def sum_parts(parts: Parts) -> Float32Array:
    total: Float32Array = np.sum(list(parts.values()), axis=0, dtype=np.float32)
    return total


def _has_page_gains(recommender: Recommender) -> bool:
    """Whether precomputed scores are expected gains."""
    manifest, items = recommender.bundle.manifest, recommender.items
    forest = manifest.ranking.get("pages", {}).get("forest", {})
    is_gain = bool(forest.get("pays")) or manifest.popularity_discount > 0
    return is_gain and recommender.bundle.precomputed is not None and items.is_precomputed(1)


def _split_gain(
    recommender: Recommender,
    rows: Int64Array,
    ranked: RankedRows,
    chance: Float32Array,
) -> dict[str, AnyArray]:
    """NaN for rows that are not ranked."""
    found, scores = ranked
    order = np.argsort(found)
    place = np.minimum(np.searchsorted(found[order], rows), len(found) - 1)
    is_ranked = found[order][place] == rows
    score = np.where(is_ranked, scores[order][place], np.nan)
    taken_off = recommender.bundle.manifest.popularity_discount * chance
    return {"expected_gain": score + taken_off, "chance_taken_off": taken_off}
