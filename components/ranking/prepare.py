"""What the training steps left, as a bundle in memory that can rank."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from components.baskets.weighting import BasketWeighting, read_training_baskets
from components.bundle.build import load_pairs, order_product_table
from components.embeddings.cooccurrence import read_pairs
from components.embeddings.item2vec import Vectors
from components.model.bundle import Blend, Bundle, Manifest, load_group
from components.model.float16 import to_float16, to_float32
from components.progress import log_progress
from components.ranking.item_features import build_item_features
from components.results import read_json


def prepare_bundle(
    baskets_path: str | Path, vectors: Path, cooccurrence: Path, neighbours: Path, products: Path,
    tricks: BasketWeighting, blend: Blend, splits: Sequence[str] = ("train",),
) -> Bundle:  # fmt: skip
    """A bundle with facts that mixes by `blend`, without an index, pages and forest.

    `cooccurrence` and `neighbours` must come from the baskets of `splits`, which are counted.
    """
    ids = pq.read_table(vectors / "product_ids.parquet")["product_id"]
    # As a bundle stores them: what is tuned and ranked in advance is what is served.
    out_vectors = to_float32(to_float16(np.load(vectors / "out_vectors.npy")))
    trained = Vectors(np.load(vectors / "in_vectors.npy"), out_vectors)
    beta_cart = read_json(vectors / "betas.json")["beta_cart"]
    training = read_training_baskets(baskets_path, ids.combine_chunks(), tricks, splits)
    counted = training.apply_size_exponent(tricks.size_exponent)
    n_orders = np.bincount(counted.items, minlength=len(ids))
    cards = order_product_table(ids, products)
    log_progress(f"ranking: time and category facts of {len(ids)} products")
    pairs = read_pairs(cooccurrence)
    item_features = build_item_features(
        counted, training.ages, pairs, cards, trained, n_orders, beta_cart
    )
    manifest = Manifest(
        **blend.model_dump(),
        created_at="",
        n_items=len(ids),
        n_products=cards.num_rows,
        n_orders=len(counted),
        dims=trained.in_vectors.shape[1],
        beta_cart=beta_cart,
    )
    return Bundle(
        manifest,
        cards,
        trained.in_vectors,
        trained.out_vectors,
        n_orders,
        **load_pairs(cooccurrence),
        neighbours=load_group("neighbours", neighbours),
        item_features=item_features,
    )
