"""Lookups in sorted keys: the way tables are joined here."""

import numpy as np

from components.model.arrays import AnyArray, BoolArray, IntpArray


def find_keys(keys: AnyArray, wanted: AnyArray) -> tuple[IntpArray, BoolArray]:
    """Places of `wanted` (any shape) among ascending keys, and whether they are there."""
    if not len(keys):
        return np.zeros(wanted.shape, np.intp), np.zeros(wanted.shape, np.bool_)
    place = np.minimum(keys.searchsorted(wanted), len(keys) - 1)
    return place, keys[place] == wanted


def find_present(keys: AnyArray, wanted: AnyArray) -> IntpArray:
    """Places of those of `wanted` that are there."""
    place, is_present = find_keys(keys, wanted)
    return place[is_present]


def lookup_values(keys: AnyArray, values: AnyArray, wanted: AnyArray) -> AnyArray:
    """0 for absent keys."""
    place, is_present = find_keys(keys, wanted)
    if not len(keys):
        return np.zeros(wanted.shape)
    return np.where(is_present, values[place], 0)
