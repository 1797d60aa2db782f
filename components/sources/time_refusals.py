"""Refusals of timestamps that no format reads or that contradict one another, with examples."""

import re

from components.sources.errors import SourceError
from components.sources.time_cleaning import clean_column
from components.sources.time_drafts import Draft
from components.sources.time_formats import KIND_NAMES, NUMERIC_KINDS, read_number
from components.sources.time_spellings import ORDERS
from components.sources.time_values import Values

MAX_STRAY_SHARE = 0.01
"""Above this share, values that contradict the others are no typing errors."""

REMEDY = "Give their format with --ts-format, for example --ts-format '%d/%m/%Y %H:%M'."


def describe_unread(name: str, example: str) -> str:
    hint = ""
    if re.match(r"\s*\d+[.,]?\d*[eE]\+?\d+", example):
        hint = " A spreadsheet has cut its digits: export the column again as text."
    return f"{name}: no format reads {example!r}; expected timestamps.{hint} {REMEDY}"


def check_order(values: Values, unread: Values, draft: Draft, order: str) -> None:
    """Raises SourceError where another order reads the values that this one does not."""
    for other in draft.orders:
        if other != order:
            _compare_orders(values, unread, draft, order, other)


def _compare_orders(values: Values, unread: Values, draft: Draft, order: str, other: str) -> None:
    ours, theirs = draft.read_by(order), draft.read_by(other)
    if not (n_theirs := unread.count(f"{theirs} is not null")[0]):
        return
    only_ours = f"{theirs} is null and {ours} is not null"
    n_ours = values.count(only_ours)[0]
    if n_theirs > MAX_STRAY_SHARE * (n_ours + n_theirs):
        pattern = draft.build_format(order).layouts[0].pattern
        raise SourceError(
            f"{values.name}: {n_ours:,} values can only be {ORDERS[order]} "
            f"({values.list_examples(only_ours)}), {n_theirs:,} only {ORDERS[other]} "
            f"({unread.list_examples(f'{theirs} is not null')}); expected one order in all "
            f"values. Write all dates alike, or choose one: --ts-format '{pattern}'."
        )


def check_half_converted(unread: Values, cleaning: tuple[str, ...], n_read: int) -> None:
    """Excel turns the dates it takes for its own into numbers and leaves the others as text.

    Day and month of the numbers are then exchanged: raises SourceError.
    """
    text = clean_column("v", cleaning)
    found = [f"{read_number(text, kind, 'UTC')} is not null" for kind in NUMERIC_KINDS]
    for kind, condition, n in zip(NUMERIC_KINDS, found, unread.count(*found), strict=True):
        if n > MAX_STRAY_SHARE * n_read:
            raise SourceError(
                f"{unread.name}: {n_read:,} values are dates, {n:,} are {KIND_NAMES[kind]} "
                f"({unread.list_examples(condition)}); expected one kind. Export the column again "
                "from the shop, without a spreadsheet on the way, or give the right kind with "
                "--ts-format (the other values then become empty)."
            )


def check_months(unread: Values, n_read: int) -> None:
    """A date that begins with its year goes on with the month, but for a few programs."""
    found = r"regexp_matches(v, '^\s*\d{4}([-/. ])(1[3-9]|2\d|3[01])[-/. ](0?\d|1[012])\b')"
    n = unread.count(found)[0]
    if n > MAX_STRAY_SHARE * n_read:
        raise SourceError(
            f"{unread.name}: {n:,} values have a month above 12 ({unread.list_examples(found)}); "
            "expected year, month, day. If the day stands before the month, say so: "
            "--ts-format '%Y-%d-%m', with the marks of the values."
        )


def check_kinds(numbers: Values, found: dict[str, tuple[int, str]]) -> None:
    """`found` are values and condition by kind, the commonest first; raises SourceError for two."""
    (best, (n_best, is_best)), (second, (n_second, is_second)) = list(found.items())[:2]
    if n_second > MAX_STRAY_SHARE * (n_best + n_second):
        raise SourceError(
            f"{numbers.name}: {n_best:,} values are {KIND_NAMES[best]} "
            f"({numbers.list_examples(is_best)}), {n_second:,} are {KIND_NAMES[second]} "
            f"({numbers.list_examples(is_second)}); expected one kind. Export the column "
            f"again, or choose one: --ts-format {best}."
        )
