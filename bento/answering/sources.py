"""The source of each product of an answer."""

from collections.abc import Iterable

MODEL = "model"
"""Bought together with a product asked for more than by chance; of `/similar`, alike."""

EMBEDDINGS = "embeddings"
"""Near by vectors and popularity, without enough baskets with both."""

BESTSELLERS = "bestsellers"

BY_MODEL = (MODEL, EMBEDDINGS)

_NAMES = (EMBEDDINGS, MODEL)


def name_sources(are_real: Iterable[bool]) -> list[str]:
    return [_NAMES[is_real] for is_real in are_real]
