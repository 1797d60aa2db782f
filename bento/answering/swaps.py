"""Random swaps of two neighbours: whoever compares their clicks learns what a position is worth.

Joachims, Swaminathan and Schnabel, "Unbiased learning-to-rank with biased feedback", 2017.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from bento.answering.answer import Answer
from bento.answering.sources import PIN
from components.experiments.experiment import hash_to_unit

Value = TypeVar("Value")


class Swap(NamedTuple):
    pair: int
    """The upper of two neighbouring positions, from 0."""
    is_swapped: bool


def draw_swap(answer: Answer, share: float, seed: str) -> Swap | None:
    """A uniformly drawn pair in a `share` of the answers; the same for the same `seed`.

    Products that a rule pinned stay where they are.
    """
    if not share or hash_to_unit(f"{seed}:drawn") >= share:
        return None
    pinned = [item.source == PIN for item in answer.shown]
    pairs = [i for i in range(len(pinned) - 1) if not pinned[i] and not pinned[i + 1]]
    if not pairs:
        return None
    pair = pairs[int(hash_to_unit(f"{seed}:pair") * len(pairs))]
    return Swap(pair, hash_to_unit(f"{seed}:swap") < 0.5)


def swap_neighbours(values: Sequence[Value], pair: int) -> list[Value]:
    upper, lower = values[pair : pair + 2]
    return [*values[:pair], lower, upper, *values[pair + 2 :]]
