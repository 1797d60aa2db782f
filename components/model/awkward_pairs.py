"""Evidence so thin that a person should look at a recommendation first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.model.bundle import Bundle

FIRST_PLACES = 5
"""Of an answer: the score is high."""

MIN_TOGETHER = 5
"""Orders with both products: fewer are thin evidence."""


def is_thin(place: int, n_together: int) -> bool:
    """`place` is from 0."""
    return place < FIRST_PLACES and n_together < MIN_TOGETHER


def count_together(bundle: "Bundle", asked: Sequence[int]) -> dict[int, int]:
    """Most orders that a product has with one of `asked`, by row; only the strongest pairs."""
    together: dict[int, int] = {}
    for row in asked:
        pairs = bundle.pairs.entries(row)
        rows, counts = bundle.pairs.rows[pairs].tolist(), bundle.pairs.support[pairs].tolist()
        for other, n_both in zip(rows, counts, strict=True):
            together[other] = max(together.get(other, 0), n_both)
    return together
