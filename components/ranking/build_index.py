"""Builds the HNSW index that `components.model.vector_index` searches, and measures its recall."""

from typing import Any

import hnswlib
import numpy as np

from components.model.arrays import Float32Array, Int64Array
from components.model.bundle import Bundle
from components.model.manifest import IndexStats
from components.model.vector_index import build_item_matrix, build_query_matrix, search
from components.progress import log_progress

M = 32
EF_CONSTRUCTION = 400
FAST_BUILD_MIN_ITEMS, FAST_EF_CONSTRUCTION = 200_000, 200
# From this catalogue size half of EF_CONSTRUCTION is tried first, in half of the time.

PROGRESS_EVERY = 100_000
EF_CANDIDATES = (50, 100, 200, 400, 800)
TARGET_RECALL = 0.985

N_QUERIES = 1_000
BLOCK = 64  # Exact queries at once: 256 MB of scores for a million items


def index_catalogue(bundle: Bundle, seed: int) -> tuple[Any, IndexStats]:
    manifest, sales = bundle.manifest, bundle.item_features.sales
    log_popularity = np.log(bundle.n_orders / manifest.n_orders).astype(np.float32)
    items = build_item_matrix(bundle.out_vectors, log_popularity, sales[:, 0])
    queries = build_query_matrix(bundle.in_vectors, manifest.beta_single, manifest.page_trend)
    return build_accurate_index(items, queries, seed)


def build_accurate_index(
    items: Float32Array, queries: Float32Array, seed: int
) -> tuple[Any, IndexStats]:
    if len(items) >= FAST_BUILD_MIN_ITEMS:
        index = build_index(items, FAST_EF_CONSTRUCTION)
        stats = measure_index(index, items, queries, seed)
        if stats.recall_at_10 >= TARGET_RECALL:
            return index, stats
        del index
    index = build_index(items)
    return index, measure_index(index, items, queries, seed)


def build_index(items: Float32Array, ef_construction: int = EF_CONSTRUCTION) -> Any:
    """An hnswlib index over `items` (n, dims). Not reproducible: threads race."""
    augmented = _augment_items(items)
    index = hnswlib.Index(space="l2", dim=augmented.shape[1])
    index.init_index(max_elements=len(items), M=M, ef_construction=ef_construction, random_seed=1)
    for start in range(0, len(items), PROGRESS_EVERY):
        chunk = augmented[start : start + PROGRESS_EVERY]
        index.add_items(chunk, np.arange(start, start + len(chunk)))
        log_progress(f"index: {start + len(chunk)} of {len(items)} products")
    return index


def measure_index(index: Any, items: Float32Array, queries: Float32Array, seed: int) -> IndexStats:
    """Recall@10 against exact search, at the smallest ef that reaches TARGET_RECALL."""
    rng = np.random.default_rng(seed)
    sample = queries[rng.permutation(len(queries))[:N_QUERIES]]
    k = min(10, len(items))
    blocks = (sample[start : start + BLOCK] for start in range(0, len(sample), BLOCK))
    exact = np.concatenate([_search_exact(block, items, k) for block in blocks])
    ef, recall = EF_CANDIDATES[0], 0.0
    for ef in EF_CANDIDATES:
        index.set_ef(ef)
        recall = compute_recall(search(index, sample, k), exact)
        if recall >= TARGET_RECALL:
            break
    return IndexStats(m=M, ef_construction=index.ef_construction, ef=ef, recall_at_10=recall)


def _search_exact(queries: Float32Array, items: Float32Array, k: int) -> Int64Array:
    """Rows (n_queries, k), unsorted."""
    scores = queries @ items.T
    return np.argpartition(scores, len(items) - k, axis=1)[:, len(items) - k :]


def _augment_items(items: Float32Array) -> Float32Array:
    """One more dimension turns inner products into L2 distances (Bachrach et al. 2014)."""
    centred = items - items.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    return np.column_stack([centred, np.sqrt(np.maximum(squares.max() - squares, 0))])


def compute_recall(found: Int64Array, exact: Int64Array) -> float:
    """Share of the rows `exact` (n_queries, k) that are among those `found`."""
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True))
    return float(hits / exact.size)
