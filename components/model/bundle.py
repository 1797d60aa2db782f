"""The bundle: a model as one directory, with one reader, one writer and one format version.

A bundle is immutable. `bundle.json` holds the sha256 of every other file, and is written last.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from components.model.arrays import (
    AnyArray,
    Float32Array,
    Int8Array,
    Int32Array,
    Int64Array,
    load_array,
)
from components.model.atomic import atomic_write
from components.model.chance import Chance
from components.model.float16 import to_float16
from components.model.item_features import SALES_COLUMNS, ItemFeatures, build_default_features
from components.model.item_scores import ItemScores, build_item_scores
from components.model.kinds import Kinds
from components.model.manifest import FORMAT_VERSION, MANIFEST_FILE, READ_FORMATS, Manifest
from components.model.product_records import Facets, ProductRecords, build_records
from components.model.ragged import ArrayGroup, RaggedRows
from components.model.seasons import Seasons
from components.model.sensitive_goods import SensitiveGoods
from components.model.text_similarity import AttributeIndex, build_attribute_index
from components.model.token_index import TokenIndex, build_token_index
from components.model.tree_ensemble import TreeEnsemble
from components.model.variants import Variants

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa

ARRAYS = ("in_vectors", "out_vectors", "n_orders")

PRODUCTS_FILE = "products.arrow"
INDEX_FILE = "index.hnsw"
IN_INDEX_FILE = "in_vectors.hnsw"


class BundleError(ValueError):
    """A directory is not a whole bundle of this format."""


@dataclass(frozen=True)
class Pairs(RaggedRows, prefix="pairs"):
    """The strongest co-occurring products, most probable first.

    `support` are baskets with both, `probability` is the size-weighted P(row | product).
    """

    support: AnyArray
    probability: Float32Array


@dataclass(frozen=True)
class Neighbours(RaggedRows, prefix="neighbours"):
    """Regression weights of a cart's product i for others: `scales[i]` times `weights`."""

    weights: Int8Array
    scales: Float32Array


@dataclass(frozen=True)
class PrecomputedItems(ArrayGroup, prefix="precomputed"):
    """Companions (n_items, depth), best first; -1 where there are none.

    `is_real` marks those of REAL evidence; None in bundles of before.
    """

    rows: Int32Array
    scores: Float32Array
    is_real: AnyArray | None = None


@dataclass(frozen=True)
class Bundle:
    """A model in memory, memory-mapped where it was read.

    The first `manifest.n_items` products, most bought first, have vectors (n_items, dims): IN in
    float32, as substitutes take all at once, OUT in float16 where they were read. `n_orders`
    (n_items,) are training baskets.
    """

    manifest: Manifest
    products: "pa.Table"
    """None where it was not wanted."""
    in_vectors: Float32Array
    out_vectors: AnyArray
    n_orders: Int64Array
    pairs: Pairs
    neighbours: Neighbours
    item_features: ItemFeatures
    records: ProductRecords
    facets: Facets
    attributes: AttributeIndex
    token_index: TokenIndex
    item_scores: ItemScores | None = None
    """Computed when the bundle is written."""
    precomputed: PrecomputedItems | None = None
    reranker: TreeEnsemble | None = None
    """Of carts; None where it did not pay."""
    variants: Variants | None = None
    chance: Chance | None = None
    """None in bundles of before: nothing is taken off then."""
    kinds: Kinds | None = None
    sensitive: SensitiveGoods | None = None
    seasons: Seasons | None = None
    """None where the orders cover no year, or have no times."""
    index_path: Path | None = None
    """Of item pages, see `components.model.vector_index`."""
    in_index_path: Path | None = None
    """Of IN vectors."""

    @property
    def product_ids(self) -> list[str]:
        ids: list[str] = self.products["product_id"].to_pylist()
        return ids


REQUIRED: tuple[type[ArrayGroup], ...] = (
    *(Pairs, Neighbours, ItemFeatures, ProductRecords, Facets, AttributeIndex, TokenIndex),
)
OPTIONAL: tuple[type[ArrayGroup], ...] = (
    *(ItemScores, PrecomputedItems, TreeEnsemble, Variants, Chance, Kinds, SensitiveGoods),
    Seasons,
)


