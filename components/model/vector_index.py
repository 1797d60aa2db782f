"""Search by hnswlib: the nearest by cosine, and maximum inner products, in L2 space.

hnswlib's inner-product space loses most neighbours of vectors whose lengths differ. Item vectors
are centred and given one more dimension that makes them equally long: the nearest by L2 is then the
largest by inner product (Bachrach et al. 2014, "Speeding up the Xbox recommender system").
"""

from pathlib import Path
from typing import Any

import numpy as np

from components.model.arrays import AnyArray, Float32Array, Int64Array
from components.model.bundle import BundleError
from components.model.float16 import to_float32


def build_item_matrix(out_vectors: AnyArray, *dials: Float32Array) -> Float32Array:
    """(n, dims + n_dials): OUT vectors, log popularity, trend."""
    return np.column_stack([to_float32(out_vectors), *dials]).astype(np.float32)


def build_query_matrix(in_vectors: Float32Array, *weights: float) -> Float32Array:
    """(n, dims + n_dials): inner products with items are in·out + weights · dials."""
    dials = [np.full(len(in_vectors), weight) for weight in weights]
    return np.column_stack([in_vectors, *dials]).astype(np.float32)


def load_index(path: Path, n_items: int, dims: int, ef: int) -> Any:
    """Of (n_items, dims) items, see `components.ranking.build_index`."""
    return _load(path, "l2", n_items, dims + 1, ef)


def load_cosine_index(path: Path, n_items: int, dims: int, ef: int) -> Any:
    """Of vectors (n_items, dims), see `components.refit.index_substitutes`."""
    return _load(path, "cosine", n_items, dims, ef)


def search(index: Any, queries: Float32Array, k: int) -> Int64Array:
    """Rows (n_queries, k), best first."""
    augmented = np.column_stack([queries, np.zeros(len(queries), np.float32)])
    labels, _ = index.knn_query(augmented, k=k)
    return np.asarray(labels, dtype=np.int64)


def _load(path: Path, space: str, n_items: int, dims: int, ef: int) -> Any:
    """Raises BundleError. An index is private memory: processes cannot share it."""
    import hnswlib

    index = hnswlib.Index(space=space, dim=dims)
    try:
        index.load_index(str(path), max_elements=n_items)
    except RuntimeError as error:
        raise BundleError(
            f"bundle: {path} is no index ({error}); fetch the version again"
        ) from None
    if (found := index.get_current_count()) != n_items:
        raise BundleError(f"bundle: {path} has {found} products, bundle.json says {n_items}")
    index.set_ef(ef)
    return index
