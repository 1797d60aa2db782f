"""Fits neighbours on all training baskets."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from components.baskets.weighting import BasketWeighting, TrainingBaskets, read_training_baskets
from components.embeddings.cooccurrence import compute_shares, count_head, count_pairs
from components.embeddings.model import read_product_ids
from components.model.atomic import atomic_write
from components.model.bundle import Neighbours
from components.neighbours.ridge import NeighbourSettings, fit_neighbours
from components.spark import Mapper, catalogue_mapper, map_in_process


def train_neighbours(
    baskets_path: str | Path, vectors: Path, target: Path,
    settings: NeighbourSettings | None = None, splits: Sequence[str] = ("train",),
) -> dict[str, Any]:  # fmt: skip
    """Write the directory `target` of neighbours; returns the number of weights and CPU seconds.

    Of `vectors` only the catalogue is read.
    """
    settings = settings or NeighbourSettings()
    product_ids = read_product_ids(vectors)
    weighting = BasketWeighting(half_life_days=settings.half_life_days)
    training = read_training_baskets(baskets_path, product_ids, weighting, splits)
    start = time.process_time()
    with catalogue_mapper("neighbours") as mapper:
        neighbours = fit_on_baskets(training, len(product_ids), settings, mapper)
    cpu_s = round(time.process_time() - start, 1)
    with atomic_write(target) as aside:
        aside.mkdir(parents=True)
        neighbours.save(aside)
    return {"weights": len(neighbours.rows), "cpu_s": cpu_s}


def fit_on_baskets(
    training: TrainingBaskets,
    n_items: int,
    settings: NeighbourSettings,
    mapper: Mapper = map_in_process,
) -> Neighbours:
    baskets = training.apply_size_exponent(settings.size_exponent)
    # `count_pairs` divides by n - 1; single products must be weighted alike.
    weights = (baskets.weights / np.maximum(baskets.sizes - 1, 1)).astype(np.float32)
    # The mean weight of an order line is 1, so that the ridge is in orders.
    scale = np.float32(1 / max(np.repeat(weights, baskets.sizes).mean(), 1e-30))
    corpus = replace(baskets, weights=scale * weights)
    orders = np.bincount(corpus.items, np.repeat(corpus.weights, corpus.sizes), n_items)
    head, pairs = count_head(corpus, n_items), None
    if len(head) < n_items:
        pairs = count_pairs(baskets, n_items, mapper=mapper)
        pairs = replace(pairs, support=scale * compute_shares(pairs, baskets, n_items))
    return fit_neighbours(pairs, orders, settings, head, mapper)
