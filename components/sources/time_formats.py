"""The format of a column of timestamps, as SQL that gives the moment in UTC."""

import functools
import re
import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from components.sources.tables import sql_text
from components.sources.time_cleaning import clean_column
from components.sources.time_spellings import Zone

FIRST_DAY, END_DAY = "1970-01-01", "2100-01-01"
"""`0001-01-01`, `1900-01-00` and `9999-12-31` are how programs write that there is no date."""

NUMERIC_KINDS = {
    "excel": (25_569.0, 73_050.0),
    "epoch_s": (315_532_800.0, 4_102_444_800.0),
    "epoch_ms": (315_532_800e3, 4_102_444_800e3),
    "epoch_us": (315_532_800e6, 4_102_444_800e6),
    "epoch_ns": (315_532_800e9, 4_102_444_800e9),
}
"""Excel's days from 1970, epochs from 1980, both to 2100: no value belongs to two of them."""

KIND_NAMES = {
    "excel": "Excel's serial days",
    "epoch_s": "seconds since 1970",
    "epoch_ms": "milliseconds since 1970",
    "epoch_us": "microseconds since 1970",
    "epoch_ns": "nanoseconds since 1970",
}


class Layout(BaseModel):
    """One spelling of a column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    expression: str = ""
    """Tells several spellings apart: strptime takes ten times as long for what it does not read."""
    zone: Zone = "local"


class TimeFormat(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    """Patterns of strptime, joined by ` | `, or one of `NUMERIC_KINDS`."""
    has_offset: bool
    """All values show their instant, by an offset, `Z` or a count since 1970 in UTC: the zone of
    the shop has no effect on them."""
    evidence: str
    is_certain: bool
    layouts: tuple[Layout, ...] = ()
    """Empty for numbers."""
    cleaning: tuple[str, ...] = ()
    """Keys of `CLEANING`, applied before reading."""

    def sql(self, column: str, timezone: str) -> str:
        """TIMESTAMP in UTC or null, whatever the zone of the connection is."""
        check_timezone(timezone)
        text = clean_column(column, self.cleaning)
        if not self.layouts:
            return read_number(text, self.pattern, timezone)
        return _keep_plausible(_read_layouts(text, self.layouts, timezone))


def combine_layouts(
    layouts: tuple[Layout, ...], cleaning: tuple[str, ...], evidence: str, is_certain: bool
) -> TimeFormat:
    return TimeFormat(
        pattern=" | ".join(layout.pattern for layout in layouts),
        has_offset=all(layout.zone != "local" for layout in layouts),
        evidence=evidence,
        is_certain=is_certain,
        layouts=layouts,
        cleaning=cleaning,
    )


def check_timezone(name: str) -> str:
    """Raises ValueError unless it is a name of the IANA database."""
    if name not in _list_timezones():
        raise ValueError(
            f"No time zone is called {name!r}; expected an IANA name such as Europe/Istanbul, "
            "America/New_York or UTC."
        )
    return name


Timezone = Annotated[str, AfterValidator(check_timezone)]


@functools.cache
def _list_timezones() -> set[str]:
    """It searches folders each time."""
    return zoneinfo.available_timezones()


def _read_layouts(text: str, layouts: tuple[Layout, ...], timezone: str) -> str:
    if len(layouts) == 1 and not re.search("%[dmyY]%[dmyY]", layouts[0].pattern):
        return _read_layout(text, layouts[0], timezone)
    cases = (
        f"when regexp_full_match({text}, {sql_text(layout.expression or '.*')}) "
        f"then {_read_layout(text, layout, timezone)}"
        for layout in layouts
    )
    return f"(case {' '.join(cases)} end)"


def _read_layout(text: str, layout: Layout, timezone: str) -> str:
    instant = f"try_strptime({text}, {sql_text(layout.pattern)})"
    if layout.zone == "offset":
        return f"({instant} at time zone 'UTC')::timestamp"
    return _convert(f"{instant}::timestamp", timezone if layout.zone == "local" else "UTC")


def read_number(text: str, kind: str, timezone: str) -> str:
    low, high = NUMERIC_KINDS[kind]
    number = f"try_cast({text} as double)"
    micros = {
        "excel": f"round(({number} - {low}) * 86400) * 1000000",
        "epoch_s": f"round({number} * 1000000)",
        "epoch_ms": f"round({number} * 1000)",
        "epoch_us": f"round({number})",
        "epoch_ns": f"round({number} / 1000)",
    }[kind]
    zone = timezone if kind == "excel" else "UTC"
    instant = _convert(f"make_timestamp(({micros})::bigint)", zone)
    return (
        f"(case when {number} >= {low} and {number} < {high} "
        f"and not contains(lower({text}), 'e') then {instant} end)"
    )


def _convert(clock: str, timezone: str) -> str:
    """An hour that summer time leaves out or doubles is read by the offset before the change."""
    if timezone == "UTC":
        return f"({clock})"
    return f"(({clock}) at time zone {sql_text(timezone)} at time zone 'UTC')"


def _keep_plausible(instant: str) -> str:
    """A day more at both ends, for zones."""
    first, end = f"timestamp '{FIRST_DAY}'", f"timestamp '{END_DAY}'"
    day = "interval 1 day"
    return f"(case when {instant} between {first} - {day} and {end} + {day} then {instant} end)"
