"""Two lists of products beside each other: which moved, entered or left."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Change = Literal["same", "up", "down", "only"]
ARROWS = {"same": "=", "up": "↑", "down": "↓", "only": "+"}


@dataclass(frozen=True)
class Move:
    """A product's place in its list, compared with the other list's; both count from 1."""

    place: int
    other: int | None

    @property
    def change(self) -> Change:
        if self.other is None:
            return "only"
        return "same" if self.other == self.place else "up" if self.place < self.other else "down"

    @property
    def n_places(self) -> int:
        return 0 if self.other is None else abs(self.place - self.other)

    @property
    def sign(self) -> str:
        return ARROWS[self.change] + (str(self.n_places) if self.n_places else "")

    def describe(self, other: str) -> str:
        """For people who do not see the sign; `other` names the other list, as "the right list"."""
        if self.other is None:
            return f"not in {other}"
        if not self.n_places:
            return f"the same place as in {other}"
        places = "1 place" if self.n_places == 1 else f"{self.n_places} places"
        way = "higher" if self.change == "up" else "lower"
        return f"{places} {way} than in {other}, where it is number {self.other}"


def find_moves(own: Sequence[str], other: Sequence[str]) -> list[Move]:
    """Of each product id of `own`."""
    places = {product_id: place for place, product_id in enumerate(other, 1)}
    return [Move(place, places.get(product_id)) for place, product_id in enumerate(own, 1)]
