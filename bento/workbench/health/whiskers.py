"""Values with intervals as rows of a small chart, in the units of its SVG."""

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, MARGIN = 240.0, 8.0


class Interval(NamedTuple):
    label: str
    value: float
    lower: float | None
    upper: float | None


class Whisker(NamedTuple):
    interval: Interval
    value: float
    lower: float | None
    upper: float | None


class Whiskers(NamedTuple):
    rows: list[Whisker]
    zero: float | None
    """Where 0 lies inside of the chart."""


def draw(intervals: Sequence[Interval], zero: bool = False) -> Whiskers:
    """All rows have one scale, from the lowest bound to the highest; with `zero`, 0 is in it."""
    ends = [x for one in intervals for x in one[1:] if x is not None] + [0.0] * zero
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    span = (high - low) or abs(high) or 1.0
    low = low if high > low else low - span / 2

    def place(x: float | None) -> float | None:
        if x is None:
            return None
        return round(MARGIN + (x - low) / span * (WIDTH - 2 * MARGIN), 1)

    rows = [
        Whisker(one, place(one.value) or 0.0, place(one.lower), place(one.upper))
        for one in intervals
    ]
    return Whiskers(rows, place(0.0) if zero else None)
