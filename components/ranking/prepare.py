"""A bundle in memory from the outputs of the training steps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.baskets.weighting import BasketWeighting, read_training_baskets
from components.bundle.build import order_product_table
from components.embeddings.item2vec import Vectors
from components.embeddings.model import read_product_ids, read_vectors
from components.model.bundle import Bundle, Neighbours, Pairs, assemble_bundle
from components.model.float16 import to_float16, to_float32
from components.model.manifest import Blend, Manifest
from components.progress import log_progress
from components.ranking.chance import build_chance
from components.ranking.item_features import build_item_features
from components.results import read_json


def prepare_bundle(
    baskets_path: str | Path, vectors: Path, cooccurrence: Path, neighbours: Path, products: Path,
    weighting: BasketWeighting, blend: Blend, splits: Sequence[str] = ("train",),
) -> Bundle:  # fmt: skip
    """A bundle without index, precomputed items and re-ranker.

    `cooccurrence` and `neighbours` must come from the baskets of `splits`.
    """
    ids = read_product_ids(vectors)
    training = read_training_baskets(baskets_path, ids, weighting, splits)
    counted = training.apply_size_exponent(weighting.size_exponent)
    n_orders = np.bincount(counted.items, minlength=len(ids))
    product_table = order_product_table(ids, products)
    trained = _round_out_vectors(read_vectors(vectors))
    beta_cart = read_json(vectors / "betas.json")["beta_cart"]
    log_progress(f"ranking: features of {len(ids)} products")
    pairs = Pairs.load(cooccurrence)
    item_features = build_item_features(
        counted, training.ages, pairs, product_table, trained, n_orders, beta_cart
    )
    manifest = Manifest(
        **blend.model_dump(), created_at="", n_items=len(ids), n_products=product_table.num_rows,
        n_orders=len(counted), dims=trained.in_vectors.shape[1], beta_cart=beta_cart,
    )  # fmt: skip
    return assemble_bundle(
        manifest, product_table, trained.in_vectors, trained.out_vectors, n_orders, pairs,
        Neighbours.load(neighbours), item_features,
        chance=build_chance(training.corpus, pairs, weighting),
    )  # fmt: skip


def _round_out_vectors(vectors: Vectors) -> Vectors:
    """As a bundle stores them."""
    return Vectors(vectors.in_vectors, to_float32(to_float16(vectors.out_vectors)))
