"""The bundle: a model as one directory, with one reader, one writer and one format version.

A bundle is immutable. `bundle.json` holds the sha256 of every other file, and is written last.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.model.arrays import (
    AnyArray,
    Float32Array,
    Float64Array,
    Int8Array,
    Int16Array,
    Int32Array,
    Int64Array,
)
from components.model.atomic import atomic_write
from components.model.float16 import to_float16
from components.model.item_scores import VOICES, ItemScores, build_item_scores
from components.model.product_records import CARDS, FACETS, Facets, ProductRecords, build_records
from components.model.products import product_schema
from components.model.text_similarity import (
    AttributeIndex,
    build_attribute_index,
    load_attributes,
    save_attributes,
)
from components.model.token_index import WORDS, TokenIndex, build_token_index
from components.model.variants import ARRAYS as VARIANTS
from components.model.variants import Variants

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa

FORMAT_VERSION = 6
"""2 added neighbours; 3 added facts, pages, a forest for carts, variants and attributes; 4 cards,
facets and words, and has its products as Arrow, not Parquet; 5 has OUT vectors as float16, and says
what search was measured to take; 6 says whether pages are ranked among companions. Of an older
bundle, cards and facets are made when it is read, words when they are first asked for; the rest it
has not."""


ARRAYS = {
    "in_vectors": 2,
    "out_vectors": 2,
    "n_orders": 1,
    "pair_offsets": 1,
    "pair_rows": 1,
    "pair_support": 1,
    "pair_probability": 1,
}
"""The arrays of a bundle and their number of dimensions; each lies in NAME.npy."""

FLOAT16_ARRAY = "out_vectors"
"""The array that is stored as float16."""

NEIGHBOURS = ("offsets", "rows", "weights", "scales")
"""The arrays of Neighbours; each lies in neighbour_NAME.npy where the bundle has any."""

FACTS = ("recent", "items", "category_of", "category_lift", "log_norms")
PAGES = ("rows", "scores")
FOREST = ("feature", "threshold", "left", "right", "value")
"""The arrays of Facts, Pages and Forest; they lie in fact_, page_ and forest_NAME.npy."""

PRODUCTS_FILE = "products.arrow"

SALES_COLUMNS = ("trend_short", "trend_long", "basket_size", "days_unsold")
"""Columns of `ItemFeatures.items`."""


class BundleError(ValueError):
    """A directory is not a whole bundle of a known format; the message says what to do."""


class IndexStats(BaseModel):
    """What the hnswlib file does not say of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    m: int
    ef_construction: int
    ef: int
    """Search breadth, the smallest tried that reached the recall aimed at."""
    recall_at_10: float
    """Share of the exact ten best that the index finds at `ef`, over sampled products."""


class SearchStats(BaseModel):
    """What ranking a page took when the bundle was made, in milliseconds of CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exact_ms: float
    companions_ms: float | None = None
    companions_recall_at_10: float | None = None
    """Share of the exact ten best that pages have which are ranked among companions and theirs;
    None, as the milliseconds are, where the catalogue is too small to try."""
    index_ms: float | None = None
    """None where no index was tried: building it takes longer than it could save."""
    tried: IndexStats | None = None
    """Of the index that was tried, whether or not it is used."""

    @property
    def is_index_faster(self) -> bool:
        """Whether pages are ranked by the index."""
        return self.index_ms is not None and self.index_ms < self.exact_ms

    def describe(self) -> str:
        """What was measured, in a sentence."""
        measured = [f"exact search takes {self.exact_ms:.2f} ms of CPU a page"]
        if self.companions_ms is not None and self.companions_recall_at_10 is not None:
            found = f"finds {self.companions_recall_at_10:.1%} of the exact ten best"
            measured.append(f"search among companions, which {found}, {self.companions_ms:.2f} ms")
        if self.index_ms is not None and self.tried is not None:
            found = f"finds {self.tried.recall_at_10:.1%} of the exact ten best"
            measured.append(
                f"an index, which {found} at ef {self.tried.ef}, {self.index_ms:.2f} ms"
            )
        return ", ".join(measured)


class CartWeights(BaseModel):
    """What a cart's score is made of; see `Recommender`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vectors: float = Field(default=1.0, ge=0)
    """Of the best softmax probability that any product of the cart gives a candidate."""
    cooccurrence: float = Field(default=0.0, ge=0)
    """Of the size-weighted probabilities, summed over the cart."""
    neighbours: float = Field(default=0.0, ge=0)
    """Of the regressions, summed over the cart."""
    cosine: float = Field(default=0.0, ge=0)
    """Of the cosines between the baskets of two products, summed over the cart."""
    trend: float = Field(default=0.0, ge=0)
    """Exponent of how much more often a candidate was bought lately than before."""


