"""Chooses how items are ranked in advance: exactly, among companions, or by an HNSW index.

Nearly all recommendations of a large catalogue are co-purchased products, their co-purchased
products, or bestsellers ("companions"); ranking only those costs the same at any size. Where their
recall is too low, an index is tried. On one core an item of 20,000 products takes .11 ms exactly,
.09 ms among companions; an index takes 4 times as long as exact search at 24,607 products, and a
third longer at 100,000, built in 1.6 ms a product.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from components.model.bundle import Bundle
from components.model.item_ranking import ItemRanker
from components.model.manifest import SearchStats
from components.model.recommender import Recommender
from components.progress import log_progress
from components.ranking.build_index import N_QUERIES, TARGET_RECALL, compute_recall, index_catalogue
from components.ranking.queries import BATCH

MIN_ITEMS = 20_000  # Products below which exact search is always the fastest

MIN_ITEMS_COMPANIONS = 50_000  # Companions are far faster from here: only their recall decides
INDEX_BUILD_MS = 2.0  # CPU to build an index, a product: pointless where exact search takes less
BATCHES, ROUNDS = 2, 3  # Timed batches of items, and rounds, of which the fastest counts


def choose_search_method(bundle: Bundle, depth: int, folder: Path, seed: int) -> Bundle:
    """The bundle with the fastest method for `depth` items. An index goes to `folder`.

    Where timings nearly tie, runs may differ, and items by the index's recall.
    """
    if bundle.manifest.n_items < MIN_ITEMS:
        return bundle
    bundle = try_companion_search(bundle, depth, seed)
    stats = bundle.manifest.search
    if stats is None:
        stats = SearchStats(exact_ms=_measure_ms([bundle], _sample_items(bundle, seed), depth)[0])
    if stats.exact_ms >= INDEX_BUILD_MS and not bundle.manifest.among_companions:
        stats, bundle = _try_index(bundle, stats, depth, folder, seed)
    log_progress(f"search: {stats.describe()}")
    return _with_manifest(bundle, search=stats)


def try_companion_search(bundle: Bundle, depth: int, seed: int) -> Bundle:
    """The bundle, searched among companions if that reaches TARGET_RECALL."""
    if bundle.manifest.n_items < MIN_ITEMS_COMPANIONS:
        return bundle
    among = _with_manifest(bundle, among_companions=True)
    exact_ms, companions_ms = _measure_ms([bundle, among], _sample_items(bundle, seed), depth)
    recall = _measure_recall(among, bundle, seed)
    stats = SearchStats(
        exact_ms=exact_ms, companions_ms=companions_ms, companions_recall_at_10=recall
    )
    return _with_manifest(among if recall >= TARGET_RECALL else bundle, search=stats)


def _try_index(
    bundle: Bundle, stats: SearchStats, depth: int, folder: Path, seed: int
) -> tuple[SearchStats, Bundle]:
    index, index_stats = index_catalogue(bundle, seed)
    path = folder / "index.hnsw"
    index.save_index(str(path))
    del index
    indexed = _with_manifest(replace(bundle, index_path=path), index=index_stats)
    exact_ms, index_ms = _measure_ms([bundle, indexed], _sample_items(bundle, seed), depth)
    stats = stats.model_copy(
        update={"exact_ms": exact_ms, "index_ms": index_ms, "tried": index_stats}
    )
    if not stats.is_index_faster:
        path.unlink()
    return stats, indexed if stats.is_index_faster else bundle


def _sample_items(bundle: Bundle, seed: int, n: int = BATCHES * BATCH) -> Any:
    """Up to `n` rows, (n,)."""
    return np.random.default_rng(seed).permutation(bundle.manifest.n_items)[:n].astype(np.int32)


def _measure_recall(bundle: Bundle, exact: Bundle, seed: int) -> float:
    """Recall@10 of `bundle` against `exact`."""
    queries = list(_sample_items(bundle, seed, N_QUERIES)[:, None])
    return compute_recall(*(Recommender(one).rank(queries, 10)[0] for one in (bundle, exact)))


def _measure_ms(bundles: Sequence[Bundle], sample: Any, depth: int) -> list[float]:
    """CPU per item with each of the bundles."""
    rankers = [ItemRanker(one) for one in bundles]
    for ranker in rankers:
        # Warm-up: lazily built arrays do not count.
        ranker.rank_by_blend(sample[:2], depth)
    rounds = [[_measure_cpu_s(ranker, sample, depth) for ranker in rankers] for _ in range(ROUNDS)]
    return [1000 * min(times) / len(sample) for times in zip(*rounds, strict=True)]


def _measure_cpu_s(ranker: ItemRanker, sample: Any, depth: int) -> float:
    start = time.process_time()
    for first in range(0, len(sample), BATCH):
        ranker.rank_by_blend(sample[first : first + BATCH], depth)
    return time.process_time() - start


def _with_manifest(bundle: Bundle, **changes: Any) -> Bundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update=changes))
