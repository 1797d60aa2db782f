"""Neighbours fitted on all training baskets, and what carts should listen to."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bento.recommender import Recommender
from components.baskets.corpus import encode, read_baskets
from components.bundle.bundle import Bundle, CartWeights, save_neighbours
from components.contracts import written_aside
from components.embeddings.cooccurrence import read_pairs
from components.embeddings.item2vec import Vectors
from components.embeddings.validation import K, as_bundle, draw_validation
from components.evaluation.metrics import score
from components.evaluation.tasks import Queries
from components.neighbours.ridge import NeighbourSettings, fit_neighbours
from components.progress import say
from components.results import read_json, write_json

N_QUERIES = 12_000
"""Validation baskets; a sixth of them asks for carts."""

COOCCURRENCE = (0.0, 0.25, 0.5, 1.0)
VECTORS = (0.25, 0.5, 1.0)
"""Weights tried beside 1 for the neighbours: first of co-occurrence alone, then of vectors too."""


def train_neighbours(
    baskets_path: str | Path, vectors: Path, cooccurrence: Path, target: Path, seed: int,
    settings: NeighbourSettings | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the directory `target` of neighbours and cart weights; what they took and gained."""
    pairs, n_orders = read_pairs(cooccurrence), np.load(vectors / "n_orders.npy")
    start = time.process_time()
    neighbours = fit_neighbours(pairs, n_orders, settings or NeighbourSettings())
    cpu_s = time.process_time() - start
    product_ids = pq.read_table(vectors / "product_ids.parquet")["product_id"].combine_chunks()
    baskets = read_baskets(baskets_path)
    judged = encode(baskets, product_ids, "validation")
    n_baskets = len(encode(baskets, product_ids, "train"))
    validation = draw_validation(product_ids, n_orders, n_baskets, judged, N_QUERIES, seed)
    trained = Vectors(np.load(vectors / "in_vectors.npy"), np.load(vectors / "out_vectors.npy"))
    bundle = as_bundle(trained, validation, read_json(vectors / "betas.json")["beta_cart"])
    evidence = {f"pair_{name}": array for name, array in vars(pairs).items()}
    bundle = replace(bundle, neighbours=neighbours, **evidence)
    weights, ndcg, before = tune_cart(bundle, validation.queries["b"])
    say(f"carts listen to {weights}: NDCG@10 {ndcg:.4f}, vectors alone {before:.4f} (validation)")
    with written_aside(target) as aside:
        aside.mkdir(parents=True)
        save_neighbours(neighbours, aside)
        write_json(weights.model_dump(), aside / "cart_weights.json")
    return {
        "weights": len(neighbours.rows), "cpu_s": round(cpu_s, 1),
        "cart": weights.model_dump(), "validation": {"ndcg_b": ndcg, "ndcg_b_vectors": before},
    }  # fmt: skip


def tune_cart(bundle: Bundle, queries: Queries) -> tuple[CartWeights, float, float]:
    """The best weights for carts, their NDCG@10 and that of the vectors alone, which may win.

    Without carts to judge by, the vectors stay alone.
    """
    alone = CartWeights()
    if not len(queries):
        return alone, 0.0, 0.0
    found = {alone: _measure(bundle, alone, queries)}
    for weight in COOCCURRENCE:
        tried = CartWeights(vectors=0, cooccurrence=weight, neighbours=1)
        found[tried] = _measure(bundle, tried, queries)
    best = max(found, key=found.__getitem__)
    if best != alone:
        for weight in VECTORS:
            tried = best.model_copy(update={"vectors": weight})
            found[tried] = _measure(bundle, tried, queries)
    best = max(found, key=found.__getitem__)
    return best, found[best], found[alone]


def _measure(bundle: Bundle, weights: CartWeights, queries: Queries) -> float:
    manifest = bundle.manifest.model_copy(update={"cart_weights": weights})
    rows, _ = Recommender(replace(bundle, manifest=manifest)).rank(queries.asked, K)
    return float(score(rows, queries.relevant, manifest.n_items)["ndcg"].mean())
