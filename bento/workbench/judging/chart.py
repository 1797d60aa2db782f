"""Bars with whiskers: the mean grade of each version."""

from typing import NamedTuple

from bento.workbench.judging.results import CaseResult
from components.judging.read import BEST_GRADE, Interval

WIDTH = 300
"""Of the scale, in units of the picture."""


class Bar(NamedTuple):
    """Places from the left, in units of the picture."""

    system: str
    grade: Interval
    end: float
    low: float
    high: float


def draw_bars(result: CaseResult) -> list[Bar]:
    compared = [one.systems[0] for one in result.alone.values() if one is not None]
    return [
        Bar(
            one.system, one.mean, _scale(one.mean.mean), _scale(one.mean.low), _scale(one.mean.high)
        )
        for one in compared
    ]


def _scale(grade: float) -> float:
    return round(WIDTH * grade / BEST_GRADE, 1)
