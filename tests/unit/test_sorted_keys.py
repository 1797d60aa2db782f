"""Keys are found among sorted ones, and what is not there is said not to be."""

import numpy as np
import pytest

from components.model.sorted_keys import find_keys, find_present, lookup_values

KEYS = np.array([2, 3, 7, 11])


@pytest.mark.parametrize("wanted", [[7, 2], [1, 5, 12], [], [11, 11, 0]])
def test_each_wanted_key_is_found_where_it_is(wanted):
    place, there = find_keys(KEYS, np.array(wanted, int))
    assert there.tolist() == [one in KEYS for one in wanted]
    assert KEYS[place[there]].tolist() == [one for one in wanted if one in KEYS]


def test_tables_of_wanted_keys_keep_their_shape():
    wanted = np.array([[2, 4], [11, 7]])
    place, there = find_keys(KEYS, wanted)
    assert place.shape == wanted.shape
    assert there.tolist() == [[True, False], [True, True]]
    assert lookup_values(KEYS, np.array([1.0, 2, 3, 4]), wanted).tolist() == [[1, 0], [4, 3]]


def test_nothing_is_found_where_there_is_nothing():
    none, wanted = np.empty(0, int), np.array([1, 2])
    assert not find_keys(none, wanted)[1].any()
    assert find_present(none, wanted).tolist() == []
    assert lookup_values(none, np.empty(0), wanted).tolist() == [0, 0]


def test_hits_are_places_in_the_order_asked():
    assert find_present(KEYS, np.array([11, 4, 2])).tolist() == [3, 0]
