"""Seasons of products: the parts of the year in which a product hardly sells."""

from dataclasses import dataclass
from datetime import date

import numpy as np

from components.model.arrays import BoolArray, Int64Array, UInt32Array
from components.model.ragged import ArrayGroup

N_BINS = 26
"""Parts of a year, a fortnight each."""


class AsOfError(ValueError):
    """A date before the data begins."""


@dataclass(frozen=True)
class Seasons(ArrayGroup, prefix="seasons"):
    """Bit b of `quiet[row]` (n_items,): the product is out of season around fortnight b."""

    quiet: UInt32Array

    def find_quiet(self, rows: Int64Array, day: date) -> BoolArray:
        """False for rows without vectors."""
        known = rows < len(self.quiet)
        bits = self.quiet[np.where(known, rows, 0)] >> np.uint32(find_bin(day))
        found: BoolArray = known & ((bits & 1) == 1)
        return found


def find_bin(day: date) -> int:
    return (day.timetuple().tm_yday - 1) * N_BINS // 366


def check_as_of(as_of: date | None, window: tuple[str, str] | None, name: str) -> None:
    """`window` is that of the first and last order, ISO 8601. Raises AsOfError."""
    if as_of is None or window is None:
        return
    first, last = (one[:10] for one in window)
    if as_of.isoformat() < first:
        raise AsOfError(
            f"{name}: found {as_of}, before the first order of the data ({first} to {last}); give "
            f"a day from {first} on, or leave it empty"
        )