class Blend(BaseModel):
    """What validation baskets chose to mix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta_single: float = 0.75
    """Weight of log popularity when one product is asked for."""
    page_cooccurrence: float = Field(default=0.0, ge=0)
    """Weight of co-occurrence when one product is asked for; see `Recommender`."""
    page_trend: float = Field(default=0.0, ge=0)
    """Weight of how much more often a candidate was bought lately, on a page."""
    cart_weights: CartWeights = CartWeights()
    cart_recency: float = Field(default=1.0, gt=0, le=1)
    """Factor of what a product in a cart says, for every product put in later; 1 ignores order."""
    cart_mix: float = Field(default=0.0, ge=0)
    """Weight of all this beside a forest in carts, see
    `components.model.tree_ensemble.mixed`; 0 before format 5."""


class Manifest(Blend):
    """bundle.json: everything about a model that is not an array, what is mixed included."""

    format_version: int = FORMAT_VERSION
    created_at: str
    """ISO 8601, UTC."""
    n_items: int
    """Products with vectors; the first rows of the product table."""
    n_products: int
    """All rows of the product table."""
    n_orders: int
    """Training baskets, the base of support and lift."""
    dims: int
    beta_cart: float = 0.25
    """Weight of log popularity in the softmax of carts."""
    index: IndexStats | None = None
    """None where pages are not ranked by one."""
    among_companions: bool = False
    """Whether pages are ranked among companions and theirs instead of the whole catalogue."""
    search: SearchStats | None = None
    """None where the catalogue is too small for an index to pay on any machine."""
    data_window: tuple[str, str] | None = None
    """First and last order, ISO 8601, or None for data without timestamps."""
    git_revision: str = ""
    code_version: str = ""
    seed: int = 0
    config: dict[str, Any] = Field(default_factory=dict)
    """The training configuration the sweep picked."""
    ranking: dict[str, Any] = Field(default_factory=dict)
    """What ranking measured on validation baskets; see `train_ranking`."""
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 of every file of the bundle, by name."""

    @property
    def search_recall(self) -> float | None:
        """Share of the exact ten best that search finds; None where it is exact."""
        if self.among_companions and self.search:
            return self.search.companions_recall_at_10
        return self.index.recall_at_10 if self.index else None


@dataclass(frozen=True)
class Neighbours:
    """What a product in a cart says for others, and against them.

    `rows[offsets[i]:offsets[i + 1]]` are the products that product i speaks of; `scales[i]` times
    `weights` (int8) is how much it adds to their scores.
    """

    offsets: Int64Array
    rows: Int32Array
    weights: Int8Array
    scales: Float32Array


@dataclass(frozen=True)
class ItemFeatures:
    """What re-ranking and blending look at beside vectors, pairs and neighbours.

    `recent` (n_pairs,) is the pairs' probability counted over recent baskets mostly; `items`
    (n_items, 4) has the columns ITEM_FACTS; `category_of` (n_items,) codes categories, 0 being
    none; `category_lift` (n_codes, n_codes) is the logarithm of how many times more than by chance
    a category's products are bought with another's; `log_norms` (n_items,) the logarithm of every
    product's softmax denominator in carts.
    """

    recent: Float32Array
    items: Float32Array
    category_of: Int32Array
    category_lift: Float32Array
    log_norms: Float32Array


