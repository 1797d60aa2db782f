"""The last training step: arrays of all others in, a bundle out."""

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

from components.bundle.kinds import find_kinds
from components.contracts import PRODUCTS, read_table
from components.model.bundle import (
    IN_INDEX_FILE,
    INDEX_FILE,
    Neighbours,
    Pairs,
    PrecomputedItems,
    assemble_bundle,
    write_bundle,
)
from components.model.chance import Chance
from components.model.item_features import ItemFeatures
from components.model.kind_limits import DEFAULT_LIMITS, KindLimits
from components.model.manifest import Manifest
from components.model.seasons import Seasons
from components.model.sensitive_goods import build_sensitive_goods
from components.model.tree_ensemble import TreeEnsemble
from components.model.variants import Variants
from components.results import read_json


def build_bundle(
    vectors: Path, cooccurrence: Path, neighbours: Path, ranking: Path, products: Path,
    basket_counts: Path, best: dict[str, Any], seed: int, target: Path,
    limits: KindLimits = DEFAULT_LIMITS,
) -> Manifest:  # fmt: skip
    """Write the bundle directory `target` from what the training steps left.

    `vectors` holds in_vectors.npy, out_vectors.npy, n_orders.npy, product_ids.parquet and
    betas.json; `cooccurrence` and `neighbours` their arrays; `ranking` the refit ranking. Products
    without vectors are in the bundle, too, for the cold start.
    """
    counts = json.loads(basket_counts.read_text())
    n_orders = np.load(vectors / "n_orders.npy")
    product_ids = pq.read_table(vectors / "product_ids.parquet")["product_id"]
    table = order_product_table(product_ids, products)
    in_vectors = np.load(vectors / "in_vectors.npy")
    variants = Variants.load(ranking)
    manifest = Manifest(
        **read_json(ranking / "blend.json"),
        **read_json(ranking / "search.json"),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        n_items=len(n_orders),
        n_products=table.num_rows,
        n_orders=read_json(ranking / "counted.json")["n_orders"],
        dims=in_vectors.shape[1],
        **limits._asdict(),
        beta_cart=read_json(vectors / "betas.json")["beta_cart"],
        ranking=read_json(ranking / "ranking.json"),
        data_window=_window(counts),
        git_revision=git_revision(),
        code_version=os.environ.get("FBT_CODE_VERSION", ""),
        seed=seed,
        config=best["config"],
    )
    bundle = assemble_bundle(
        manifest,
        table,
        in_vectors,
        np.load(vectors / "out_vectors.npy"),
        n_orders,
        Pairs.load(cooccurrence),
        Neighbours.load(neighbours),
        ItemFeatures.load(ranking),
        precomputed=PrecomputedItems.load(ranking),
        reranker=TreeEnsemble.load_if_saved(ranking),
        variants=variants,
        chance=Chance.load(ranking),
        kinds=find_kinds(table, in_vectors, variants),
        sensitive=build_sensitive_goods(table),
        seasons=Seasons.load_if_saved(ranking),
        index_path=ranking / INDEX_FILE if manifest.index else None,
        in_index_path=ranking / IN_INDEX_FILE if manifest.substitutes else None,
    )
    return write_bundle(bundle, target)


def order_product_table(product_ids: pa.ChunkedArray, products: Path) -> pa.Table:
    """PRODUCTS with the catalogue first, in its order, then all other products.

    Columns are empty for catalogue products that are not in PRODUCTS.
    """
    known = read_table(products, PRODUCTS)
    place = pc.index_in(product_ids, value_set=known["product_id"])
    catalogue = known.take(place).set_column(0, "product_id", product_ids)
    others = known.filter(pc.invert(pc.is_in(known["product_id"], value_set=product_ids)))
    return pa.concat_tables([catalogue, others.sort_by("product_id")]).combine_chunks()


def git_revision() -> str:
    """The commit of this code, or FBT_GIT_REVISION (in an image), or an empty text."""
    if revision := os.environ.get("FBT_GIT_REVISION"):
        return revision
    root = Path(__file__).parents[2]
    # Installed into an environment, another repository may lie around it.
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _window(counts: dict[str, Any]) -> tuple[str, str] | None:
    return (counts["first_order"], counts["last_order"]) if counts["first_order"] else None
