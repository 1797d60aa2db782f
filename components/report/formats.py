"""Formats of a shop's columns, by an example that a person can check."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

from components.sources.timestamps import KIND_NAMES

MOMENT = datetime(2024, 3, 5, 17, 9, 30, tzinfo=timezone(timedelta(hours=3)))
"""Its day could be taken for a month."""
DAYS_TO_1970 = 25_569
TICKS = {"epoch_s": 1, "epoch_ms": 10**3, "epoch_us": 10**6, "epoch_ns": 10**9}
"""Per second."""
MAX_SPELLINGS = 3


def describe_format(found: str) -> str:
    """Of a pattern of strptime or a kind of number, by example; other words as they are."""
    if found in KIND_NAMES:
        zone = "" if found == "excel" else " UTC"
        return f"{KIND_NAMES[found]}: {_write_number(found)} is {_say_moment('%H')}{zone}"
    if is_pattern(found):
        return " or ".join(_list_examples(found.split(" | ")))
    return found


def is_pattern(found: str) -> bool:
    return "%" in found


def _list_examples(patterns: list[str]) -> Iterator[str]:
    for pattern in patterns[:MAX_SPELLINGS]:
        yield f"“{_write_moment(pattern)}” is {_say_moment(pattern)}"
    if len(patterns) > MAX_SPELLINGS:
        yield "another spelling"


def _write_number(kind: str) -> str:
    seconds = int(MOMENT.replace(tzinfo=UTC).timestamp())
    if kind == "excel":
        return f"{DAYS_TO_1970 + seconds / 86_400:.5f}"
    return str(seconds * TICKS[kind])


def _write_moment(pattern: str) -> str:
    """As DuckDB reads it: %n are nanoseconds, %Z is the name of a zone."""
    text = pattern.replace("%n", "000000000").replace("%Z", "Europe/Istanbul")
    return MOMENT.strftime(text)


def _say_moment(pattern: str) -> str:
    day = f"{MOMENT.day} {MOMENT:%B %Y}"
    return f"{day}, {MOMENT:%H:%M}" if "%H" in pattern or "%I" in pattern else day
