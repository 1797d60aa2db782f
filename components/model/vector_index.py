"""Maximum inner product search by hnswlib, over an L2 space that hnswlib is good at.

hnswlib's own inner-product space loses most neighbours of vectors whose lengths differ. Item
vectors are centred (which shifts all scores of a query alike) and given one more dimension that
makes them equally long, so that the nearest by L2 is the largest by inner product (Bachrach et
al. 2014, "Speeding up the Xbox recommender system using a Euclidean transformation").
"""

from pathlib import Path
from typing import Any

import numpy as np

from components.model.arrays import AnyArray, Float32Array, Int64Array
from components.model.float16 import to_float32


def build_item_matrix(out_vectors: AnyArray, *dials: Float32Array) -> Float32Array:
    """(n, dims + n_dials): an item as its OUT vector and its log popularity, trend, …"""
    return np.column_stack([to_float32(out_vectors), *dials]).astype(np.float32)


def build_query_matrix(in_vectors: Float32Array, *weights: float) -> Float32Array:
    """(n, dims + n_dials): a query whose inner product with an item is in·out + weights · dials."""
    dials = [np.full(len(in_vectors), weight) for weight in weights]
    return np.column_stack([in_vectors, *dials]).astype(np.float32)


def load_index(path: Path, n_items: int, dims: int, ef: int) -> Any:
    """A bundle's index of (n_items, dims) items; see `components.ranking.build_index`."""
    import hnswlib

    index = hnswlib.Index(space="l2", dim=dims + 1)
    index.load_index(str(path), max_elements=n_items)
    index.set_ef(ef)
    return index


def search(index: Any, queries: Float32Array, k: int) -> Int64Array:
    """Rows (n_queries, k) of the items with the largest inner products, best first."""
    augmented = np.column_stack([queries, np.zeros(len(queries), np.float32)])
    labels, _ = index.knn_query(augmented, k=k)
    return np.asarray(labels, dtype=np.int64)
