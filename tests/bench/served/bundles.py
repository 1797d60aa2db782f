"""Synthetic bundles of any size in the shape of trained ones, without any meaning.

Without training, a million products take minutes. Recommendations are spread evenly over the
catalogue, the hardest case for caches; in a real shop they concentrate on bestsellers.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.contracts import PRODUCTS
from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.bundle import (
    Neighbours,
    Pairs,
    PrecomputedItems,
    assemble_bundle,
    write_bundle,
)
from components.model.item_features import ItemFeatures
from components.model.manifest import CartWeights, Manifest
from components.model.variants import Variants, build_variants

DIMS, PRECOMPUTED_DEPTH = 64, 100
N_CATEGORIES, N_BRANDS, N_WORDS = 200, 2_000, 20_000
N_ORDERS = 10_000_000
MEAN_COMPANIONS, FEWEST_COMPANIONS, MOST_COMPANIONS = 40, 8, 200
NEIGHBOURS = 40
VARIED = 20
"""One product in so many has a variant."""

ZIPF = 0.8

LOWEST_PRICE, HIGHEST_PRICE = 2.0, 50.0
"""Within a factor of 30, above which an answer puts companions last: a table look-up alone, which
others are to do as well, then gives the same answer."""

BLOCK = 50_000


def make_bundle(target: Path, n_items: int, seed: int = 1) -> Manifest:
    """Write the bundle directory `target`, with `n_items` products, the most bought first."""
    rng = np.random.default_rng(seed)
    products = product_table(n_items, rng)
    popularity = np.arange(1, n_items + 1) ** -ZIPF
    n_orders = np.maximum(popularity / popularity.sum() * 3 * N_ORDERS, 5).astype(np.int64)
    offsets = companion_offsets(n_items)
    rows = companions(offsets, n_items, rng)
    probability: Float32Array = rng.random(len(rows), np.float32) * np.float32(0.1)
    bundle = assemble_bundle(
        manifest=Manifest(
            created_at="2024-01-01T00:00:00+00:00", n_items=n_items, n_products=n_items,
            n_orders=N_ORDERS, dims=DIMS, seed=seed, page_cooccurrence=1.0,
            cart_weights=CartWeights(cooccurrence=1.0, neighbours=1.0, cosine=0.5, trend=0.1),
        ),
        products=products,
        in_vectors=0.35 * rng.standard_normal((n_items, DIMS), np.float32),
        out_vectors=0.35 * rng.standard_normal((n_items, DIMS), np.float32),
        n_orders=n_orders,
        pairs=Pairs(offsets, rows, rng.geometric(0.1, len(rows)).astype(np.int32), probability),
        neighbours=make_neighbours(n_items, rng),
        item_features=make_item_features(products, probability, rng),
        precomputed=make_precomputed(n_items, rng),
        variants=make_variants(n_items),
    )  # fmt: skip
    return write_bundle(bundle, target)


def product_id(row: int) -> str:
    """The id of the product in that row of a made-up bundle."""
    return f"p{row:07d}"


def category(code: int) -> str:
    """The name of a category, 0 to N_CATEGORIES - 1; all are of about one size."""
    return f"category {code}"


def product_table(n_items: int, rng: np.random.Generator) -> pa.Table:
    """PRODUCTS, all in stock: the rivals' look-up does not know."""
    words = pa.array([f"word{number}" for number in range(N_WORDS)])
    ranks = (N_WORDS ** rng.random((4, n_items))).astype(np.int64) - 1
    name = pc.binary_join_element_wise(*(words.take(pa.array(one)) for one in ranks), " ")
    columns = {
        "product_id": pa.array([product_id(row) for row in range(n_items)]),
        "name": name,
        "category": _draw([category(code) for code in range(N_CATEGORIES)], n_items, rng),
        "brand": _draw([f"brand {number}" for number in range(N_BRANDS)], n_items, rng),
        "price": pa.array(np.round(rng.uniform(LOWEST_PRICE, HIGHEST_PRICE, n_items), 2)),
        "in_stock": pa.array(np.ones(n_items, bool)),
    }
    every = [columns.get(field.name, pa.nulls(n_items, field.type)) for field in PRODUCTS]
    return pa.table(every, schema=pa.schema(list(PRODUCTS)))


