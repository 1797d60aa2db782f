"""How pages are ranked in advance: exactly, or by an index where that is faster.

Both are timed as pages are ranked, vectors, popularity and counts together. On 2 cores a page takes
.17 ms exactly and .73 by an index of the demo data's 24,607 products, .58 and .78 of 100,000 that
are made up; building the latter takes 1.6 ms a product.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bento.recommender import Recommender
from components.bundle.bundle import Bundle, SearchFacts
from components.bundle.index import index_catalogue
from components.progress import say
from components.ranking.questions import BATCH

TRIED_FROM = 20_000
"""Products below which exact search is always faster, so that nothing is measured."""

BUILDING_MS = 2.0
"""CPU milliseconds a product that building an index takes at sizes where it could be faster: where
a page takes less exactly, all pages are ranked before there was an index."""

BATCHES, ROUNDS = 2, 3
"""Batches of pages that are timed, and how many times by turns; the quickest round counts."""


def index_where_faster(bundle: Bundle, depth: int, folder: Path, seed: int) -> Bundle:
    """The bundle with an index in `folder` if pages `depth` deep take less CPU by it.

    The manifest says what was measured, whichever is faster. Close to where both take as long,
    another run may choose otherwise; either finds the same products but for the index's recall.
    """
    n_items = bundle.manifest.n_items
    if n_items < TRIED_FROM:
        return bundle
    sample = np.random.default_rng(seed).permutation(n_items)[: BATCHES * BATCH].astype(np.int32)
    found = SearchFacts(exact_ms=_page_ms([bundle], sample, depth)[0])
    if found.exact_ms >= BUILDING_MS:
        index, facts = index_catalogue(bundle, seed)
        path = folder / "index.hnsw"
        index.save_index(str(path))
        del index
        indexed = _told(replace(bundle, index_path=path), index=facts)
        exact_ms, index_ms = _page_ms([bundle, indexed], sample, depth)
        found = SearchFacts(exact_ms=exact_ms, index_ms=index_ms, tried=facts)
        if found.index_pays:
            bundle = indexed
        else:
            path.unlink()
    say(f"search: {found.said()}")
    return _told(bundle, search=found)


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
