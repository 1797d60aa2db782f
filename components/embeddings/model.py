"""The final training of vectors and co-occurrence."""

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

N_QUERIES = 4_000  # For a coarse beta; `components.ranking` tunes it again in the blend


def train_model(
    baskets_path: str | Path, settings: dict[str, Any], min_product_orders: int,
    vectors_path: str | Path, cooccurrence_path: str | Path,
    weighting: BasketWeighting | None = None, popularity_discount: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """Write both directories of arrays; returns sizes, seconds and the betas.

    `settings` are TrainSettings, `workers` by default all usable cores; `weighting` applies to
    co-occurrence only.
    """
    chosen = TrainSettings(**{"workers": len(os.sched_getaffinity(0)), **settings})
    found = train_vectors(
        baskets_path, chosen, min_product_orders, vectors_path, popularity_discount
    )
    n_pairs = count_cooccurrence(baskets_path, vectors_path, cooccurrence_path, weighting)
    return {**found, "pairs": n_pairs}


def train_vectors(
    baskets_path: str | Path, settings: TrainSettings, min_product_orders: int, target: str | Path,
    popularity_discount: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    baskets = read_baskets(baskets_path)
    product_ids, n_orders = build_catalogue(baskets, min_product_orders)
    corpus = encode(baskets, product_ids, "train")
    validation = encode(baskets, product_ids, "validation")
    # Baskets as text take as much memory as the training.
    del baskets
    release_memory()
    start, cpu_start = time.monotonic(), time.process_time()
    vectors = train(corpus, len(product_ids), settings, show=log_progress)
    wall_s, cpu_s = time.monotonic() - start, time.process_time() - cpu_start
    judged = draw_validation(
        product_ids, n_orders, len(corpus), validation, N_QUERIES, settings.seed,
        popularity_discount,
    )  # fmt: skip
    betas = tune_betas(vectors, judged)
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
    weighting: BasketWeighting | None = None, splits: Sequence[str] = ("train",),
) -> int:  # fmt: skip
    """Write the directory `target` of pairs in baskets of `splits`; returns their number.

    Of `vectors` only the catalogue is read.
    """
    weighting = weighting or BasketWeighting()
    ids = read_product_ids(vectors)
    log_progress(
        f"co-occurrence: counting pairs of {len(ids)} products in {' and '.join(splits)} baskets"
    )
    training = read_training_baskets(baskets_path, ids, weighting, splits)
    corpus = training.apply_size_exponent(weighting.size_exponent)
    pairs = count_pairs(corpus, len(ids), reach=weighting.reach)
    write_pairs(pairs, target)
    return len(pairs.rows)


def write_vectors(
    vectors: Vectors, product_ids: pa.Array, n_orders: Int64Array, betas: dict[str, float],
    path: str | Path,
) -> None:  # fmt: skip
    with atomic_write(path) as aside:
        aside.mkdir(parents=True)
        np.save(aside / "in_vectors.npy", vectors.in_vectors)
        np.save(aside / "out_vectors.npy", vectors.out_vectors)
        np.save(aside / "n_orders.npy", n_orders)
        pq.write_table(pa.table({"product_id": product_ids}), aside / "product_ids.parquet")
        write_json(betas, aside / "betas.json")


def read_vectors(path: str | Path) -> Vectors:
    return Vectors(*(np.load(Path(path) / f"{name}.npy") for name in ("in_vectors", "out_vectors")))


def read_product_ids(path: str | Path) -> pa.Array:
    """The catalogue of a directory of vectors, in row order."""
    return pq.read_table(Path(path) / "product_ids.parquet")["product_id"].combine_chunks()
