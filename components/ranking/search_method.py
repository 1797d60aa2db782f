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

from components.model.bundle import Bundle, SearchFacts
from components.model.recommender import Recommender
from components.progress import say
from components.ranking.build_index import N_QUERIES, RECALL_AIM, index_catalogue, share_found
from components.ranking.queries import BATCH

TRIED_FROM = 20_000
"""Products below which exact search is always faster, so that nothing is measured."""

COMPANIONS_FROM = 50_000
"""Products from which search among companions is faster by far, so that its recall alone decides:
two runs of one shop are to search alike."""

BUILDING_MS = 2.0
"""CPU milliseconds a product that building an index takes at sizes where it could be faster: where
a page takes less exactly, all pages are ranked before there was an index."""

BATCHES, ROUNDS = 2, 3
"""Batches of pages that are timed, and how many times by turns; the quickest round counts."""


def search_where_faster(bundle: Bundle, depth: int, folder: Path, seed: int) -> Bundle:
    """The bundle, told to rank pages `depth` deep in the way that takes less CPU; what was measured
    is in its manifest. An index, if it comes to that, is put in `folder`.

    Where an index takes about as long as exact search, another run may choose otherwise; either
    finds the same products but for the index's recall.
    """
    if bundle.manifest.n_items < TRIED_FROM:
        return bundle
    bundle = search_companions_if_enough(bundle, depth, seed)
    found = bundle.manifest.search
    if found is None:
        found = SearchFacts(exact_ms=_page_ms([bundle], _sample(bundle, seed), depth)[0])
    if found.exact_ms >= BUILDING_MS and not bundle.manifest.among_companions:
        found, bundle = _index_if_faster(bundle, found, depth, folder, seed)
    say(f"search: {found.said()}")
    return _told(bundle, search=found)


def search_companions_if_enough(bundle: Bundle, depth: int, seed: int) -> Bundle:
    """The bundle, told to rank pages `depth` deep among companions if the best are found there."""
    if bundle.manifest.n_items < COMPANIONS_FROM:
        return bundle
    among = _told(bundle, among_companions=True)
    exact_ms, companions_ms = _page_ms([bundle, among], _sample(bundle, seed), depth)
    recall = _recall_at_10(among, bundle, seed)
    found = SearchFacts(
        exact_ms=exact_ms, companions_ms=companions_ms, companions_recall_at_10=recall
    )
    return _told(among if recall >= RECALL_AIM else bundle, search=found)


def _index_if_faster(
    bundle: Bundle, found: SearchFacts, depth: int, folder: Path, seed: int
) -> tuple[SearchFacts, Bundle]:
    index, facts = index_catalogue(bundle, seed)
    path = folder / "index.hnsw"
    index.save_index(str(path))
    del index
    indexed = _told(replace(bundle, index_path=path), index=facts)
    exact_ms, index_ms = _page_ms([bundle, indexed], _sample(bundle, seed), depth)
    times = {"exact_ms": exact_ms, "index_ms": index_ms, "tried": facts}
    found = found.model_copy(update=times)
    if not found.index_pays:
        path.unlink()
    return found, indexed if found.index_pays else bundle


def _sample(bundle: Bundle, seed: int, n: int = BATCHES * BATCH) -> Any:
    """Products (up to n,) whose pages are timed or looked at."""
    every = np.random.default_rng(seed).permutation(bundle.manifest.n_items)
    return every[:n].astype(np.int32)


def _recall_at_10(bundle: Bundle, exact: Bundle, seed: int) -> float:
    """Share of the ten best on pages by `exact` that are there by `bundle`."""
    pages = list(_sample(bundle, seed, N_QUERIES)[:, None])
    return share_found(*(Recommender(one).rank(pages, 10)[0] for one in (bundle, exact)))


def _page_ms(bundles: Sequence[Bundle], sample: Any, depth: int) -> list[float]:
    """CPU milliseconds per page with each of the bundles."""
    rankers = [Recommender(one) for one in bundles]
    for ranker in rankers:
        # What is made once is not to count.
        ranker.rank_pages(list(sample[:2, None]), depth)
    rounds = [[_cpu_s(ranker, sample, depth) for ranker in rankers] for _ in range(ROUNDS)]
    return [1000 * min(times) / len(sample) for times in zip(*rounds, strict=True)]


def _cpu_s(ranker: Recommender, sample: Any, depth: int) -> float:
    start = time.process_time()
    for first in range(0, len(sample), BATCH):
        ranker.rank_pages(list(sample[first : first + BATCH, None]), depth)
    return time.process_time() - start


def _told(bundle: Bundle, **facts: Any) -> Bundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update=facts))