def _draw(values: list[str], n: int, rng: np.random.Generator) -> pa.Array:
    return pa.array(values).take(pa.array(rng.integers(len(values), size=n)))


def companion_offsets(n_items: int) -> Int64Array:
    """Offsets (n_items + 1,) of a table in which much bought products have more companions."""
    shares = np.arange(1, n_items + 1) ** -0.4
    most = min(MOST_COMPANIONS, n_items // 4)
    counts = np.clip(shares * (MEAN_COMPANIONS / shares.mean()), FEWEST_COMPANIONS, most)
    return np.concatenate([[0], np.cumsum(counts.astype(np.int64))])


def companions(offsets: Int64Array, n_items: int, rng: np.random.Generator) -> Int32Array:
    """Other products, distinct within `offsets`, for each product: in steps around the catalogue.

    The steps of one product never sum to a whole round.
    """
    found = np.empty(offsets[-1], np.int32)
    for start in range(0, n_items, BLOCK):
        ends = offsets[start : start + BLOCK + 1]
        counts = np.diff(ends)
        longest = (n_items - 1) // max(int(counts.max()), 1)
        steps = rng.integers(1, longest + 1, ends[-1] - ends[0])
        sums = np.cumsum(steps)
        before = np.concatenate([[0], sums])[ends[:-1] - ends[0]]
        own = np.arange(start, start + len(counts)) - before
        found[ends[0] : ends[-1]] = (np.repeat(own, counts) + sums) % n_items
    return found


def make_precomputed(n_items: int, rng: np.random.Generator) -> PrecomputedItems:
    """Companions in no order, with scores that fall."""
    depth = min(PRECOMPUTED_DEPTH, n_items - 1)
    offsets = np.arange(n_items + 1, dtype=np.int64) * depth
    rows = companions(offsets, n_items, rng).reshape(n_items, depth)
    shuffled = rng.permutation(depth)
    scores = np.sort(rng.standard_normal((n_items, depth), np.float32), axis=1)[:, ::-1]
    return PrecomputedItems(rows[:, shuffled], scores)


def make_neighbours(n_items: int, rng: np.random.Generator) -> Neighbours:
    """The same number for each product, one in ten speaking against a product."""
    offsets = np.arange(n_items + 1, dtype=np.int64) * min(NEIGHBOURS, n_items // 4)
    weights = rng.integers(-12, 128, offsets[-1]).astype(np.int8)
    scales = rng.uniform(1e-4, 1e-3, n_items).astype(np.float32)
    return Neighbours(offsets, companions(offsets, n_items, rng), weights, scales)


def make_item_features(
    products: pa.Table, probability: Float32Array, rng: np.random.Generator
) -> ItemFeatures:
    """Facts that a cart's score looks at: trends, categories, norms."""
    n_items = products.num_rows
    codes = pc.utf8_replace_slice(products["category"], 0, len("category "), "").cast("int32")
    return ItemFeatures(
        recent=probability,
        sales=0.1 * rng.standard_normal((n_items, 4), np.float32),
        category_codes=codes.to_numpy() + np.int32(1),
        category_lift=np.zeros((N_CATEGORIES + 1, N_CATEGORIES + 1), np.float32),
        log_norms=rng.uniform(0, 1, n_items).astype(np.float32),
    )


def make_variants(n_items: int) -> Variants:
    """Pairs of products next to each other."""
    ones = np.arange(0, n_items - 1, 2 * VARIED, dtype=np.int32)
    return build_variants(ones, ones + np.int32(1), n_items)
