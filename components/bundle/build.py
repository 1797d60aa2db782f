"""Vectors, co-occurrence and product cards in; a bundle with a measured index out."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.bundle.bundle import Blend, Bundle, Manifest, load_neighbours, write_bundle
from components.bundle.index import build_index, items_matrix, measure_index, queries_matrix
from components.contracts import PRODUCTS, read
from components.progress import say
from components.results import read_json

INDEX_FROM = 10_000
"""Catalogue size from which approximate search is used; exact search is faster below."""


def build_bundle(
    vectors: Path, cooccurrence: Path, neighbours: Path, products: Path, basket_counts: Path,
    best: dict[str, Any], seed: int, target: Path,
) -> Manifest:  # fmt: skip
    """Write the bundle directory `target` from what the training steps left.

    `vectors` holds in_vectors.npy, out_vectors.npy, n_orders.npy, product_ids.parquet and, where
    they were tuned on all data, betas.json; `cooccurrence` the four pair arrays, `neighbours`
    theirs and blend.json. Products without vectors keep their cards, for fallbacks.
    """
    counts = json.loads(basket_counts.read_text())
    trained = {name: np.load(vectors / f"{name}.npy") for name in ("in_vectors", "out_vectors")}
    n_orders = np.load(vectors / "n_orders.npy")
    # The sweep's betas suit its sample; they do not transfer to vectors trained on everything.
    tuned = vectors / "betas.json"
    betas = read_json(tuned) if tuned.is_file() else best
    blend = Blend(**read_json(neighbours / "blend.json"))
    pairs = {
        name: np.load(cooccurrence / f"{name}.npy")
        for name in ("pair_offsets", "pair_rows", "pair_support", "pair_probability")
    }
    cards = product_cards(pq.read_table(vectors / "product_ids.parquet")["product_id"], products)
    manifest = Manifest(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        n_items=len(n_orders),
        n_products=cards.num_rows,
        n_orders=counts["baskets_train"],
        dims=trained["in_vectors"].shape[1],
        beta_single=blend.beta_single,
        beta_cart=betas["beta_cart"],
        page_cooccurrence=blend.page_cooccurrence,
        cart_weights=blend.cart_weights,
        data_window=_window(counts),
        git_revision=git_revision(),
        code_version=os.environ.get("FBT_CODE_VERSION", ""),
        seed=seed,
        config=best["config"],
    )
    bundle = Bundle(
        manifest, cards, n_orders=n_orders, **trained, **pairs,
        neighbours=load_neighbours(neighbours),
    )  # fmt: skip
    index, bundle = _with_index(bundle, seed)
    return write_bundle(bundle, target, index)


def product_cards(product_ids: pa.ChunkedArray, products: Path) -> pa.Table:
    """PRODUCTS with the catalogue's rows first, in catalogue order, then all other products.

    A catalogue product that the product table does not know gets an empty card.
    """
    known = read(products, PRODUCTS)
    at = pc.index_in(product_ids, value_set=known["product_id"])
    mine = known.take(at).set_column(0, "product_id", product_ids)
    others = known.filter(pc.invert(pc.is_in(known["product_id"], value_set=product_ids)))
    return pa.concat_tables([mine, others.sort_by("product_id")]).combine_chunks()


def git_revision() -> str:
    """The commit this code is at, or what FBT_GIT_REVISION says (in an image), or an empty text."""
    if revision := os.environ.get("FBT_GIT_REVISION"):
        return revision
    root = Path(__file__).parents[2]
    # Installed into somebody's environment, we must not take their repository for ours.
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _with_index(bundle: Bundle, seed: int) -> tuple[Any, Bundle]:
    if bundle.manifest.n_items < INDEX_FROM:
        return None, bundle
    log_popularity = np.log(bundle.n_orders / bundle.manifest.n_orders).astype(np.float32)
    items = items_matrix(bundle.out_vectors, log_popularity)
    index = build_index(items)
    queries = queries_matrix(bundle.in_vectors, bundle.manifest.beta_single)
    facts = measure_index(index, items, queries, seed)
    say(f"index finds {facts.recall_at_10:.1%} of the exact ten best at ef {facts.ef}")
    manifest = bundle.manifest.model_copy(update={"index": facts})
    return index, Bundle(**{**bundle.__dict__, "manifest": manifest})


def _window(counts: dict[str, Any]) -> tuple[str, str] | None:
    if not counts["first_order"]:
        return None
    return counts["first_order"], counts["last_order"]
