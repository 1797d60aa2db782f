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

from components.contracts import PRODUCTS, read_table
from components.model.bundle import (
    ARRAYS,
    Bundle,
    Manifest,
    load_array,
    load_group,
    write_bundle,
)
from components.model.text_similarity import build_attribute_index
from components.results import read_json


def build_bundle(
    vectors: Path, cooccurrence: Path, neighbours: Path, ranking: Path, products: Path,
    basket_counts: Path, best: dict[str, Any], seed: int, target: Path,
) -> Manifest:  # fmt: skip
    """Write the bundle directory `target` from what the training steps left.

    `vectors` holds in_vectors.npy, out_vectors.npy, n_orders.npy, product_ids.parquet and
    betas.json; `cooccurrence` and `neighbours` their arrays; `ranking` facts, pages, where it paid
    a forest, where there is one an index, what is mixed, and how many baskets were counted.
    Products without vectors keep their cards, for fallbacks.
    """
    counts = json.loads(basket_counts.read_text())
    n_orders = np.load(vectors / "n_orders.npy")
    cards = order_product_table(
        pq.read_table(vectors / "product_ids.parquet")["product_id"], products
    )
    trained = {name: np.load(vectors / f"{name}.npy") for name in ("in_vectors", "out_vectors")}
    manifest = Manifest(
        **read_json(ranking / "blend.json"),
        **read_json(ranking / "search.json"),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        n_items=len(n_orders),
        n_products=cards.num_rows,
        n_orders=read_json(ranking / "counted.json")["n_orders"],
        dims=trained["in_vectors"].shape[1],
        beta_cart=read_json(vectors / "betas.json")["beta_cart"],
        ranking=read_json(ranking / "ranking.json"),
        data_window=_window(counts),
        git_revision=git_revision(),
        code_version=os.environ.get("FBT_CODE_VERSION", ""),
        seed=seed,
        config=best["config"],
    )
    groups = {
        "item_features": ranking,
        "precomputed": ranking,
        "reranker": ranking,
        "variants": ranking,
        "neighbours": neighbours,
    }
    bundle = Bundle(
        manifest,
        cards,
        n_orders=n_orders,
        **trained,
        **load_pairs(cooccurrence),
        **{name: load_group(name, folder) for name, folder in groups.items()},
        attributes=build_attribute_index(cards, len(n_orders)),
        index_path=ranking / "index.hnsw" if manifest.index else None,
    )
    return write_bundle(bundle, target)


def load_pairs(cooccurrence: Path) -> dict[str, Any]:
    """The pair arrays in a directory, by their names in Bundle, memory-mapped."""
    names = [name for name in ARRAYS if name.startswith("pair_")]
    return {name: load_array(cooccurrence / f"{name}.npy") for name in names}


def order_product_table(product_ids: pa.ChunkedArray, products: Path) -> pa.Table:
    """PRODUCTS with the catalogue's rows first, in catalogue order, then all other products.

    A catalogue product that the product table does not know gets an empty card.
    """
    known = read_table(products, PRODUCTS)
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


def _window(counts: dict[str, Any]) -> tuple[str, str] | None:
    if not counts["first_order"]:
        return None
    return counts["first_order"], counts["last_order"]
