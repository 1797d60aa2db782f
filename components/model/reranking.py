"""Order of candidates by a re-ranker's scores and the blend's, together."""

import numpy as np

from components.model.arrays import BoolArray, Float32Array, Int64Array
from components.model.top_k import RankedRows, sort_rows


def rerank(
    rows: Int64Array, scores: Float32Array, predicted: Float32Array, mix: float
) -> RankedRows:
    """Sort candidates (n, k), the first by the scores `predicted` (n, depth), the others behind."""
    first = scores[:, : predicted.shape[1]]
    mixed = mix_scores(predicted, first, np.isfinite(first), mix)
    return sort_rows(rows, stack_below(mixed, scores))


def mix_scores(
    predicted: Float32Array, blended: Float32Array, is_candidate: BoolArray, mix: float
) -> Float32Array:
    """Standardized scores (n, depth) plus `mix` times the blend's; 0 leaves `predicted` as is."""
    if not mix:
        return predicted
    blend = np.float32(mix) * _standardize(blended, is_candidate)
    total: Float32Array = _standardize(predicted, is_candidate) + blend
    return total


def stack_below(best: Float32Array, scores: Float32Array) -> Float32Array:
    """`best` (n, depth), and `scores` (n, k) of the places behind, moved below.

    `scores` fall along a row; -inf is no candidate.
    """
    depth = best.shape[1]
    best = np.where(np.isfinite(scores[:, :depth]), best, -np.inf).astype(np.float32)
    lowest = np.where(np.isfinite(best), best, np.inf).min(axis=1, initial=np.inf)
    below = np.full(scores[:, depth:].shape, -np.inf, np.float32)
    is_candidate = np.isfinite(scores[:, depth:])
    shift = np.broadcast_to((lowest - scores[:, depth - 1])[:, None], is_candidate.shape)
    below[is_candidate] = scores[:, depth:][is_candidate] + shift[is_candidate]
    return np.concatenate([best, below], axis=1)


def _standardize(scores: Float32Array, is_candidate: BoolArray) -> Float32Array:
    """Per row, over candidates; 0 for the others."""
    scores = np.where(is_candidate, scores, 0)
    n = np.maximum(is_candidate.sum(axis=1, keepdims=True), 1)
    centred = np.where(is_candidate, scores - scores.sum(axis=1, keepdims=True) / n, 0)
    deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / n)
    standard: Float32Array = (centred / np.maximum(deviation, 1e-9)).astype(np.float32)
    return standard