@dataclass(frozen=True)
class PrecomputedItems:
    """The answer of every product's page: `rows` (n_items, depth), best first, -1 where none."""

    rows: Int32Array
    scores: Float32Array


@dataclass(frozen=True)
class TreeEnsemble:
    """Regression trees, (n_trees, n_nodes) each: rows go left where feature <= threshold.

    A leaf points to itself on both sides; its `value` is what the tree adds.
    """

    feature: Int16Array
    threshold: Float64Array
    left: Int16Array
    right: Int16Array
    value: Float32Array


@dataclass(frozen=True)
class Bundle:
    """A model in memory (or memory-mapped, when it was read from a directory).

    The first `manifest.n_items` products have vectors; they are sorted most bought first. Arrays:
    `in_vectors`, `out_vectors` (n_items, dims), the latter float16 where they were read; `n_orders`
    (n_items,) training baskets with the product; `pair_offsets` (n_items + 1,), with `pair_rows`,
    `pair_support` (baskets with both) and `pair_probability` (size-weighted P(row | product)) for
    the strongest co-occurring products.
    """

    manifest: Manifest
    products: "pa.Table"
    """None where it was not wanted: a service looks products up in `records`."""
    in_vectors: Float32Array
    """Not halved: substitutes are all of these times one, which would take 2.7 times as long."""
    out_vectors: AnyArray
    """See `components.model.float16`."""
    n_orders: Int64Array
    pair_offsets: Int64Array
    pair_rows: Int32Array
    pair_support: Int32Array
    pair_probability: Float32Array
    index_path: Path | None = None
    neighbours: Neighbours | None = None
    item_features: ItemFeatures | None = None
    precomputed: PrecomputedItems | None = None
    reranker: TreeEnsemble | None = None
    """Re-ranks carts; None where it did not pay. Pages are re-ranked when they are made."""
    variants: Variants | None = None
    """What is the same product over again, and is never recommended with it."""
    attributes: AttributeIndex | None = None
    """Finds products by what is written on them; older bundles have it made anew."""
    records: ProductRecords | None = None
    facets: Facets | None = None
    """Neither is None in a bundle that was read."""
    words: TokenIndex | None = None
    item_scores: ItemScores | None = None
    """What carts add up; worth anything only for the weights it was made with."""
    """What search looks at; older bundles have none."""

    @property
    def product_ids(self) -> list[str]:
        """Ids of all products, in row order."""
        ids: list[str] = self.products["product_id"].to_pylist()
        return ids


GROUPS: dict[str, tuple[type, tuple[str, ...]]] = {
    "neighbours": (Neighbours, NEIGHBOURS),
    "item_features": (ItemFeatures, FACTS),
    "precomputed": (PrecomputedItems, PAGES),
    "reranker": (TreeEnsemble, FOREST),
    "variants": (Variants, VARIANTS),
    "records": (ProductRecords, CARDS),
    "facets": (Facets, FACETS),
    "words": (TokenIndex, WORDS),
    "item_scores": (ItemScores, VOICES),
}
"""Arrays that come together or not at all: attribute of Bundle, its type, the arrays' names."""

PREFIX = {
    "neighbours": "neighbour",
    "item_features": "fact",
    "precomputed": "page",
    "reranker": "forest",
    "variants": "variant",
    "records": "card",
    "facets": "facet",
    "words": "word",
    "item_scores": "voice",
}
"""Of the groups' files, PREFIX_NAME.npy."""


