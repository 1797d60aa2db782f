"""Cold products: which bought products stand for them, and how much each."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.text_similarity import (
    NEAREST,
    AttributeIndex,
    Attributes,
    concat_arrays,
    read_attributes,
)

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa

SIMILARITY_EXPONENT = 3
"""Exponent of similarity: among twenty products the one alike counts, not the nineteen that share a
word. NDCG@10 of cold products (validation, three draws) is 15 % higher than with 0 on Online Retail
and 1 % on the demo data; with 2 and 4 it is up to 2 % lower."""


@dataclass(frozen=True)
class ColdNeighbours:
    """`rows[offsets[i]:offsets[i + 1]]` are the catalogue rows that stand for cold product i, most
    alike first, and `weights` how much each does; they sum to 1. Where nothing is written on it
    that is known there are none.
    """

    offsets: Int64Array
    rows: Int32Array
    weights: Float32Array


def find_cold_neighbours(
    index: AttributeIndex, cold: "pa.Table", k: int = NEAREST
) -> ColdNeighbours:
    """What stands for each row of `cold` (the columns of Attributes); a millisecond a product."""
    found: dict[Attributes, tuple[Int32Array, Float32Array]] = {}
    every = list(read_attributes(cold))
    for attributes in every:
        # Shops list the same thing many times over.
        if attributes not in found:
            rows, similar = index.nearest(attributes, k)
            found[attributes] = rows, to_weights(similar)
    sizes = [len(found[attributes][0]) for attributes in every]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = concat_arrays([found[attributes][0] for attributes in every], np.int32)
    return ColdNeighbours(
        offsets, rows, concat_arrays([found[one][1] for one in every], np.float32)
    )


def to_weights(similar: Float32Array) -> Float32Array:
    """How much products of such similarities (n,), none of them 0, stand for another; sums to 1."""
    weights = similar**SIMILARITY_EXPONENT
    total: Float32Array = weights / max(weights.sum(), np.finfo(np.float32).tiny)
    return total
