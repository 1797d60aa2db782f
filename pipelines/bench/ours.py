"""What fbt itself puts into `fbt bench quality`: trained as a run does, whole and by part."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bento.recommender import Recommender
from components.baskets.corpus import catalogue_of, encode, read_baskets
from components.bundle.build import build_bundle
from components.bundle.bundle import ARRAYS, NEIGHBOURS, Bundle, CartWeights, read_bundle
from components.embeddings.cooccurrence import count_pairs, write_pairs
from components.embeddings.item2vec import TrainSettings, train
from components.embeddings.model import N_QUERIES, write_vectors
from components.embeddings.validation import draw_validation, tune_betas
from components.evaluation.baselines import Ranker
from components.neighbours.model import train_neighbours
from components.progress import say
from components.results import read_json
from pipelines.bench.peers.rankers import ItemItem

WHOLE = "fbt"
"""The name of the model as it is served; its parts are `fbt: PART`."""


@dataclass(frozen=True)
class Inputs:
    """What the model is trained from, as the steps of a run leave it, and where it is put."""

    baskets: Path
    products: Path
    basket_counts: Path
    folder: Path
    min_product_orders: int
    seed: int


@dataclass(frozen=True)
class Part:
    """The model or a part of it, ready to rank for product pages and carts."""

    ranker: Ranker
    train_cpu_s: float
    n_bytes: int


@dataclass(frozen=True)
class Ours:
    """All that is compared, by name; `WHOLE` is the one that is served."""

    parts: Mapping[str, Part]
    ann_recall: float
    """Of the index against exact search; 1 where search is exact."""


def train_vectors(inputs: Inputs) -> float:
    """Train item2vec with its betas; its CPU seconds."""
    start = time.process_time()
    baskets = read_baskets(inputs.baskets)
    product_ids, n_orders = catalogue_of(baskets, inputs.min_product_orders)
    corpus = encode(baskets, product_ids, "train")
    settings = TrainSettings(seed=inputs.seed)
    vectors = train(corpus, len(product_ids), settings, show=say)
    judged = encode(baskets, product_ids, "validation")
    drawn = draw_validation(product_ids, n_orders, len(corpus), judged, N_QUERIES, settings.seed)
    betas = tune_betas(vectors, drawn)
    write_vectors(vectors, product_ids, n_orders, betas, inputs.folder / "vectors")
    return time.process_time() - start


def train_rest(inputs: Inputs) -> dict[str, float]:
    """Train all but the vectors, which must be there; CPU seconds of each part.

    Keys are co-occurrence, neighbours and blend. May be called again: what is there is replaced.
    """
    start = time.process_time()
    vectors, cooccurrence = inputs.folder / "vectors", inputs.folder / "cooccurrence"
    baskets = read_baskets(inputs.baskets)
    product_ids, n_orders = catalogue_of(baskets, inputs.min_product_orders)
    pairs = count_pairs(encode(baskets, product_ids, "train"), len(n_orders))
    write_pairs(pairs, cooccurrence)
    counted = time.process_time()
    neighbours = inputs.folder / "neighbours"
    found = train_neighbours(inputs.baskets, vectors, cooccurrence, neighbours, inputs.seed)
    both = time.process_time() - counted
    return {
        "co-occurrence": counted - start,
        "neighbours": found["cpu_s"],
        "blend": both - found["cpu_s"],
    }


def read_ours(inputs: Inputs, vectors_cpu_s: float, rest_cpu_s: Mapping[str, float]) -> Ours:
    """Build the bundle of what was trained, and take it apart."""
    folder = inputs.folder
    target = folder / "bundle"
    build_bundle(
        folder / "vectors", folder / "cooccurrence", folder / "neighbours",
        inputs.products, inputs.basket_counts, {"config": {}}, inputs.seed, target,
    )  # fmt: skip
    bundle = read_bundle(target)
    everything = vectors_cpu_s + sum(rest_cpu_s.values())
    size = sum(_size(target, name) for name in (*ARRAYS, *_stored("neighbour", NEIGHBOURS)))
    size += (target / "index.hnsw").stat().st_size if bundle.index_path else 0
    betas = read_json(folder / "vectors" / "betas.json")
    whole = Part(Recommender(bundle), everything, size)
    parts = {
        WHOLE: whole,
        f"{WHOLE}: blend": whole,
        f"{WHOLE}: vectors": Part(
            _by_vectors(bundle, betas), vectors_cpu_s,
            _size(target, "in_vectors") + _size(target, "out_vectors"),
        ),
        f"{WHOLE}: co-occurrence": Part(
            _by_pairs(bundle), rest_cpu_s["co-occurrence"],
            sum(_size(target, name) for name in ("pair_offsets", "pair_rows", "pair_probability")),
        ),
        f"{WHOLE}: neighbours": Part(
            _by_neighbours(bundle), rest_cpu_s["neighbours"],
            sum(_size(target, name) for name in _stored("neighbour", NEIGHBOURS)),
        ),
    }  # fmt: skip
    index = bundle.manifest.index
    return Ours(parts, index.recall_at_10 if index else 1.0)


def _by_vectors(bundle: Bundle, betas: Mapping[str, float]) -> Ranker:
    alone = {
        "beta_single": betas["beta_single"],
        "page_cooccurrence": 0.0,
        "cart_weights": CartWeights(),
    }
    return Recommender(replace(bundle, manifest=bundle.manifest.model_copy(update=alone)))


def _by_pairs(bundle: Bundle) -> Ranker:
    said = _matrix(bundle, bundle.pair_probability, bundle.pair_rows, bundle.pair_offsets)
    return ItemItem(said).ranker({"fuse": "sum"})


def _by_neighbours(bundle: Bundle) -> Ranker:
    ours = bundle.neighbours
    assert ours is not None
    scales = np.repeat(ours.scales, np.diff(ours.offsets))
    said = _matrix(bundle, ours.weights * scales, ours.rows, ours.offsets)
    return ItemItem(said).ranker({"fuse": "sum"})


def _matrix(bundle: Bundle, data: Any, rows: Any, offsets: Any) -> Any:
    from scipy.sparse import csr_array

    n_items = bundle.manifest.n_items
    return csr_array((data, rows, offsets), shape=(n_items, n_items))


def _stored(prefix: str, names: tuple[str, ...]) -> list[str]:
    return [f"{prefix}_{name}" for name in names]


def _size(folder: Path, name: str) -> int:
    return (folder / f"{name}.npy").stat().st_size