def assemble_bundle(
    manifest: Manifest,
    products: "pa.Table",
    in_vectors: Float32Array,
    out_vectors: AnyArray,
    n_orders: Int64Array,
    pairs: Pairs | None = None,
    neighbours: Neighbours | None = None,
    item_features: ItemFeatures | None = None,
    **optional: Any,
) -> Bundle:
    """A bundle of trained parts, and lookups from its product table."""
    n_items, rows = manifest.n_items, np.empty(0, np.int32)
    offsets, values = np.zeros(n_items + 1, np.int64), np.empty(0, np.float32)
    pairs = pairs or Pairs(offsets, rows, rows, values)
    scales = np.zeros(n_items, np.float32)
    neighbours = neighbours or Neighbours(offsets, rows, np.empty(0, np.int8), scales)
    if item_features is None:
        shares = n_orders / manifest.n_orders
        item_features = build_default_features(
            in_vectors, out_vectors, manifest.beta_cart * np.log(shares), pairs.probability
        )
    records, facets = build_records(products)
    attributes = build_attribute_index(products, n_items)
    tokens = build_token_index(products)
    return Bundle(
        manifest, products, in_vectors, out_vectors, n_orders, pairs, neighbours, item_features,
        records, facets, attributes, tokens, **optional,
    )  # fmt: skip


def write_bundle(bundle: Bundle, path: str | Path, index: Any = None) -> Manifest:
    """Write the directory `path`, whole or not at all, and return the manifest with all hashes.

    `index` is hnswlib's, of item pages; without it the bundle's own index file is copied.
    """
    bundle = replace(bundle, item_scores=build_item_scores(bundle))
    with atomic_write(path) as folder:
        folder.mkdir(parents=True)
        _write_products(bundle.products, folder / PRODUCTS_FILE)
        for name in ARRAYS:
            array = getattr(bundle, name)
            array = to_float16(array) if name == "out_vectors" else np.ascontiguousarray(array)
            np.save(folder / f"{name}.npy", array)
        for field in fields(bundle):
            if isinstance(group := getattr(bundle, field.name), ArrayGroup):
                group.save(folder)
        if index is not None:
            index.save_index(str(folder / INDEX_FILE))
        elif bundle.index_path is not None:
            shutil.copyfile(bundle.index_path, folder / INDEX_FILE)
        if bundle.in_index_path is not None:
            shutil.copyfile(bundle.in_index_path, folder / IN_INDEX_FILE)
        hashes = {file.name: compute_sha256(file) for file in sorted(folder.iterdir())}
        update = {"files": hashes, "format_version": FORMAT_VERSION}
        manifest = bundle.manifest.model_copy(update=update)
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2))
    return manifest


def read_bundle(path: str | Path, verify: bool = True, products: bool = True) -> Bundle:
    """Arrays are memory-mapped read-only; the table of `products` is optional.

    Raises BundleError for a directory that is no bundle, has a newer format, or (`verify`) differs
    from what was written.
    """
    path = Path(path)
    manifest = read_manifest(path)
    for name, expected in manifest.files.items():
        check_file(path / name, expected if verify else None)
    try:
        parts: dict[str, Any] = {name: load_array(path / f"{name}.npy") for name in ARRAYS}
        parts |= {group.prefix: group.load(path) for group in REQUIRED}
        parts |= {group.prefix: group.load_if_saved(path) for group in OPTIONAL}
        table = _read_products(path / PRODUCTS_FILE) if products else None
    except FileNotFoundError as error:
        raise BundleError(f"bundle: {error.filename} is missing; fetch the version again") from None
    index_path = path / INDEX_FILE if manifest.index else None
    in_index_path = path / IN_INDEX_FILE if manifest.substitutes else None
    bundle = Bundle(manifest, table, **parts, index_path=index_path, in_index_path=in_index_path)
    _check_shapes(bundle, path)
    return bundle


