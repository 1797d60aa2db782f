"""The final training: all training baskets in, vectors and the co-occurrence table out."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from components.aside import written_aside
from components.baskets.corpus import catalogue_of, encode, read_baskets
from components.baskets.tricks import Tricks, training_baskets
from components.embeddings.cooccurrence import count_pairs, write_pairs
from components.embeddings.item2vec import TrainSettings, Vectors, train
from components.embeddings.validation import draw_validation, tune_betas
from components.progress import say
from components.results import write_json

N_QUERIES = 4_000
"""Validation baskets that tune beta, coarsely: what is mixed is tuned once more with all parts."""


def train_model(
    baskets_path: str | Path,
    settings: dict[str, Any],
    min_product_orders: int,
    vectors_path: str | Path,
    cooccurrence_path: str | Path,
    tricks: Tricks | None = None,
) -> dict[str, Any]:
    """Write both models as directories of arrays, and return what the training took.

    `settings` are those of TrainSettings; without `workers`, all cores we may use train. `tricks`
    say which training baskets count how much; vectors, which need many epochs, learn from all.
    """
    tricks = tricks or Tricks()
    baskets = read_baskets(baskets_path)
    product_ids, n_orders = catalogue_of(baskets, min_product_orders)
    training = training_baskets(baskets_path, product_ids, tricks)
    corpus = encode(baskets, product_ids, "train")
    chosen = TrainSettings(**{"workers": len(os.sched_getaffinity(0)), **settings})
    start, cpu_start = time.monotonic(), time.process_time()
    vectors = train(corpus, len(product_ids), chosen, show=say)
    wall_s, cpu_s = time.monotonic() - start, time.process_time() - cpu_start
    judged = encode(baskets, product_ids, "validation")
    validation = draw_validation(product_ids, n_orders, len(corpus), judged, N_QUERIES, chosen.seed)
    betas = tune_betas(vectors, validation)
    say(f"betas on validation baskets: {betas}")
    write_vectors(vectors, product_ids, n_orders, betas, vectors_path)
    say(f"co-occurrence: counting pairs of {len(product_ids)} products")
    counted = training.weighed_by_size(tricks.size_exponent)
    pairs = count_pairs(counted, len(product_ids), reach=tricks.reach)
    write_pairs(pairs, cooccurrence_path)
    return {
        "catalogue": len(product_ids),
        "training_baskets": len(corpus.with_at_least(2)),
        "pairs": len(pairs.rows),
        "item2vec_s": round(wall_s, 1),
        "item2vec_cpu_s": round(cpu_s, 1),
        "validation": betas,
    }


def write_vectors(
    vectors: Vectors,
    product_ids: pa.Array,
    n_orders: npt.NDArray[np.int64],
    betas: dict[str, float],
    path: str | Path,
) -> None:
    """Write vectors and what belongs to their rows as the directory `path`, whole or not at all."""
    with written_aside(path) as aside:
        aside.mkdir(parents=True)
        np.save(aside / "in_vectors.npy", vectors.in_vectors)
        np.save(aside / "out_vectors.npy", vectors.out_vectors)
        np.save(aside / "n_orders.npy", n_orders)
        pq.write_table(pa.table({"product_id": product_ids}), aside / "product_ids.parquet")
        write_json(betas, aside / "betas.json")
