"""The source of each product of an answer."""

from collections.abc import Iterable

MODEL = "model"
"""Bought together with a product asked for more than by chance; of `/similar`, alike."""

EMBEDDINGS = "embeddings"
"""Near by vectors and popularity, without enough baskets with both."""

BESTSELLERS = "bestsellers"

BY_MODEL = (MODEL, EMBEDDINGS)

_NAMES = (EMBEDDINGS, MODEL)

_get_name = _NAMES.__getitem__  # Half the cost of a comprehension


def name_sources(are_real: Iterable[bool]) -> list[str]:
    return list(map(_get_name, are_real))