def read_manifest(path: str | Path) -> Manifest:
    """Raises BundleError as `read_bundle` does."""
    file = Path(path) / MANIFEST_FILE
    if not file.is_file():
        raise BundleError(
            f"bundle: {path} holds no bundle.json, so it is no bundle or was only partly copied; "
            "fetch the version again from the registry"
        )
    try:
        content = json.loads(file.read_text())
        found = content["format_version"]
        if found in READ_FORMATS:
            return Manifest.model_validate(content)
    except (ValueError, KeyError, TypeError) as error:
        if unknown := _list_unknown_fields(error):
            raise BundleError(
                f"bundle: {file} has {', '.join(unknown)}, which this fbt does not know, for a "
                "newer one wrote it; upgrade fbt to serve this version"
            ) from None
        raise BundleError(f"bundle: {file} is damaged ({error}); fetch the version again") from None
    is_older = isinstance(found, int) and found < READ_FORMATS[0]
    raise BundleError(
        f"bundle: {path} has format {found!r}, this fbt reads {READ_FORMATS[0]} to "
        f"{READ_FORMATS[-1]}; "
        + ("train again with this fbt" if is_older else "upgrade fbt to serve this version")
    )


def _list_unknown_fields(error: Exception) -> list[str]:
    """Of a manifest with no other fault."""
    faults = error.errors() if isinstance(error, ValidationError) else []
    if any(fault["type"] != "extra_forbidden" for fault in faults):
        return []
    return [".".join(map(str, fault["loc"])) for fault in faults]


def compute_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_file(file: Path, expected: str | None) -> None:
    """Raises BundleError for a missing file, or a hash other than `expected`."""
    if not file.is_file():
        raise BundleError(
            f"bundle: {file.name} is missing in {file.parent}; fetch the version again"
        )
    if expected is not None and (found := compute_sha256(file)) != expected:
        raise BundleError(
            f"bundle: {file} is damaged: its sha256 is {found[:12]}…, bundle.json says "
            f"{expected[:12]}…; fetch the version again"
        )


def _write_products(products: "pa.Table", file: Path) -> None:
    import pyarrow as pa

    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, products.schema) as writer:
        writer.write_table(products.combine_chunks())


def _read_products(file: Path) -> "pa.Table":
    import pyarrow as pa

    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).read_all()


def _check_shapes(bundle: Bundle, path: Path) -> None:
    n_items, n_products = bundle.manifest.n_items, bundle.manifest.n_products
    expected: dict[str, tuple[int, ...]] = {
        "in_vectors": (n_items, bundle.manifest.dims),
        "out_vectors": (n_items, bundle.manifest.dims),
        "n_orders": (n_items,),
        "pairs.offsets": (n_items + 1,),
        "neighbours.offsets": (n_items + 1,),
        "neighbours.scales": (n_items,),
        "item_features.sales": (n_items, len(SALES_COLUMNS)),
        "item_features.recent": bundle.pairs.rows.shape,
        "attributes.log_prices": (n_items,),
        "records.price": (n_products,),
        "records.json_offsets": (n_products + 1,),
        "token_index.id_rows": (n_products,),
        "token_index.id_offsets": (n_products + 1,),
        "item_scores.offsets": (n_items + 1,),
        "variants.offsets": (n_items + 1,),
        "chance.shares": (n_items,),
        "chance.excess": bundle.pairs.rows.shape,
        "kinds.codes": (n_products,),
        "sensitive.classes": (n_products,),
        "seasons.quiet": (n_items,),
    }
    if bundle.precomputed:
        expected["precomputed.rows"] = (n_items, bundle.precomputed.rows.shape[1])
        if bundle.precomputed.is_real is not None:
            expected["precomputed.is_real"] = expected["precomputed.rows"]
    if bundle.chance:
        expected["chance.baskets"] = (n_items, len(bundle.chance.others))
        if bundle.chance.grades is not None:
            expected["chance.grades"] = bundle.pairs.rows.shape
    for name, shape in expected.items():
        if getattr(bundle, name.split(".")[0]) is None:
            continue
        if (found := attrgetter(name)(bundle).shape) != shape:
            raise BundleError(f"bundle: {name} in {path} has shape {found}, expected {shape}")
