"""Indexes the IN vectors, and measures whether exact search or the index finds substitutes faster.

Every bundle carries the index; it is loaded where it serves.
"""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np

from components.model.arrays import Float32Array, Int64Array
from components.model.bundle import IN_INDEX_FILE, Bundle
from components.model.manifest import IndexStats, SubstituteSearch
from components.model.substitutes import SubstituteScorer
from components.model.text_similarity import Attributes
from components.progress import log_progress
from components.ranking.build_index import EF_CANDIDATES, TARGET_RECALL, compute_recall

K, DEPTH = 10, 100  # Products whose recall is measured, and that a service asks for

# Below, exact search always serves. On one core it takes .5 ms among 10,000 products, 1.4 ms among
# 40,000; the index, with all that Python adds, .7 and .9. Near 20,000 runs may choose differently.
MIN_SERVED = 10_000

M, EF_CONSTRUCTION = 16, 200
PROGRESS_EVERY = 100_000
N_QUERIES = 500


def index_substitutes(bundle: Bundle, folder: Path, seed: int) -> Bundle:
    """The bundle with an index, which goes to `folder`, and the faster of both ways to search."""
    if bundle.manifest.n_items < 2:
        return bundle
    index = build_index(bundle.in_vectors)
    path = folder / IN_INDEX_FILE
    index.save_index(str(path))
    search = measure_search(bundle, index, seed)
    log_progress(f"substitutes: {search.describe()}")
    manifest = bundle.manifest.model_copy(update={"substitutes": search})
    return replace(bundle, manifest=manifest, in_index_path=path)


def build_index(vectors: Float32Array) -> Any:
    """By cosine. Not reproducible: threads race."""
    index = hnswlib.Index(space="cosine", dim=vectors.shape[1])
    index.init_index(len(vectors), M=M, ef_construction=EF_CONSTRUCTION, random_seed=1)
    index.set_num_threads(len(os.sched_getaffinity(0)))
    for start in range(0, len(vectors), PROGRESS_EVERY):
        chunk = vectors[start : start + PROGRESS_EVERY]
        index.add_items(chunk, np.arange(start, start + len(chunk)))
        log_progress(f"index of substitutes: {start + len(chunk)} of {len(vectors)} products")
    return index


def measure_search(bundle: Bundle, index: Any, seed: int) -> SubstituteSearch:
    """At the smallest ef that reaches TARGET_RECALL. By vectors alone: attributes lose nothing."""
    n_items = bundle.manifest.n_items
    rows = np.random.default_rng(seed).permutation(n_items)[:N_QUERIES]
    exactly = SubstituteScorer(bundle.in_vectors, bundle.attributes)
    by_index = SubstituteScorer(bundle.in_vectors, bundle.attributes, index)
    wanted, exact_ms = _rank(exactly, rows, DEPTH)
    ef, recall = EF_CANDIDATES[0], 0.0
    for ef in EF_CANDIDATES:
        index.set_ef(ef)
        recall = compute_recall(_rank(by_index, rows, K)[0], wanted[:, :K])
        if recall >= TARGET_RECALL:
            break
    _, index_ms = _rank(by_index, rows, DEPTH)
    pays = n_items >= MIN_SERVED and index_ms < exact_ms and recall >= TARGET_RECALL
    stats = IndexStats(m=M, ef_construction=EF_CONSTRUCTION, ef=ef, recall_at_10=recall)
    return SubstituteSearch(index=stats, exact_ms=exact_ms, index_ms=index_ms, by_index=pays)


def _rank(scorer: SubstituteScorer, rows: Int64Array, k: int) -> tuple[Int64Array, float]:
    """Substitutes (n_rows, up to k), and milliseconds of CPU per row."""
    nothing = Attributes()
    scorer.rank(int(rows[0]), nothing, k)  # What is computed once is no part of the time.
    start = time.process_time()
    found = [scorer.rank(row, nothing, k)[0] for row in rows.tolist()]
    return np.stack(found), 1000 * (time.process_time() - start) / len(rows)
