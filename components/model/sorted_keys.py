"""Looking up keys among sorted ones: the way all tables here are joined."""

import numpy as np

from components.model.arrays import AnyArray, BoolArray, IntpArray


def find_keys(keys: AnyArray, wanted: AnyArray) -> tuple[IntpArray, BoolArray]:
    """Places of the wanted ones among ascending keys, and which are there, in their shape.

    What is not there has the place of something else; without keys, 0.
    """
    if not len(keys):
        return np.zeros(wanted.shape, np.intp), np.zeros(wanted.shape, np.bool_)
    place = np.minimum(keys.searchsorted(wanted), len(keys) - 1)
    return place, keys[place] == wanted


def find_present(keys: AnyArray, wanted: AnyArray) -> IntpArray:
    """Places among ascending keys (n,) of those of `wanted` that are there."""
    place, there = find_keys(keys, wanted)
    return place[there]


def lookup_values(keys: AnyArray, values: AnyArray, wanted: AnyArray) -> AnyArray:
    """The values of the wanted ones among ascending keys; 0 where there is none."""
    place, there = find_keys(keys, wanted)
    if not len(keys):
        return np.zeros(wanted.shape)
    return np.where(there, values[place], 0)
