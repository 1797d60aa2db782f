"""Order of candidates by a re-ranker and the blend together, less what chance would earn."""

from typing import NamedTuple

import numpy as np

from components.model.arrays import BoolArray, Float32Array, Int64Array
from components.model.top_k import RankedRows, sort_rows

STEP_BELOW = np.float32(1e-6)  # Between the scores of products behind the candidates


class Calibration(NamedTuple):
    """Of log odds: `slope` times them plus `intercept` (Platt 1999)."""

    slope: float = 1.0
    intercept: float = 0.0


def discount_blend(
    rows: Int64Array, blended: Float32Array, calibration: Calibration, chance: Float32Array
) -> RankedRows:
    """As `rerank` where there is no model: the standardized blend gives the log odds."""
    first = blended[:, : chance.shape[1]]
    standard = standardize(first, np.isfinite(first))
    return rerank(rows, blended, standard, 0.0, calibration, chance)


def rerank(
    rows: Int64Array, blended: Float32Array, predicted: Float32Array, mix: float,
    calibration: Calibration, chance: Float32Array | None = None,
) -> RankedRows:  # fmt: skip
    """Sort `rows` (n, k): the first, candidates, by expected gain, the others behind as they are.

    `blended` are (n, k), -inf for no product; `predicted` (n, depth) are log odds of candidates;
    `chance` (n, depth) is taken off their expected gain.
    """
    depth = predicted.shape[1]
    is_candidate = np.isfinite(blended[:, :depth])
    log_odds = mix_log_odds(predicted, blended[:, :depth], is_candidate, mix)
    gain = compute_gain(log_odds, calibration)
    if chance is not None:
        gain -= chance
    best = np.where(is_candidate, gain, -np.inf).astype(np.float32)
    return sort_rows(rows, stack_below(best, np.isfinite(blended[:, depth:])))


def mix_log_odds(
    predicted: Float32Array, blended: Float32Array, is_candidate: BoolArray, mix: float
) -> Float32Array:
    """`predicted` (n, depth), moved by `mix` of their deviations for each of the blend's."""
    if not mix:
        return predicted
    moved: Float32Array = predicted + np.float32(mix) * _compute_deviation(
        predicted, is_candidate
    ) * standardize(blended, is_candidate)
    return moved


def compute_gain(log_odds: Float32Array, calibration: Calibration) -> Float32Array:
    """Expected NDCG of a candidate in first place."""
    slope, intercept = calibration
    gain: Float32Array = np.exp(-np.logaddexp(0, -(slope * log_odds + intercept)))
    return gain.astype(np.float32)


def stack_below(best: Float32Array, is_product: BoolArray) -> Float32Array:
    """`best` (n, depth), and scores below them that fall along `is_product` (n, rest)."""
    lowest = np.where(np.isfinite(best), best, np.inf).min(axis=1, initial=np.inf)
    lowest = np.where(np.isfinite(lowest), lowest, 0).astype(np.float32)
    steps = STEP_BELOW * np.arange(1, is_product.shape[1] + 1, dtype=np.float32)
    below = np.where(is_product, lowest[:, None] - steps, -np.inf)
    return np.concatenate([best, below], axis=1).astype(np.float32)


def standardize(scores: Float32Array, is_candidate: BoolArray) -> Float32Array:
    """Per row, over candidates; 0 for the others."""
    centred = _centre(scores, is_candidate)
    deviation = np.maximum(_compute_deviation(scores, is_candidate), 1e-9)
    standard: Float32Array = (centred / deviation).astype(np.float32)
    return standard


def _compute_deviation(scores: Float32Array, is_candidate: BoolArray) -> Float32Array:
    """Standard deviation over the candidates of a row, (n, 1)."""
    squares = (_centre(scores, is_candidate) ** 2).sum(axis=1, keepdims=True)
    deviation: Float32Array = np.sqrt(squares / _count(is_candidate)).astype(np.float32)
    return deviation


def _centre(scores: Float32Array, is_candidate: BoolArray) -> Float32Array:
    known = np.where(is_candidate, scores, np.float32(0))
    mean = known.sum(axis=1, keepdims=True) / _count(is_candidate)
    centred: Float32Array = np.where(is_candidate, known - mean, 0)
    return centred


def _count(is_candidate: BoolArray) -> Int64Array:
    counts: Int64Array = np.maximum(is_candidate.sum(axis=1, keepdims=True), 1)
    return counts
