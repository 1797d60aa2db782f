"""Moments as clients write them, as microseconds since 1970."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

UNITS = ((1e9, 1e10, 1_000_000), (1e12, 1e13, 1_000), (1e15, 1e16, 1))
"""From, to, and microseconds of one: as seconds, milliseconds or microseconds, these numbers mean
the years 2001 to 2286 and have no other meaning."""

EXPECTED = "ISO 8601 with a time zone, or seconds, milliseconds or microseconds since 1970"

_NUMBER = re.compile(r"\d{1,16}(\.\d{1,9})?")


class TimeError(ValueError):
    """The message is what was expected."""


def parse_time(value: Any) -> int:
    """Raises TimeError."""
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            return _parse_iso(value)
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TimeError(EXPECTED)
    for start, end, scale in UNITS:
        if start <= value < end:
            return round(value * scale)
    raise TimeError(EXPECTED)


def _parse_iso(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TimeError(EXPECTED) from None
    if moment.tzinfo is None:
        raise TimeError(EXPECTED)
    return (moment - EPOCH) // timedelta(microseconds=1)
