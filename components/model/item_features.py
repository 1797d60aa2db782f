"""Features of products and pairs for blend and re-ranker, beside counts and vectors."""

from dataclasses import dataclass

import numpy as np

from components.model.arrays import AnyArray, Float32Array, Int32Array
from components.model.float16 import to_float32
from components.model.ragged import ArrayGroup

SALES_COLUMNS = ("trend_short", "trend_long", "basket_size", "days_unsold")

NORM_SAMPLE = 2_048  # Products over which softmax denominators are estimated


@dataclass(frozen=True)
class ItemFeatures(ArrayGroup, prefix="item_features"):
    """`recent` (n_pairs,) is the pairs' probability, weighted towards recent baskets.

    `sales` are (n_items, 4): SALES_COLUMNS. `category_codes` (n_items,) are 0 where there is none;
    `category_lift` (n_codes, n_codes) and `log_norms` (n_items,), of softmax denominators in carts,
    are logarithms.
    """

    recent: Float32Array
    sales: Float32Array
    category_codes: Int32Array
    category_lift: Float32Array
    log_norms: Float32Array


def build_default_features(
    in_vectors: Float32Array, out_vectors: AnyArray, bias: AnyArray, probability: Float32Array
) -> ItemFeatures:
    """Without times and categories; `probability` is that of the pairs."""
    n_items = len(in_vectors)
    return ItemFeatures(
        recent=probability,
        sales=np.zeros((n_items, len(SALES_COLUMNS)), np.float32),
        category_codes=np.zeros(n_items, np.int32),
        category_lift=np.zeros((1, 1), np.float32),
        log_norms=compute_log_norms(in_vectors, out_vectors, bias.astype(np.float32)),
    )


def compute_log_norms(
    in_vectors: Float32Array, out_vectors: AnyArray, bias: Float32Array, seed: int = 0
) -> Float32Array:
    """log of the sum over all products of exp(in·out + bias), (n_items,), from a sample."""
    n = len(out_vectors)
    sample = np.sort(np.random.default_rng(seed).permutation(n)[:NORM_SAMPLE])
    sampled = to_float32(out_vectors[sample])
    norms = np.empty(n, np.float32)
    for start in range(0, n, 1_024):
        block = slice(start, start + 1_024)
        logits = in_vectors[block] @ sampled.T + bias[sample]
        top = logits.max(axis=1)
        sums = np.exp(logits - top[:, None]).sum(axis=1)
        norms[block] = top + np.log(sums * (n / len(sample)))
    return norms
