"""Products on a plane: PCA of their vectors at once, and t-SNE in minutes.

Nearness is that of IN vectors by cosine, as for substitutes: products with alike companions.
"""

from collections.abc import Callable

import numpy as np

from components.model.arrays import AnyArray, Float32Array, UInt16Array

MAX_POINTS = 100_000
"""The most bought. More cannot be told apart on a screen, and t-SNE takes time in proportion."""

MIN_POINTS_TSNE = 5
SIDE = 65_535
"""Of the square that positions lie in, as whole numbers."""

PERPLEXITY = 30
ITERATIONS = (250, 500)
"""With exaggerated attraction, which forms clusters, and without."""
CALLBACK_EVERY = 25

GOLDEN_ANGLE = np.pi * (3 - 5**0.5)


def normalize_rows(vectors: AnyArray) -> Float32Array:
    """To length 1; rows of zeros stay."""
    rows = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    normalized: Float32Array = rows / np.maximum(lengths, 1e-12)
    return normalized


def project_pca(unit_vectors: Float32Array) -> Float32Array:
    """(n, 2). Vectors that are all equal lie in a disc, in their order from the middle."""
    if not has_spread(unit_vectors):
        return arrange_disc(len(unit_vectors))
    centred = unit_vectors - unit_vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    points = np.zeros((len(centred), 2), np.float32)
    found = centred @ axes[:, :-3:-1]
    points[:, : found.shape[1]] = found
    return points


def has_spread(unit_vectors: Float32Array) -> bool:
    return bool(len(unit_vectors)) and float(np.ptp(unit_vectors, axis=0).max()) > 1e-6


def arrange_disc(n: int) -> Float32Array:
    """Sunflower seeds: none hides another."""
    places = np.arange(n)
    radius, angle = np.sqrt(places), places * GOLDEN_ANGLE
    disc: Float32Array = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return disc.astype(np.float32)


def project_tsne(unit_vectors: Float32Array, show: Callable[[float], None]) -> Float32Array:
    """(n, 2), from PCA, so that it resembles the first picture; `show` gets the share that is
    done."""
    from openTSNE import TSNE

    calls, n_calls = 0, sum(ITERATIONS) / CALLBACK_EVERY

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1
        show(calls / n_calls)

    start = project_pca(unit_vectors)
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (len(unit_vectors) - 1) / 3),
        initialization=start * (1e-4 / max(float(start[:, 0].std()), 1e-12)),
        early_exaggeration_iter=ITERATIONS[0],
        n_iter=ITERATIONS[1],
        n_jobs=1,
        callbacks=count,
        callbacks_every_iters=CALLBACK_EVERY,
        random_state=0,
    )
    points: Float32Array = np.asarray(tsne.fit(unit_vectors), np.float32)
    return points


def to_whole_numbers(points: Float32Array) -> UInt16Array:
    """Into the square, both axes by the same scale."""
    low, high = points.min(axis=0), points.max(axis=0)
    size = float((high - low).max())
    if size <= 0:
        return np.full(points.shape, SIDE // 2, np.uint16)
    centred = (points - (low + high) / 2) / size + 0.5
    whole: UInt16Array = np.rint(centred * SIDE).astype(np.uint16)
    return whole
