"""What fewer bytes per product would cost: vectors stored more coarsely, judged by pages."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from components.embeddings.item2vec import Vectors
from components.evaluation.metrics import intervals, score
from components.evaluation.tasks import Queries
from components.model.arrays import Float32Array, Float64Array, Int32Array, Int64Array
from components.model.float16 import to_float16, to_float32
from components.model.recommender import BLOCK, rank_columns
from components.model.vector_index import build_item_matrix, build_query_matrix

K = 10
N_QUERIES = 2_000
"""Validation baskets that ask."""

SUMMED_AT_ONCE = 50_000
"""Vectors that are doubles at a time."""

TRUNCATIONS = (("3/4", 0.75), ("1/2", 0.5))
"""Shares of the dimensions kept, by what they are called."""


def measure_storage(
    vectors: Vectors, log_popularity: Float32Array, beta: float, queries: Queries, seed: int
) -> list[dict[str, Any]]:
    """NDCG@10 of pages by in·out + beta log p alone, and bytes per product, by way of storing.

        [{"name": "float32, OUT float16", "bytes_per_product": 384, "ndcg_a": 0.12,
          "change": {"mean", "low", "high"}}]

    The first row is what a bundle stores; `change` is the paired change from it, as a share of its
    NDCG, with 95 % bounds. `log_popularity` is (n_items,). Nothing is listed without `queries`.
    """
    if not len(queries):
        return []
    asked = np.concatenate(queries.asked)
    sizes, values = {}, {}
    for name, n_bytes, stored in storages(vectors):
        found = _ranked(stored, log_popularity, beta, asked)
        sizes[name] = n_bytes
        values[name] = score(found, queries.relevant, len(log_popularity))["ndcg"]
    whole = next(iter(values.values()))
    base = max(float(whole.mean()), 1e-12)
    changes = {name: (ndcg - whole) / base for name, ndcg in values.items()}
    bounds = intervals(changes, queries.basket, seed)
    return [
        {
            "name": name,
            "bytes_per_product": sizes[name],
            "ndcg_a": float(values[name].mean()),
            "change": bounds[name],
        }
        for name in values
    ]


def storages(vectors: Vectors) -> Iterator[tuple[str, int, Vectors]]:
    """Ways to store both vectors of a product: name, bytes per product, and what is read again."""
    dims = vectors.in_vectors.shape[1]
    inward, outward = vectors.in_vectors, vectors.out_vectors
    yield "float32, OUT float16", (4 + 2) * dims, Vectors(inward, to_float32(to_float16(outward)))
    yield "float32", 2 * 4 * dims, vectors
    yield (
        "float16",
        2 * 2 * dims,
        Vectors(to_float32(to_float16(inward)), to_float32(to_float16(outward))),
    )
    # A byte a dimension, and the float32 scale of the row.
    yield "int8", 2 * (dims + 4), Vectors(_rounded_to_bytes(inward), _rounded_to_bytes(outward))
    for name, share in TRUNCATIONS:
        kept = max(1, int(dims * share))
        yield f"{name} of the dimensions", 2 * 4 * kept, truncated(vectors, kept)


def truncated(vectors: Vectors, dims: int) -> Vectors:
    """Vectors (n, dims) whose inner products are closest to those of `vectors`, by least squares.

    That is the singular value decomposition of all inner products; by the roots of both Gram
    matrices it takes no more than one of a matrix as small as the vectors are long (Eckart and
    Young 1936), and no copy of the vectors.
    """
    in_root, in_inverse = _root(vectors.in_vectors)
    out_root, out_inverse = _root(vectors.out_vectors)
    left, values, right = np.linalg.svd(in_root @ out_root)
    roots = np.sqrt(values[:dims])
    into = (in_inverse @ left[:, : len(roots)] * roots).astype(np.float32)
    out_of = (out_inverse @ right[: len(roots)].T * roots).astype(np.float32)
    return Vectors(vectors.in_vectors @ into, vectors.out_vectors @ out_of)


def _root(vectors: Float32Array) -> tuple[Float64Array, Float64Array]:
    """The symmetric root (dims, dims) of the vectors' Gram matrix, and what undoes it."""
    dims = vectors.shape[1]
    gram = np.zeros((dims, dims))
    for start in range(0, len(vectors), SUMMED_AT_ONCE):
        some = vectors[start : start + SUMMED_AT_ONCE].astype(np.float64)
        gram += some.T @ some
    values, basis = np.linalg.eigh(gram)
    roots = np.sqrt(np.maximum(values, 0))
    kept = roots > 1e-7 * roots.max(initial=0)
    inverse = np.where(kept, 1 / np.where(kept, roots, 1), 0)
    return (basis * roots) @ basis.T, (basis * inverse) @ basis.T


def _rounded_to_bytes(vectors: Float32Array) -> Float32Array:
    scales = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), 1e-12) / 127
    rounded: Float32Array = np.rint(vectors / scales).astype(np.int8) * scales.astype(np.float32)
    return rounded


def _ranked(
    vectors: Vectors, log_popularity: Float32Array, beta: float, asked: Int32Array
) -> Int64Array:
    """The ten best (n_asked, K) for every product asked, each product ranked for once."""
    items = build_item_matrix(vectors.out_vectors, log_popularity)
    products, place = np.unique(asked, return_inverse=True)
    queries = build_query_matrix(vectors.in_vectors[products], beta)
    found = np.empty((len(products), K), np.int64)
    for start in range(0, len(products), BLOCK):
        block = slice(start, start + BLOCK)
        scores = queries[block] @ items.T
        scores[np.arange(len(scores)), products[block]] = -np.inf
        found[block] = rank_columns(scores, K)[0]
    return found[place]
