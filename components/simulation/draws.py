"""Random numbers by name: the same shopper draws the same, whatever else is simulated.

Two runs that differ in the recommendations alone share every other chance (common random numbers),
so that their difference is the effect. A counter-based generator in the manner of SplitMix64
(Steele, Lea, Flood 2014) mixes the seed, the name of the draw and its numbers.
"""

from typing import Any

import numpy as np

from components.model.arrays import Float64Array, UInt64Array
from components.model.hashing import hash_text

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def draw_uniform(seed: int, name: str, *keys: Any) -> Float64Array:
    """Uniform in [0, 1), in the shape of the keys (integers) broadcast."""
    state = np.array([hash_text(f"{seed}:{name}")], np.uint64)
    for key in keys:
        state = _mix((state ^ np.asarray(key).astype(np.uint64)) + GOLDEN)
    uniform = (_mix(state + GOLDEN) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform


def draw_normal(seed: int, name: str, *keys: Any) -> Float64Array:
    """By Box and Muller."""
    radius = np.sqrt(-2 * np.log1p(-draw_uniform(seed, f"{name}:radius", *keys)))
    normal: Float64Array = radius * np.cos(2 * np.pi * draw_uniform(seed, f"{name}:angle", *keys))
    return normal


def _mix(state: UInt64Array) -> UInt64Array:
    state = (state ^ (state >> np.uint64(30))) * FIRST
    state = (state ^ (state >> np.uint64(27))) * SECOND
    return state ^ (state >> np.uint64(31))
