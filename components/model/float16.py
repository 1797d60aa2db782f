"""Vectors stored as float16, which loses nothing, and converted where they are multiplied.

numpy multiplies float16 a hundred times as slowly as float32, and converts it four times as slowly
as shifting bits does.
"""

import numpy as np

from components.model.arrays import AnyArray, Float16Array, Float32Array

BLOCK = 2_048  # Vectors converted at once, so that they stay in the processor's cache
SIGN_AND_REST = np.int32(-0x70000001)  # All bits but the three that a moved sign leaves behind
BIAS = np.float32(2.0**112)  # Difference of the two exponents


def to_float16(vectors: AnyArray) -> Float16Array:
    """Raises ValueError for values that float16 cannot hold."""
    with np.errstate(over="ignore"):
        halves = vectors.astype(np.float16)
    if not np.isfinite(halves).all():
        raise ValueError(
            f"vectors: found values up to {np.abs(vectors).max()}, expected at most 65504; the "
            "training ran away, use a lower learning rate"
        )
    return halves


def to_float32(vectors: AnyArray) -> Float32Array:
    """Finite numbers only, unchanged; float32 is passed through."""
    if vectors.dtype != np.float16:
        return vectors
    bits = np.ascontiguousarray(vectors).view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= SIGN_AND_REST
    wide: Float32Array = bits.view(np.float32)
    wide *= BIAS
    return wide


def inner_products(queries: Float32Array, vectors: AnyArray) -> Float32Array:
    """Of queries (n_queries, dims) with vectors (n, dims): (n_queries, n)."""
    if vectors.dtype != np.float16:
        found: Float32Array = queries @ vectors.T
        return found
    found = np.empty((len(queries), len(vectors)), np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = slice(start, start + BLOCK)
        np.matmul(queries, to_float32(vectors[block]).T, out=found[:, block])
    return found