def write_bundle(bundle: Bundle, path: str | Path, index: Any = None) -> Manifest:
    """Write the bundle to the directory `path`, whole or not at all.

    `index` is anything with hnswlib's `save_index(path)`; without it the bundle's own index file is
    copied. Returns the manifest with all hashes.
    """
    bundle = _add_derived(bundle)
    with atomic_write(path) as aside:
        aside.mkdir(parents=True)
        _write_products(bundle.products, aside / PRODUCTS_FILE)
        for name in ARRAYS:
            array = getattr(bundle, name)
            array = to_float16(array) if name == FLOAT16_ARRAY else np.ascontiguousarray(array)
            np.save(aside / f"{name}.npy", array)
        for name in GROUPS:
            if (group := getattr(bundle, name)) is not None:
                save_group(group, aside)
        assert bundle.attributes is not None
        save_attributes(bundle.attributes, aside)
        if index is not None:
            index.save_index(str(aside / "index.hnsw"))
        elif bundle.index_path is not None:
            shutil.copyfile(bundle.index_path, aside / "index.hnsw")
        hashes = {file.name: compute_sha256(file) for file in sorted(aside.iterdir())}
        now = {"files": hashes, "format_version": FORMAT_VERSION}
        manifest = bundle.manifest.model_copy(update=now)
        (aside / "bundle.json").write_text(manifest.model_dump_json(indent=2))
    return manifest


def read_bundle(path: str | Path, verify: bool = True, products: bool = True) -> Bundle:
    """The bundle in the directory `path`, its arrays memory-mapped read-only.

    Without `products` it comes without its product table, unless its format is an old one.
    Raises BundleError when it is no bundle, of a newer format, or (`verify`) not as it was written.
    """
    path = Path(path)
    manifest = read_manifest(path)
    for name, expected in manifest.files.items():
        check_file(path / name, expected if verify else None)
    arrays = {name: load_array(path / f"{name}.npy") for name in ARRAYS}
    is_old = manifest.format_version < 4
    table = _read_products(path) if products or is_old else None
    index_path = path / "index.hnsw" if manifest.index else None
    groups = {name: load_group(name, path) for name in GROUPS}
    if "attribute_tokens.npy" in manifest.files:
        groups["attributes"] = load_attributes(path, manifest.n_items)
    bundle = Bundle(manifest, table, **arrays, index_path=index_path, **groups)
    _check_shapes(bundle, path)
    return bundle if bundle.records and bundle.facets else _with_cards(bundle)


