"""Timestamps as shops write them: one format per column, decided by evidence over all rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.sources.errors import SourceError
from components.sources.time_drafts import Draft, add_spellings, draft_format
from components.sources.time_formats import KIND_NAMES, TimeFormat, check_timezone
from components.sources.time_given import take_given
from components.sources.time_numbers import detect_kind
from components.sources.time_order import decide_order
from components.sources.time_refusals import (
    check_half_converted,
    check_months,
    check_order,
    describe_unread,
)
from components.sources.time_values import MIN_READ_SHARE, Values

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["KIND_NAMES", "TimeFormat", "check_timezone", "detect_time_format"]


def detect_time_format(
    con: "DuckDBPyConnection", table: str, column: str, *, name: str, given: str = ""
) -> TimeFormat:
    """`column` is an expression of text, `given` the user's pattern, `name` that of errors.

    Raises SourceError where no format reads half of the values, or where values contradict others.
    """
    values = Values(con, f"(select {column} as v from {table})", name)
    if given:
        return take_given(values, given)
    sample = values.sample()
    if not sample:
        raise SourceError(
            f"{name}: all values are empty; expected timestamps. Name their column with --columns."
        )
    draft, n_needed = draft_format(sample), MIN_READ_SHARE * len(sample)
    if draft.n_read >= n_needed:
        return _decide_format(values, draft, sample)
    if draft.n_numbers >= n_needed:
        return detect_kind(values, draft.cleaning)
    raise SourceError(describe_unread(name, draft.unread))


def _decide_format(values: Values, draft: Draft, sample: Sequence[str]) -> TimeFormat:
    order, evidence, is_certain = decide_order(values, draft, sample)
    format_ = draft.build_format(order, evidence, is_certain)
    n_filled = values.count("v <> ''")[0]
    unread = values.keep_unread(format_)
    if (rest := unread.sample()) and (more := add_spellings(draft, rest, order)):
        draft, format_ = more, more.build_format(order, evidence, is_certain)
        unread = unread.keep_unread(format_)
    n_unread, n_blank = unread.count("true", "trim(v) = ''")
    n_read = n_filled - n_unread
    if n_unread > n_blank:
        check_order(values, unread, draft, order)
        check_half_converted(unread, format_.cleaning, n_read)
        check_months(unread, n_read)
    if n_read < MIN_READ_SHARE * (n_filled - n_blank):
        raise SourceError(describe_unread(values.name, unread.list_examples("trim(v) <> ''")))
    return format_
