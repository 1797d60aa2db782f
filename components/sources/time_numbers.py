"""Timestamps that are numbers: Excel's days or an epoch, by the magnitude of a whole column."""

from components.sources.errors import SourceError
from components.sources.time_cleaning import clean_column
from components.sources.time_formats import KIND_NAMES, NUMERIC_KINDS, TimeFormat
from components.sources.time_refusals import check_kinds, describe_unread
from components.sources.time_values import MIN_READ_SHARE, Values


def detect_kind(values: Values, cleaning: tuple[str, ...]) -> TimeFormat:
    """Raises SourceError where no kind reads half of the values, or two read many."""
    text = clean_column("v", cleaning)
    number = f"case when not contains(lower(v), 'e') then try_cast({text} as double) end"
    numbers = Values(values.con, f"(select v, {number} as x from {values.relation})", values.name)
    found = _rank_kinds(numbers)
    best, (n_best, is_best) = next(iter(found.items()))
    if n_best < MIN_READ_SHARE * numbers.count("trim(v) <> ''")[0]:
        others = " and ".join(f"not coalesce({one}, false)" for _, one in found.values())
        example = numbers.list_examples(f"trim(v) <> '' and {others}")
        raise SourceError(describe_unread(values.name, example))
    check_kinds(numbers, found)
    if best == "epoch_s":
        _refuse_calendar(values)
    examples = numbers.list_examples(is_best)
    return TimeFormat(
        pattern=best,
        has_offset=best != "excel",
        evidence=f"{n_best:,} values are {KIND_NAMES[best]}, such as {examples}",
        is_certain=True,
        cleaning=cleaning,
    )


CALENDARS = {"%y%m%d%H%M": "year first", "%d%m%y%H%M": "day first"}


def _refuse_calendar(values: Values) -> None:
    """One number of ten digits in two hundred looks like such a date by chance."""
    n_values, *n_dates = values.count(
        "trim(v) <> ''",
        *(f"length(v) = 10 and try_strptime(v, '{one}') is not null" for one in CALENDARS),
    )
    for pattern, n_read in zip(CALENDARS, n_dates, strict=True):
        if n_values > 1 and n_read == n_values:
            example = values.list_examples("trim(v) <> ''")
            raise SourceError(
                f"{values.name}: {example} are seconds since 1970 or dates, {CALENDARS[pattern]}; "
                f"expected values that can be one of them only; choose with --ts-format epoch_s "
                f"or --ts-format '{pattern}'"
            )


def _rank_kinds(numbers: Values) -> dict[str, tuple[int, str]]:
    """Values of each kind and their condition, the commonest first."""
    conditions = {k: f"x >= {low} and x < {high}" for k, (low, high) in NUMERIC_KINDS.items()}
    counts = numbers.count(*conditions.values())
    ranked = sorted(zip(counts, conditions, strict=True), reverse=True)
    return {kind: (n, conditions[kind]) for n, kind in ranked}
