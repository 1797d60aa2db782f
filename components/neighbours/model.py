"""Neighbours fitted on all training baskets."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from components.aside import written_aside
from components.baskets.corpus import encode, read_baskets
from components.bundle.bundle import save_group
from components.embeddings.cooccurrence import count_head, read_pairs
from components.neighbours.ridge import NeighbourSettings, fit_neighbours
from components.spark import catalogue_mapper


def train_neighbours(
    baskets_path: str | Path, vectors: Path, cooccurrence: Path, target: Path,
    settings: NeighbourSettings | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the directory `target` of neighbours, and return how many weights and what it took.

    Of `vectors` only the catalogue and its orders are read.
    """
    n_orders = np.load(vectors / "n_orders.npy")
    product_ids = pq.read_table(vectors / "product_ids.parquet")["product_id"].combine_chunks()
    corpus = encode(read_baskets(baskets_path), product_ids, "train")
    start = time.process_time()
    head = count_head(corpus, len(n_orders))
    with catalogue_mapper("neighbours") as mapped:
        fitted = settings or NeighbourSettings()
        neighbours = fit_neighbours(read_pairs(cooccurrence), n_orders, fitted, head, mapped)
    cpu_s = round(time.process_time() - start, 1)
    with written_aside(target) as aside:
        aside.mkdir(parents=True)
        save_group(neighbours, aside)
    return {"weights": len(neighbours.rows), "cpu_s": cpu_s}
