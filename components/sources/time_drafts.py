"""A first idea of a column's timestamps from a sample: its spellings and possible orders."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from components.sources.time_cleaning import CLEANING, clean_value, find_steps
from components.sources.time_formats import Layout, TimeFormat, combine_layouts
from components.sources.time_spellings import ORDERS, Moment, Spelling, parse_moment

MAX_LAYOUTS = 16

DIGITS = r"\s*\d+(?:\.\d*)?\s*"


class Draft(NamedTuple):
    spellings: list[Spelling]
    """The commonest first."""
    cleaning: tuple[str, ...]
    n_read: int
    n_numbers: int
    orders: dict[str, int]
    """Values that are days of the calendar, by each of `ORDERS`; empty where all show theirs."""
    unread: str
    """An example."""

    def build_format(self, order: str, evidence: str = "", is_certain: bool = True) -> TimeFormat:
        layouts = [
            Layout(pattern=s.format_pattern(order), expression=s.expression, zone=s.zone)
            for s in self.spellings
        ]
        return combine_layouts(tuple(dict.fromkeys(layouts)), self.cleaning, evidence, is_certain)

    def read_by(self, order: str) -> str:
        """SQL of the moment of `v`."""
        return self.build_format(order).sql("v", "UTC")


class _Parsed(NamedTuple):
    value: str
    steps: tuple[str, ...]
    moment: Moment | None
    is_number: bool


def draft_format(sample: Sequence[str]) -> Draft:
    parsed = [_parse(value) for value in sample]
    read = [one for one in parsed if one.moment or one.is_number]
    moments = [one.moment for one in read if one.moment]
    spellings = Counter(moment.spelling for moment in moments)
    kept = [spelling for spelling, _ in spellings.most_common(MAX_LAYOUTS)]
    orders = Counter(order for moment in moments for order in moment.orders)
    unread = (one.value for one in parsed if not one.moment and not one.is_number)
    return Draft(
        spellings=kept,
        cleaning=_sort_steps(step for one in read for step in one.steps),
        n_read=len(moments),
        n_numbers=sum(one.is_number for one in read),
        orders={order: orders[order] for order in _list_common_orders(kept)},
        unread=next(unread, sample[0]),
    )


def _parse(value: str) -> _Parsed:
    is_number = bool(re.fullmatch(DIGITS, value))
    moment = parse_moment(value)
    if moment or is_number:
        return _Parsed(value, (), moment, is_number)
    steps = find_steps(value)
    cleaned = clean_value(value, steps)
    return _Parsed(value, steps, parse_moment(cleaned), bool(re.fullmatch(DIGITS, cleaned)))


def _sort_steps(steps: Iterable[str]) -> tuple[str, ...]:
    needed = set(steps)
    return tuple(step for step in CLEANING if step in needed)


def _list_common_orders(spellings: Sequence[Spelling]) -> list[str]:
    unclear = [set(spelling.orders) for spelling in spellings if spelling.orders]
    common = set.intersection(*unclear) if unclear else set()
    return [order for order in ORDERS if order in common]


def add_spellings(draft: Draft, unread: Sequence[str], order: str) -> Draft | None:
    """With spellings too rare for the first sample; None where there are none."""
    rare = draft_format(unread)
    new = [
        spelling
        for spelling in rare.spellings
        if spelling not in draft.spellings and (not spelling.orders or order in spelling.orders)
    ]
    if not new:
        return None
    return draft._replace(
        spellings=[*draft.spellings, *new][: 2 * MAX_LAYOUTS],
        cleaning=_sort_steps((*draft.cleaning, *rare.cleaning)),
    )