def read_manifest(path: str | Path) -> Manifest:
    """bundle.json of the bundle in `path`. Raises BundleError as `read_bundle` does."""
    file = Path(path) / "bundle.json"
    if not file.is_file():
        raise BundleError(
            f"bundle: {path} holds no bundle.json, so it is no bundle or was only partly copied; "
            "fetch the version again from the registry"
        )
    try:
        content = json.loads(file.read_text())
        found = content["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"bundle: {file} is damaged ({error}); fetch the version again") from None
    if not isinstance(found, int) or found > FORMAT_VERSION:
        raise BundleError(
            f"bundle: {path} has format {found!r}, this fbt reads up to {FORMAT_VERSION}; "
            "upgrade fbt to serve this version"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise BundleError(f"bundle: {file} is damaged ({error}); fetch the version again") from None


def load_group(name: str, folder: Path) -> Any:
    """The group of arrays of that name in GROUPS, memory-mapped; None where there is none."""
    kind, names = GROUPS[name]
    files = {one: folder / f"{PREFIX[name]}_{one}.npy" for one in names}
    if not any(file.exists() for file in files.values()):
        return None
    return kind(**{one: load_array(file) for one, file in files.items()})


def load_array(file: Path) -> Any:
    """The array in a file, memory-mapped read-only.

    As a plain array: every slice of numpy's memmap costs ten times that of an array.
    """
    return np.load(file, mmap_mode="r").view(np.ndarray)


def save_group(group: Any, folder: Path) -> None:
    """Write a group of arrays into `folder`, which is not yet in its place."""
    name = next(name for name, (kind, _) in GROUPS.items() if isinstance(group, kind))
    for one in GROUPS[name][1]:
        np.save(folder / f"{PREFIX[name]}_{one}.npy", np.ascontiguousarray(getattr(group, one)))


def _add_derived(bundle: Bundle) -> Bundle:
    """The bundle with all that is made of its other parts."""
    if bundle.records is None or bundle.facets is None:
        bundle = _with_cards(bundle)
    words = bundle.words or build_token_index(bundle.products)
    n_items = bundle.manifest.n_items
    attributes = bundle.attributes or build_attribute_index(bundle.products, n_items)
    item_scores = build_item_scores(bundle)
    return replace(bundle, words=words, attributes=attributes, item_scores=item_scores)


def _with_cards(bundle: Bundle) -> Bundle:
    records, facets = build_records(bundle.products)
    return replace(bundle, records=records, facets=facets)


def _write_products(products: "pa.Table", file: Path) -> None:
    import pyarrow as pa

    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, products.schema) as writer:
        writer.write_table(products.combine_chunks())


def _read_products(path: Path) -> "pa.Table":
    """The product table, memory-mapped; that of an old bundle with the columns it lacks, empty."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not (path / PRODUCTS_FILE).exists():
        table = pq.read_table(path / "products.parquet", memory_map=True)
        for field in product_schema():
            if field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        return table
    with pa.memory_map(str(path / PRODUCTS_FILE)) as source:
        return pa.ipc.open_file(source).read_all()


def compute_sha256(file: Path) -> str:
    """Hex digest of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_file(file: Path, expected: str | None) -> None:
    """Raises BundleError when the file is missing or, where one is `expected`, has another hash."""
    if not file.is_file():
        raise BundleError(
            f"bundle: {file.name} is missing in {file.parent}; fetch the version again"
        )
    if expected is not None and (found := compute_sha256(file)) != expected:
        raise BundleError(
            f"bundle: {file} is damaged: its sha256 is {found[:12]}…, bundle.json says "
            f"{expected[:12]}…; fetch the version again"
        )


def _check_shapes(bundle: Bundle, path: Path) -> None:
    n_items, dims = bundle.manifest.n_items, bundle.manifest.dims
    n_products = bundle.manifest.n_products
    expected = {
        "in_vectors": (n_items, dims),
        "out_vectors": (n_items, dims),
        "n_orders": (n_items,),
        "pair_offsets": (n_items + 1,),
    }
    shapes = {name: getattr(bundle, name).shape for name in expected}
    for group, names in {
        "neighbours": {"offsets": (n_items + 1,), "scales": (n_items,)},
        "variants": {"offsets": (n_items + 1,)},
        "item_scores": {"offsets": (n_items + 1,)},
        "records": {"price": (n_products,), "json_offsets": (n_products + 1,)},
        "words": {"id_rows": (n_products,), "id_offsets": (n_products + 1,)},
        "item_features": {"items": (n_items, len(SALES_COLUMNS)), "recent": bundle.pair_rows.shape},
        "precomputed": {"rows": (n_items, bundle.precomputed.rows.shape[1])}
        if bundle.precomputed
        else {},
    }.items():
        if (arrays := getattr(bundle, group)) is not None:
            expected |= {f"{PREFIX[group]}_{name}": shape for name, shape in names.items()}
            shapes |= {f"{PREFIX[group]}_{name}": getattr(arrays, name).shape for name in names}
    for name, shape in expected.items():
        found = shapes[name]
        if found != shape:
            raise BundleError(f"bundle: {name} in {path} has shape {found}, expected {shape}")
    if bundle.products is not None:
        _check_products(bundle.products, n_products, path)


def _check_products(products: "pa.Table", n_products: int, path: Path) -> None:

    missing = [name for name in product_schema().names if name not in products.column_names]
    if missing or products.num_rows != n_products:
        raise BundleError(
            f"bundle: the product table in {path} has {products.num_rows} rows and lacks "
            f"{missing}, expected {n_products} rows and no lack"
        )
