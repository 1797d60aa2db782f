"""Recommendations of every product, computed in advance: a request is then a look-up."""

from pathlib import Path
from typing import Any

import numpy as np

from components.model.bundle import PrecomputedItems
from components.model.cart_ranking import N_CANDIDATES
from components.model.evidence import REAL, find_grades, has_grades, put_likely_first
from components.model.recommender import Recommender
from components.model.reranking import discount_blend, rerank
from components.model.top_k import find_in_rows
from components.progress import log_progress
from components.ranking.queries import BATCH, N_BEYOND_ITEM, compute_offline_features
from components.ranking.reranker import BLEND_WEIGHT, predict
from components.ranking.text_features import TextSimilarity

PRECOMPUTED_DEPTH = 100  # The most that one request may ask for; 800 bytes a product

PROGRESS_EVERY = 100  # Batches

MODEL_FILE = "page_model.txt"  # LightGBM's text format; the service has no LightGBM and needs none


def precompute_items(recommender: Recommender, model: Any) -> PrecomputedItems:
    """By the recommender's blend, re-ranked by the LightGBM `model` unless it is None."""
    bundle = recommender.bundle
    n_items = bundle.manifest.n_items
    depth = min(PRECOMPUTED_DEPTH, max(n_items - 1, 1))
    rows = np.full((n_items, depth), -1, np.int32)
    scores = np.full((n_items, depth), -np.inf, np.float32)
    is_real = np.zeros(rows.shape, bool) if has_grades(bundle) else None
    texts = None if model is None else TextSimilarity(bundle.attributes)
    for number, start in enumerate(range(0, n_items, BATCH)):
        products = np.arange(start, min(start + BATCH, n_items), dtype=np.int32)
        block = slice(start, start + len(products))
        ranked = _rank_batch(recommender, products, depth, model, texts)
        queries = list(products[:, None])
        rows[block], scores[block] = put_likely_first(bundle, queries, ranked)
        if is_real is not None:
            pairs = zip(queries, rows[block], strict=True)
            is_real[block] = [find_grades(bundle, query, own) == REAL for query, own in pairs]
        if number % PROGRESS_EVERY == 0 or block.stop == n_items:
            log_progress(f"item pages: {block.stop} of {n_items} products")
    return PrecomputedItems(rows, scores, is_real)


def save_item_reranker(model: Any, folder: Path) -> None:
    model.save_model(str(folder / MODEL_FILE))


def load_item_reranker(folder: Path) -> Any:
    """The booster of `save_item_reranker`, or None."""
    import lightgbm

    file = folder / MODEL_FILE
    return lightgbm.Booster(model_file=file) if file.exists() else None


def _rank_batch(
    recommender: Recommender, products: Any, depth: int, model: Any, texts: TextSimilarity | None
) -> tuple[Any, Any]:
    rows, scores = recommender.items.rank_by_blend(products, depth)
    manifest = recommender.bundle.manifest
    if texts is None and not manifest.popularity_discount:
        return rows, scores
    best = rows[:, :N_CANDIDATES], scores[:, :N_CANDIDATES]
    candidates, blended = recommender.items.add_beyond_chance(products, best, N_BEYOND_ITEM)
    behind = np.where(find_in_rows(rows, candidates), -1, rows)
    rows = np.concatenate([candidates, behind], axis=1)
    blended = np.concatenate([blended, np.where(behind >= 0, scores, -np.inf)], axis=1)
    chance = recommender.compute_chance_gain(products, candidates)
    chance *= np.float32(manifest.popularity_discount)
    if texts is None:
        rows, scores = discount_blend(rows, blended, manifest.page_calibration, chance)
    else:
        features = compute_offline_features(recommender, texts, products, candidates)
        predicted, mix = predict(model, features), BLEND_WEIGHT["item"]
        rows, scores = rerank(rows, blended, predicted, mix, manifest.page_calibration, chance)
    return np.where(np.isfinite(scores), rows, -1)[:, :depth], scores[:, :depth]
