"""The final training: all training baskets in, vectors and the co-occurrence table out."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.baskets.corpus import build_catalogue, encode, read_baskets, release_memory
from components.baskets.weighting import BasketWeighting, read_training_baskets
from components.embeddings.cooccurrence import count_pairs, write_pairs
from components.embeddings.item2vec import TrainSettings, Vectors, train
from components.embeddings.validation import draw_validation, tune_betas
from components.model.arrays import Int64Array
from components.model.atomic import atomic_write
from components.progress import log_progress
from components.results import write_json

N_QUERIES = 4_000
"""Validation baskets that tune beta, coarsely: what is mixed is tuned once more with all parts."""


def train_model(
    baskets_path: str | Path,
    settings: dict[str, Any],
    min_product_orders: int,
    vectors_path: str | Path,
    cooccurrence_path: str | Path,
    tricks: BasketWeighting | None = None,
) -> dict[str, Any]:
    """Write both models as directories of arrays, and return what the training took.

    `settings` are those of TrainSettings; without `workers`, all cores we may use train. `tricks`
    say which training baskets count how much; vectors, which need many epochs, learn from all.
    """
    chosen = TrainSettings(**{"workers": len(os.sched_getaffinity(0)), **settings})
    found = train_vectors(baskets_path, chosen, min_product_orders, vectors_path)
    n_pairs = count_cooccurrence(baskets_path, vectors_path, cooccurrence_path, tricks)
    return {**found, "pairs": n_pairs}


def train_vectors(
    baskets_path: str | Path, settings: TrainSettings, min_product_orders: int, target: str | Path
) -> dict[str, Any]:
    """Write the directory `target` of vectors with their betas, and return what it took."""
    baskets = read_baskets(baskets_path)
    product_ids, n_orders = build_catalogue(baskets, min_product_orders)
    corpus = encode(baskets, product_ids, "train")
    judged = encode(baskets, product_ids, "validation")
    # A large shop's baskets as text take as much memory as training does.
    del baskets
    release_memory()
    start, cpu_start = time.monotonic(), time.process_time()
    vectors = train(corpus, len(product_ids), settings, show=log_progress)
    wall_s, cpu_s = time.monotonic() - start, time.process_time() - cpu_start
    drawn = draw_validation(product_ids, n_orders, len(corpus), judged, N_QUERIES, settings.seed)
    betas = tune_betas(vectors, drawn)
    log_progress(f"betas on validation baskets: {betas}")
    write_vectors(vectors, product_ids, n_orders, betas, target)
    return {
        "catalogue": len(product_ids),
        "training_baskets": len(corpus.with_at_least(2)),
        "item2vec_s": round(wall_s, 1),
        "item2vec_cpu_s": round(cpu_s, 1),
        "validation": betas,
    }


def count_cooccurrence(
    baskets_path: str | Path, vectors: str | Path, target: str | Path,
    tricks: BasketWeighting | None = None, splits: Sequence[str] = ("train",),
) -> int:  # fmt: skip
    """Write the directory `target` of the strongest pairs in baskets of `splits`; their number.

    Of `vectors` only the catalogue is read.
    """
    tricks = tricks or BasketWeighting()
    ids = pq.read_table(Path(vectors) / "product_ids.parquet")["product_id"].combine_chunks()
    log_progress(
        f"co-occurrence: counting pairs of {len(ids)} products in {' and '.join(splits)} baskets"
    )
    training = read_training_baskets(baskets_path, ids, tricks, splits)
    weighed = training.apply_size_exponent(tricks.size_exponent)
    pairs = count_pairs(weighed, len(ids), reach=tricks.reach)
    write_pairs(pairs, target)
    return len(pairs.rows)


def write_vectors(
    vectors: Vectors,
    product_ids: pa.Array,
    n_orders: Int64Array,
    betas: dict[str, float],
    path: str | Path,
) -> None:
    """Write vectors and what belongs to their rows as the directory `path`, whole or not at all."""
    with atomic_write(path) as aside:
        aside.mkdir(parents=True)
        np.save(aside / "in_vectors.npy", vectors.in_vectors)
        np.save(aside / "out_vectors.npy", vectors.out_vectors)
        np.save(aside / "n_orders.npy", n_orders)
        pq.write_table(pa.table({"product_id": product_ids}), aside / "product_ids.parquet")
        write_json(betas, aside / "betas.json")
