"""How pages are ranked in advance: exactly, among companions, or by an index.

Of a large catalogue a page has nearly nothing but what was bought with its product, what was bought
with that, and bestsellers: ranking only those takes as long however large the catalogue is. What
that misses is measured; where it misses too much, an index is tried. All are timed as pages are
ranked, vectors, popularity and counts together. On one core a page of 20,000 products takes .11 ms
exactly and .09 among companions; by an index of the demo data's 24,607 it took four times as long
as exactly, of 100,000 that are made up a third longer; building the latter took 1.6 ms a product.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from components.model.bundle import Bundle, SearchStats
from components.model.recommender import Recommender
from components.progress import log_progress
from components.ranking.build_index import N_QUERIES, TARGET_RECALL, compute_recall, index_catalogue
from components.ranking.queries import BATCH

MIN_ITEMS = 20_000
"""Products below which exact search is always faster, so that nothing is measured."""

MIN_ITEMS_COMPANIONS = 50_000
"""Products from which search among companions is faster by far, so that its recall alone decides:
two runs of one shop are to search alike."""

INDEX_BUILD_MS = 2.0
"""CPU milliseconds a product that building an index takes at sizes where it could be faster: where
a page takes less exactly, all pages are ranked before there was an index."""

BATCHES, ROUNDS = 2, 3
"""Batches of pages that are timed, and how many times by turns; the quickest round counts."""


def choose_search_method(bundle: Bundle, depth: int, folder: Path, seed: int) -> Bundle:
    """The bundle, told to rank pages `depth` deep in the way that takes less CPU; what was measured
    is in its manifest. An index, if it comes to that, is put in `folder`.

    Where an index takes about as long as exact search, another run may choose otherwise; either
    finds the same products but for the index's recall.
    """
    if bundle.manifest.n_items < MIN_ITEMS:
        return bundle
    bundle = try_companion_search(bundle, depth, seed)
    found = bundle.manifest.search
    if found is None:
        found = SearchStats(exact_ms=_measure_ms([bundle], _sample_items(bundle, seed), depth)[0])
    if found.exact_ms >= INDEX_BUILD_MS and not bundle.manifest.among_companions:
        found, bundle = _try_index(bundle, found, depth, folder, seed)
    log_progress(f"search: {found.describe()}")
    return _with_manifest(bundle, search=found)


def try_companion_search(bundle: Bundle, depth: int, seed: int) -> Bundle:
    """The bundle, told to rank pages `depth` deep among companions if the best are found there."""
    if bundle.manifest.n_items < MIN_ITEMS_COMPANIONS:
        return bundle
    among = _with_manifest(bundle, among_companions=True)
    exact_ms, companions_ms = _measure_ms([bundle, among], _sample_items(bundle, seed), depth)
    recall = _measure_recall(among, bundle, seed)
    found = SearchStats(
        exact_ms=exact_ms, companions_ms=companions_ms, companions_recall_at_10=recall
    )
    return _with_manifest(among if recall >= TARGET_RECALL else bundle, search=found)


def _try_index(
    bundle: Bundle, found: SearchStats, depth: int, folder: Path, seed: int
) -> tuple[SearchStats, Bundle]:
    index, facts = index_catalogue(bundle, seed)
    path = folder / "index.hnsw"
    index.save_index(str(path))
    del index
    indexed = _with_manifest(replace(bundle, index_path=path), index=facts)
    exact_ms, index_ms = _measure_ms([bundle, indexed], _sample_items(bundle, seed), depth)
    times = {"exact_ms": exact_ms, "index_ms": index_ms, "tried": facts}
    found = found.model_copy(update=times)
    if not found.is_index_faster:
        path.unlink()
    return found, indexed if found.is_index_faster else bundle


def _sample_items(bundle: Bundle, seed: int, n: int = BATCHES * BATCH) -> Any:
    """Products (up to n,) whose pages are timed or looked at."""
    every = np.random.default_rng(seed).permutation(bundle.manifest.n_items)
    return every[:n].astype(np.int32)


def _measure_recall(bundle: Bundle, exact: Bundle, seed: int) -> float:
    """Share of the ten best on pages by `exact` that are there by `bundle`."""
    pages = list(_sample_items(bundle, seed, N_QUERIES)[:, None])
    return compute_recall(*(Recommender(one).rank(pages, 10)[0] for one in (bundle, exact)))


def _measure_ms(bundles: Sequence[Bundle], sample: Any, depth: int) -> list[float]:
    """CPU milliseconds per page with each of the bundles."""
    rankers = [Recommender(one) for one in bundles]
    for ranker in rankers:
        # What is made once is not to count.
        ranker.rank_items(list(sample[:2, None]), depth)
    rounds = [[_measure_cpu_s(ranker, sample, depth) for ranker in rankers] for _ in range(ROUNDS)]
    return [1000 * min(times) / len(sample) for times in zip(*rounds, strict=True)]


def _measure_cpu_s(ranker: Recommender, sample: Any, depth: int) -> float:
    start = time.process_time()
    for first in range(0, len(sample), BATCH):
        ranker.rank_items(list(sample[first : first + BATCH, None]), depth)
    return time.process_time() - start


def _with_manifest(bundle: Bundle, **facts: Any) -> Bundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update=facts))
