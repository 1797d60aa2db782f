"""The user's --ts-format: checked against the values before it wins."""

import re

from components.sources.errors import SourceError
from components.sources.time_formats import NUMERIC_KINDS, Layout, TimeFormat, combine_layouts
from components.sources.time_spellings import Zone
from components.sources.time_values import MIN_READ_SHARE, Values

HINT = (
    "Example: d/M/yyyy H:mm is written '%d/%m/%Y %H:%M'; month names are %b or %B, a clock of "
    "12 hours is %I and %p."
)


def take_given(values: Values, given: str) -> TimeFormat:
    """Raises SourceError where it is no format, or does not read half of the values."""
    import duckdb

    format_ = _build_format(values.name, given)
    moment = format_.sql("v", "UTC")
    try:
        n_read, n_filled = values.count(f"{moment} is not null", "trim(v) <> ''")
    except duckdb.Error as error:
        raise SourceError(
            f"{values.name}: --ts-format {given!r} is no pattern of strptime ({error}). {HINT}"
        ) from error
    if not n_filled or n_read < MIN_READ_SHARE * n_filled:
        unread = values.list_examples(f"trim(v) <> '' and {moment} is null")
        raise SourceError(
            f"{values.name}: --ts-format {given!r} reads {n_read:,} of {n_filled:,} values; "
            f"it does not read {unread or 'empty values'}. Correct it, or leave it out: the "
            "format is then found by itself."
        )
    return format_


def _build_format(name: str, given: str) -> TimeFormat:
    if given in NUMERIC_KINDS:
        return TimeFormat(
            pattern=given,
            has_offset=given != "excel",
            evidence="it was given",
            is_certain=True,
            cleaning=("decimal comma",),
        )
    if "%" not in given:
        raise SourceError(
            f"{name}: --ts-format is {given!r}; expected a pattern of strptime, with a % before "
            f"each letter, or one of {', '.join(NUMERIC_KINDS)}. {HINT}"
        )
    ends_in_utc = re.search(r"[^%](?:Z|UTC|GMT)$", given)
    zone: Zone = "offset" if re.search("%[zZ]", given) else "utc" if ends_in_utc else "local"
    return combine_layouts((Layout(pattern=given, zone=zone),), (), "it was given", True)
