"""Small bundles whose right answers are obvious."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.baskets.corpus import Corpus
from components.contracts import PRODUCTS
from components.evaluation.metrics import ideal_dcg
from components.model.arrays import BoolArray
from components.model.bundle import (
    Bundle,
    Neighbours,
    Pairs,
    assemble_bundle,
    read_bundle,
    write_bundle,
)
from components.model.item_features import ItemFeatures
from components.model.manifest import CartWeights, Manifest
from components.model.vector_index import build_item_matrix, build_query_matrix
from components.ranking.build_index import build_index, measure_index
from components.ranking.queries import OFFLINE_FEATURES, K, LabelledQueries

PAIRS: Sequence[tuple[str, str]] = (
    ("tea", "milk"),
    ("coffee", "sugar"),
    ("bread", "butter"),
    ("pasta", "pesto"),
)
"""Bought together, each only with the other."""

CATEGORIES: Mapping[str, str] = {
    "tea": "drinks",
    "milk": "drinks",
    "coffee": "drinks",
    "sugar": "baking",
    "bread": "bakery",
    "butter": "bakery",
    "pasta": "dry goods",
    "pesto": "dry goods",
}

COLD: Mapping[str, str | None] = {"rye bread": "bakery", "mystery box": None}
"""Products of the table without vectors, and their categories."""


def corpus_of(*baskets: Sequence[int]) -> Corpus:
    """Baskets of rows, each of weight 1."""
    sizes = [len(basket) for basket in baskets]
    items = np.array([item for basket in baskets for item in basket], np.int32)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Corpus(items, offsets, np.ones(len(baskets), np.float32))


def make_labelled_queries(
    features: np.ndarray, rows: np.ndarray, hits: np.ndarray, **fields: Any
) -> LabelledQueries:
    """One query a list, all of whose relevant products are candidates, without chance."""
    n_relevant = np.maximum(fields.pop("n_relevant", hits.sum(axis=1)), 1).astype(np.int64)
    fields = {
        "chance": np.zeros(rows.shape, np.float32),
        "list_index": np.arange(len(hits)),
        "gain": (1 / ideal_dcg(n_relevant, K)).astype(np.float32),
        "basket": np.arange(len(hits)),
        "shares": np.zeros(1 + rows.max(initial=0)),
        **fields,
    }
    return LabelledQueries(features, rows, hits=hits, n_relevant=n_relevant, **fields)


def make_paired_queries() -> tuple[LabelledQueries, Corpus, BoolArray]:
    """Products 2i and 2i + 1 are bought together; the last feature tells, the first does not.
    Also their baskets, and (n, 10) whether a candidate is the pair."""
    rng = np.random.default_rng(1)
    n = 60
    baskets = corpus_of(*((int(i), int(i) ^ 1) for i in rng.integers(n, size=2_000)))
    products = np.arange(n)
    rows = np.sort(
        [
            np.append(rng.permutation(np.setdiff1d(products, [i, i ^ 1]))[:9], i ^ 1)
            for i in products
        ],
        axis=1,
    )
    is_pair = rows == (products ^ 1)[:, None]
    features = rng.random((n, 10, len(OFFLINE_FEATURES)), np.float32)
    features[..., -1] = is_pair
    basket = rng.permutation(2_000)[:400]
    asked = baskets.items[2 * basket]
    queries = make_labelled_queries(
        features, rows, is_pair[asked], list_index=asked.astype(np.int64), basket=basket,
        products=products.astype(np.int32),
    )  # fmt: skip
    return queries, baskets, is_pair


def make_bundle(
    directory: Path,
    pairs: Sequence[tuple[str, str]] = PAIRS,
    categories: Mapping[str, str] = CATEGORIES,
    cold: Mapping[str, str | None] = COLD,
    with_index: bool = False,
) -> Path:
    """A bundle in which each product of a pair is the best companion of the other.

    Every pair has a dimension of its own: a product's IN vector points to its partner's OUT
    vector, and all other inner products are 0. Earlier products are bought more often, so the rest
    of an answer comes in the order of `pairs`.
    """
    ids = [id_ for pair in pairs for id_ in pair]
    dims = 2 * len(pairs)
    partner = np.arange(len(ids)) ^ 1
    out_vectors = np.eye(len(ids), dims, dtype=np.float32)
    in_vectors = 10 * out_vectors[partner]
    n_orders = np.arange(len(ids), 0, -1, dtype=np.int64) * 10
    return write(
        directory,
        products_table(ids, categories, cold),
        in_vectors,
        out_vectors,
        n_orders,
        with_index=with_index,
    )


def make_large_bundle(
    directory: Path, n_items: int, dims: int = 64, seed: int = 0, with_index: bool = True
) -> Path:
    """A bundle of random vectors, to load a service or an index with; no answer is obvious."""
    rng = np.random.default_rng(seed)
    ids = [f"p{row:07d}" for row in range(n_items)]
    categories = {id_: f"category {row % 50}" for row, id_ in enumerate(ids)}
    vectors = rng.normal(0, 0.35, (2, n_items, dims)).astype(np.float32)
    n_orders = (1_000_000 / (np.arange(n_items) + 10)).astype(np.int64) + 5
    table = products_table(ids, categories, {})
    return write(directory, table, vectors[0], vectors[1], n_orders, with_index=with_index)


def products_table(
    ids: Sequence[str], categories: Mapping[str, str], cold: Mapping[str, str | None]
) -> pa.Table:
    """The product table: products with vectors, then those without."""
    every = [*ids, *cold]
    return pa.table(
        {
            "product_id": every,
            "name": [f"{id_.title()}, the good one" for id_ in every],
            "category": [{**categories, **cold}.get(id_) for id_ in every],
            "brand": [None] * len(every),
            "price": [1.5 + row for row in range(len(every))],
            "image_url": [None] * len(every),
            "in_stock": [True] * len(every),
            "margin": [None] * len(every),
            "added_at": [None] * len(every),
            "attributes": [None] * len(every),
        },
        schema=pa.schema(list(PRODUCTS)),
    )


def write(
    directory: Path,
    products: pa.Table,
    in_vectors: np.ndarray,
    out_vectors: np.ndarray,
    n_orders: np.ndarray,
    with_index: bool = False,
    neighbours: Neighbours | None = None,
    **facts: Any,
) -> Path:
    """Write these vectors as a bundle whose pair table is empty; `facts` go to the manifest."""
    n_items = len(in_vectors)
    n_baskets = int(n_orders.sum())
    index, measured = None, None
    if with_index:
        trend = np.zeros(n_items, np.float32)
        items = build_item_matrix(out_vectors, np.log(n_orders / n_baskets), trend)
        index = build_index(items)
        measured = measure_index(index, items, build_query_matrix(in_vectors, 0.75, 0.0), seed=0)
    manifest = Manifest(
        created_at="2024-01-01T00:00:00+00:00",
        n_items=n_items,
        n_products=products.num_rows,
        n_orders=n_baskets,
        dims=in_vectors.shape[1],
        index=measured,
        **facts,
    )
    bundle = assemble_bundle(
        manifest, products, in_vectors, out_vectors, n_orders, neighbours=neighbours
    )
    write_bundle(bundle, directory, index)
    read_bundle(directory)
    return directory


WEIGHTS = CartWeights(vectors=0.5, cooccurrence=0.3, neighbours=1.0, cosine=0.1, trend=0.2)


def random_bundle(seed: int, n_items: int = 12, silent: int = 2) -> Bundle:
    """Random tables over a small catalogue; no list has the last `silent` products."""
    rng = np.random.default_rng(seed)
    n_listed = n_items - silent

    def companions(most: int) -> tuple[np.ndarray, np.ndarray]:
        lists = [
            rng.permutation([j for j in range(n_listed) if j != i])[: rng.integers(most)]
            for i in range(n_items)
        ]
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
        return offsets, np.concatenate(lists).astype(np.int32)

    offsets, rows = companions(6)
    neighbour_offsets, neighbour_rows = companions(5)
    n_orders = np.sort(rng.integers(5, 90, n_items))[::-1].astype(np.int64)
    table = products_table(
        [f"p{row}" for row in range(n_items)],
        {f"p{row}": "abc"[row % 3] for row in range(n_items - 1)},
        {},
    )
    prices = [None if row % 4 == 3 else float(row) for row in range(n_items)]
    brands = [None if row % 5 == 4 else f"brand {row % 2}" for row in range(n_items)]
    for name, values in (("price", prices), ("brand", brands)):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), [values])
    in_vectors, out_vectors = rng.normal(0, 0.5, (2, n_items, 4)).astype(np.float32)
    lift = rng.normal(size=(4, 4)).astype(np.float32)
    item_features = ItemFeatures(
        rng.random(len(rows), np.float32),
        rng.normal(size=(n_items, 4)).astype(np.float32),
        np.where(np.arange(n_items) < n_items - 1, 1 + np.arange(n_items) % 3, 0).astype(np.int32),
        lift,
        rng.normal(size=n_items).astype(np.float32),
    )
    neighbours = Neighbours(
        neighbour_offsets,
        neighbour_rows,
        rng.integers(-127, 128, len(neighbour_rows)).astype(np.int8),
        rng.random(n_items, np.float32) / 127,
    )
    manifest = Manifest(
        created_at="", n_items=n_items, n_products=n_items, n_orders=200, dims=4,
        cart_weights=WEIGHTS, page_cooccurrence=1.0, page_trend=0.1,
    )  # fmt: skip
    support = rng.integers(1, 6, len(rows)).astype(np.int32)
    pairs = Pairs(offsets, rows, support, rng.random(len(rows), np.float32) / 5)
    return assemble_bundle(
        manifest, table, in_vectors, out_vectors, n_orders, pairs, neighbours, item_features
    )
