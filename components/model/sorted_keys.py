"""Looking up keys among sorted ones: the way all tables here are joined."""

from typing import Any

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[Any]
Places = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


def located(keys: Keys, wanted: Keys) -> tuple[Places, Mask]:
    """Places of the wanted ones among ascending keys, and which are there, in their shape.

    What is not there has the place of something else; without keys, 0.
    """
    if not len(keys):
        return np.zeros(wanted.shape, np.intp), np.zeros(wanted.shape, np.bool_)
    place = np.minimum(keys.searchsorted(wanted), len(keys) - 1)
    return place, keys[place] == wanted


def hits(keys: Keys, wanted: Keys) -> Places:
    """Places among ascending keys (n,) of those of `wanted` that are there."""
    place, there = located(keys, wanted)
    return place[there]


def values_at(keys: Keys, values: npt.NDArray[Any], wanted: Keys) -> npt.NDArray[Any]:
    """The values of the wanted ones among ascending keys; 0 where there is none."""
    place, there = located(keys, wanted)
    if not len(keys):
        return np.zeros(wanted.shape)
    return np.where(there, values[place], 0)
