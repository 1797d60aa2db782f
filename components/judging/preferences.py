"""Which of two systems' lists judges prefer."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from components.evaluation.metrics import intervals
from components.judging.read import Interval
from components.judging.sheet import Record


class Choice(NamedTuple):
    page: str
    first: str
    second: str
    """Contents of two lists."""
    preferred: str
    """One of them, or empty for equal ones."""


class PreferenceResult(Record):
    first: str
    second: str
    share: Interval
    """Of the choices for the second system's list; equal ones count half."""
    n_choices: int
    n_equal: int


def compare_preferences(
    shown: Mapping[str, Mapping[str, str]], choices: Sequence[Choice], seed: int = 0
) -> list[PreferenceResult]:
    """`shown` is, by system and page, the content of its list. Every pair with a choice."""
    systems = list(shown)
    found = [
        _compare(first, second, shown, choices, seed)
        for place, first in enumerate(systems)
        for second in systems[place + 1 :]
    ]
    return [one for one in found if one is not None]


def _compare(
    first: str, second: str, shown: Mapping[str, Mapping[str, str]], choices: Sequence[Choice],
    seed: int,
) -> PreferenceResult | None:  # fmt: skip
    pages, scores = [], []
    for one in choices:
        mine, other = shown[first].get(one.page), shown[second].get(one.page)
        if mine != other and {mine, other} == {one.first, one.second}:
            pages.append(one.page)
            scores.append(0.5 if not one.preferred else float(one.preferred == other))
    if not pages:
        return None
    numbers = np.unique(pages, return_inverse=True)[1].astype(np.int64)
    bounds = intervals({"share": np.array(scores)}, numbers, seed)["share"]
    return PreferenceResult(
        first=first,
        second=second,
        share=Interval.model_validate(bounds),
        n_choices=len(pages),
        n_equal=scores.count(0.5),
    )
