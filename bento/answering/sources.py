"""The source of each product of an answer."""

import functools

MODEL = "model"
"""Bought together with a product asked for more than by chance; of `/similar`, alike."""

EMBEDDINGS = "embeddings"
"""Near by vectors and popularity, without enough baskets with both."""

BESTSELLERS = "bestsellers"

PIN = "pin"
"""Put there by a rule."""

BY_MODEL = (MODEL, EMBEDDINGS)


@functools.lru_cache(maxsize=4096)
def name_sources(are_real: bytes) -> tuple[str, ...]:
    """Of products whose byte is 1 if they are REAL."""
    return tuple(MODEL if is_real else EMBEDDINGS for is_real in are_real)
