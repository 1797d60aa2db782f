"""Timestamps as shops write them: one format per column, decided by evidence over all rows."""

from __future__ import annotations

import functools
import re
import zoneinfo
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

from components.sources.errors import SourceError
from components.sources.time_spellings import (
    CLEANING,
    ORDERS,
    Spelling,
    Zone,
    clean_value,
    find_steps,
    parse_moment,
)

if TYPE_CHECKING:
    import duckdb

MAX_STRAY_SHARE = 0.01
"""Above this share, values that contradict the others are no typing errors."""

MIN_READ_SHARE = 0.5
N_SAMPLED = 20_000
N_FIRST_ROWS = 5_000
MAX_LAYOUTS = 16

MIN_SPAN_RATIO = 5.0
"""Days taken for years make thirty years of one; a shop's true span is far below."""

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

DIGITS = r"\s*\d+(?:\.\d*)?\s*"


class Layout(BaseModel):
    """One spelling of a column. Its expression tells the values of several spellings apart,
    because strptime takes ten times as long for a value that it does not read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    expression: str = ""
    zone: Zone = "local"


class TimeFormat(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    """Patterns of strptime, joined by ` | `, or one of `NUMERIC_KINDS`."""
    has_offset: bool
    """The values themselves tell the instant: by an offset, `Z`, or because they count since
    1970 in UTC. The zone of the shop is then without effect on them."""
    evidence: str
    is_certain: bool
    layouts: tuple[Layout, ...] = ()
    """Empty for numbers."""
    cleaning: tuple[str, ...] = ()
    """Keys of `CLEANING`, applied before reading."""

    def sql(self, column: str, timezone: str) -> str:
        """TIMESTAMP in UTC or NULL, whatever the zone of the connection is."""
        check_timezone(timezone)
        text = clean(column, self.cleaning)
        if not self.layouts:
            return read_number(text, self.pattern, timezone)
        return keep_plausible(read_layouts(text, self.layouts, timezone))


list_timezones = functools.cache(zoneinfo.available_timezones)
"""It searches folders each time."""


def check_timezone(name: str) -> None:
    """ValueError unless it is a name of the IANA database."""
    if name not in list_timezones():
        raise ValueError(
            f"No time zone is called {name!r}; expected an IANA name such as Europe/Istanbul, "
            "America/New_York or UTC."
        )


def read_layouts(text: str, layouts: tuple[Layout, ...], timezone: str) -> str:
    if len(layouts) == 1 and not re.search("%[dmyY]%[dmyY]", layouts[0].pattern):
        return read_layout(text, layouts[0], timezone)
    cases = (
        f"WHEN regexp_full_match({text}, {quote(layout.expression or '.*')}) "
        f"THEN {read_layout(text, layout, timezone)}"
        for layout in layouts
    )
    return f"(CASE {' '.join(cases)} END)"


def read_layout(text: str, layout: Layout, timezone: str) -> str:
    instant = f"try_strptime({text}, {quote(layout.pattern)})"
    if layout.zone == "offset":
        return f"({instant} AT TIME ZONE 'UTC')::TIMESTAMP"
    return convert(f"{instant}::TIMESTAMP", timezone if layout.zone == "local" else "UTC")


def convert(clock: str, timezone: str) -> str:
    """An hour that summer time leaves out or doubles is read by the offset before the change."""
    if timezone == "UTC":
        return f"({clock})"
    return f"(({clock}) AT TIME ZONE {quote(timezone)} AT TIME ZONE 'UTC')"


def keep_plausible(instant: str) -> str:
    """A day more at both ends, for zones."""
    first, end = f"TIMESTAMP '{FIRST_DAY}'", f"TIMESTAMP '{END_DAY}'"
    day = "INTERVAL 1 DAY"
    return f"(CASE WHEN {instant} BETWEEN {first} - {day} AND {end} + {day} THEN {instant} END)"


def read_number(text: str, kind: str, timezone: str) -> str:
    low, high = NUMERIC_KINDS[kind]
    number = f"try_cast({text} AS DOUBLE)"
    micros = {
        "excel": f"round(({number} - {low}) * 86400) * 1000000",
        "epoch_s": f"round({number} * 1000000)",
        "epoch_ms": f"round({number} * 1000)",
        "epoch_us": f"round({number})",
        "epoch_ns": f"round({number} / 1000)",
    }[kind]
    instant = convert(f"make_timestamp(({micros})::BIGINT)", timezone if kind == "excel" else "UTC")
    return (
        f"(CASE WHEN {number} >= {low} AND {number} < {high} "
        f"AND NOT contains(lower({text}), 'e') THEN {instant} END)"
    )


def clean(column: str, steps: tuple[str, ...]) -> str:
    for step in steps:
        for expression, replacement in CLEANING[step]:
            text = replacement.replace(r"\g<1>", r"\1")
            column = f"regexp_replace({column}, {quote(expression)}, {quote(text)})"
    return column


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


REMEDY = "Give their format with --ts-format, for example --ts-format '%d/%m/%Y %H:%M'."


def detect_time_format(
    con: duckdb.DuckDBPyConnection,
    table: str,
    column: str,
    *,
    name: str,
    given: str = "",
    typed_numeric: bool = False,
) -> TimeFormat:
    """`table` is what stands after FROM, `column` an expression of text, `given` the user's
    pattern; `typed_numeric` says that the text was a number before. SourceError where no format
    reads half of the values, or where values contradict one another."""
    values = Values(con, f"(SELECT {column} AS v FROM {table})", name)
    if given:
        return take_given(values, given)
    sample = values.sample()
    if not sample:
        raise SourceError(f"{name}: all values are empty; expected timestamps.")
    draft = draft_format(sample)
    n_needed = MIN_READ_SHARE * len(sample)
    if draft.n_read < n_needed and (typed_numeric or draft.n_numbers >= n_needed):
        return detect_kind(values, draft.cleaning)
    if draft.n_read < n_needed:
        raise SourceError(describe_unread(name, draft.unread))
    return decide_format(values, draft, sample)


class Values:
    """The column, over all rows."""

    def __init__(self, con: duckdb.DuckDBPyConnection, relation: str, name: str) -> None:
        self.con, self.relation, self.name = con, relation, name

    def fetch(self, what: str, where: str = "true") -> list[tuple[object, ...]]:
        query = f"SELECT {what} FROM {self.relation} WHERE {where}"
        rows: list[tuple[object, ...]] = self.con.execute(query).fetchall()
        return rows

    def count(self, *conditions: str) -> list[int]:
        what = ", ".join(f"count(*) FILTER ({condition})" for condition in conditions)
        return [int(str(n)) for n in self.fetch(what)[0]]

    def list_examples(self, where: str) -> str:
        return ", ".join(str(v) for (v,) in self.fetch("DISTINCT v", f"{where} LIMIT 2"))

    def keep_unread(self, format_: TimeFormat) -> Values:
        """The filled values that a format does not read, so that all rows are read but once.
        The count goes first because DuckDB reads a value several times in a filter."""
        read = format_.sql("v", "UTC")
        counted = self.fetch(f"count(*), count({read})", "v <> ''")[0]
        limit = "LIMIT 0" if counted[0] == counted[1] else ""
        self.con.execute(
            f"CREATE OR REPLACE TEMP TABLE unread_timestamps AS SELECT v FROM {self.relation} "
            f"WHERE v <> '' AND {read} IS NULL {limit}"
        )
        return Values(self.con, "unread_timestamps", self.name)

    def sample(self) -> list[str]:
        """Distinct values that are not blank: of the first rows, and some of all."""
        step = max(1, self.count("v <> ''")[0] // N_SAMPLED)
        rows = self.fetch("v", f"v <> '' LIMIT {N_FIRST_ROWS}")
        rows += self.fetch("DISTINCT v", f"v <> '' AND hash(v) % {step} = 0 LIMIT {2 * N_SAMPLED}")
        return sorted({str(v) for (v,) in rows if str(v).strip()})


class Draft(NamedTuple):
    """What a sample shows."""

    spellings: list[Spelling]
    """The commonest first."""
    cleaning: tuple[str, ...]
    n_read: int
    n_numbers: int
    orders: dict[str, int]
    """Values that are days of the calendar, by order of day, month and year; empty where all
    values show their order."""
    unread: str

    def build_format(self, order: str, evidence: str, is_certain: bool) -> TimeFormat:
        layouts = [
            Layout(pattern=s.format_pattern(order), expression=s.expression, zone=s.zone)
            for s in self.spellings
        ]
        return name_format(tuple(dict.fromkeys(layouts)), self.cleaning, evidence, is_certain)


def draft_format(sample: list[str]) -> Draft:
    spellings: Counter[Spelling] = Counter()
    orders: Counter[str] = Counter()
    steps: set[str] = set()
    n_numbers, unread = 0, ""
    for value in sample:
        needed = () if parse_moment(value) or re.fullmatch(DIGITS, value) else find_steps(value)
        cleaned = clean_value(value, needed)
        moment, is_number = parse_moment(cleaned), bool(re.fullmatch(DIGITS, cleaned))
        if moment is None and not is_number:
            unread = unread or value
            continue
        steps.update(needed)
        n_numbers += is_number
        if moment is not None:
            spellings[moment.spelling] += 1
            orders.update(moment.orders)
    kept = [spelling for spelling, _ in spellings.most_common(MAX_LAYOUTS)]
    return Draft(
        spellings=kept,
        cleaning=tuple(step for step in CLEANING if step in steps),
        n_read=spellings.total(),
        n_numbers=n_numbers,
        orders={order: orders[order] for order in list_common_orders(kept)},
        unread=unread or sample[0],
    )


def list_common_orders(spellings: list[Spelling]) -> list[str]:
    unclear = [set(spelling.orders) for spelling in spellings if spelling.orders]
    common = set.intersection(*unclear) if unclear else set()
    return [order for order in ORDERS if order in common]


def decide_format(values: Values, draft: Draft, sample: list[str]) -> TimeFormat:
    draft, order, evidence, is_certain = decide_order(values, draft, sample)
    format_ = draft.build_format(order, evidence, is_certain)
    n_filled = values.count("v <> ''")[0]
    unread = values.keep_unread(format_)
    if (rest := unread.sample()) and (more := add_spellings(draft, rest, order)):
        draft, format_ = more, more.build_format(order, evidence, is_certain)
        unread = unread.keep_unread(format_)
    n_unread, n_blank = unread.count("true", "trim(v) = ''")
    if n_unread > n_blank:
        check_order(values, unread, draft, order)
        check_numbers(unread, format_, n_filled - n_unread)
        check_months(unread, n_filled - n_unread)
    if n_filled - n_unread < MIN_READ_SHARE * (n_filled - n_blank):
        raise SourceError(describe_unread(values.name, unread.list_examples("trim(v) <> ''")))
    return format_


def add_spellings(draft: Draft, unread: list[str], order: str) -> Draft | None:
    """Spellings too rare for the first sample."""
    rare = draft_format(unread)
    new = [
        spelling
        for spelling in rare.spellings
        if spelling not in draft.spellings and (not spelling.orders or order in spelling.orders)
    ]
    if not new:
        return None
    steps = {*draft.cleaning, *rare.cleaning}
    return draft._replace(
        spellings=[*draft.spellings, *new][: 2 * MAX_LAYOUTS],
        cleaning=tuple(step for step in CLEANING if step in steps),
    )


class Decision(NamedTuple):
    draft: Draft
    order: str
    evidence: str
    is_certain: bool


def decide_order(values: Values, draft: Draft, sample: list[str]) -> Decision:
    if not draft.orders:
        unclear = any(spelling.orders for spelling in draft.spellings)
        if unclear:
            raise SourceError(describe_unread(values.name, sample[0]))
        return Decision(draft, "dmy", f"values like {sample[0].strip()}", True)
    best = max(draft.orders.values())
    tied = [order for order, n in draft.orders.items() if n == best]
    spans = measure_spans(values, draft, tied) if len(tied) > 1 else {}
    tied = list(spans) or tied
    if len(tied) > 1 and "ymd" in tied:
        is_compact = any("{a}{b}{c}" in spelling.template for spelling in draft.spellings)
        tied, said = compare_spans(spans, is_compact)
        if len(tied) == 1:
            return Decision(draft, tied[0], f"{ORDERS[tied[0]]}: {said}", "; but" not in said)
    if len(tied) > 1:
        order, why = break_tie(values, draft, spans)
        return Decision(
            draft, order, f"no day above 12 decides; {ORDERS[order]}, because {why}", False
        )
    return Decision(
        draft, tied[0], f"{ORDERS[tied[0]]}: {find_proof(values, draft, tied[0])}", True
    )


def read_by(draft: Draft, order: str) -> str:
    return draft.build_format(order, "", True).sql("v", "UTC")


def find_proof(values: Values, draft: Draft, order: str) -> str:
    others = " OR ".join(
        f"{read_by(draft, other)} IS NULL" for other in draft.orders if other != order
    )
    rows = values.fetch("v", f"{read_by(draft, order)} IS NOT NULL AND ({others}) LIMIT 1")
    return f"values like {str(rows[0][0]).strip()}" if rows else "most values"


def measure_spans(values: Values, draft: Draft, orders: list[str]) -> dict[str, int]:
    """Days between the first and the last, of the orders that read the most over all rows."""
    instants = [read_by(draft, order) for order in orders]
    what = ", ".join(f"count({x}), date_diff('day', min({x}), max({x}))" for x in instants)
    row = [int(str(n or 0)) for n in values.fetch(what)[0]]
    found = list(zip(row[::2], row[1::2], orders, strict=True))
    return {order: days for n, days, order in found if n == max(row[::2])}


def compare_spans(spans: dict[str, int], is_compact: bool) -> tuple[list[str], str]:
    """Two-digit years: the right reading spans the fewest days."""
    rest = [order for order in spans if order != "ymd"]
    least, most = sorted([spans["ymd"], min(spans[order] for order in rest)])
    doubt = "" if most >= MIN_SPAN_RATIO * max(least, 1) else "; but both are possible"
    said = f"the dates span {least:,} days, read otherwise {most:,}{doubt}"
    year_first = spans["ymd"] == least and (least < most or is_compact)
    return (["ymd"] if year_first else rest), said


def break_tie(values: Values, draft: Draft, spans: dict[str, int]) -> tuple[str, str]:
    """Between day first and month first."""
    templates = [s.template for s in draft.spellings if s.orders]
    if all("." in template.split(" ")[0] for template in templates):
        return "dmy", "dates with dots are written so"
    if any("%p" in t for t in templates) and all("/" in t for t in templates):
        return "mdy", "12-hour clocks with slashes are written so"
    day_first, month_first = (count_reversals(values, draft, order) for order in ("dmy", "mdy"))
    if min(day_first, month_first) == 0 < max(day_first, month_first):
        return ("dmy" if day_first == 0 else "mdy"), "the rows then stand in the order of time"
    day_first, month_first = spans["dmy"], spans["mdy"]
    if day_first != month_first:
        days = min(day_first, month_first)
        order = "dmy" if day_first < month_first else "mdy"
        return (
            order,
            f"the dates then span {days:,} days instead of {max(day_first, month_first):,}",
        )
    return "dmy", "most countries write so"


def count_reversals(values: Values, draft: Draft, order: str) -> int:
    """Steps against the direction of most steps, among the first rows."""
    rows = values.con.execute(
        "SELECT count(*) FILTER (t < before), count(*) FILTER (t > before) FROM (SELECT t, "
        f"lag(t) OVER (ORDER BY i) AS before FROM (SELECT {read_by(draft, order)} AS t, "
        f"row_number() OVER () AS i FROM (FROM {values.relation} LIMIT {N_SAMPLED})))"
    ).fetchall()
    return min(int(n) for n in rows[0])


def check_order(values: Values, unread: Values, draft: Draft, order: str) -> None:
    for other in draft.orders:
        if other == order:
            continue
        ours, theirs = read_by(draft, order), read_by(draft, other)
        if not (n_theirs := unread.count(f"{theirs} IS NOT NULL")[0]):
            continue
        only_ours = f"{theirs} IS NULL AND {ours} IS NOT NULL"
        n_ours = values.count(only_ours)[0]
        if n_theirs > MAX_STRAY_SHARE * (n_ours + n_theirs):
            pattern = draft.build_format(order, "", True).layouts[0].pattern
            raise SourceError(
                f"{values.name}: {n_ours:,} values can only be {ORDERS[order]} "
                f"({values.list_examples(only_ours)}), {n_theirs:,} only {ORDERS[other]} "
                f"({unread.list_examples(f'{theirs} IS NOT NULL')}); expected one order in all "
                f"values. Write all dates alike, or choose one: --ts-format '{pattern}'."
            )


def check_numbers(unread: Values, format_: TimeFormat, n_read: int) -> None:
    """Excel turns the dates it takes for its own into numbers and leaves the others as text:
    day and month of the numbers are then exchanged."""
    text = clean("v", format_.cleaning)
    found = [f"{read_number(text, kind, 'UTC')} IS NOT NULL" for kind in NUMERIC_KINDS]
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


def detect_kind(values: Values, cleaning: tuple[str, ...]) -> TimeFormat:
    """By the magnitude of all values, never of one."""
    text = clean("v", cleaning)
    number = f"CASE WHEN NOT contains(lower(v), 'e') THEN try_cast({text} AS DOUBLE) END"
    numbers = Values(values.con, f"(SELECT v, {number} AS x FROM {values.relation})", values.name)
    found = {k: f"x >= {low} AND x < {high}" for k, (low, high) in NUMERIC_KINDS.items()}
    n_filled, *counts = numbers.count("trim(v) <> ''", *found.values())
    ranked = sorted(zip(counts, found, strict=True), reverse=True)
    (n_best, best), (n_second, second) = ranked[:2]
    if n_best < MIN_READ_SHARE * n_filled:
        others = " AND ".join(f"NOT coalesce({condition}, false)" for condition in found.values())
        raise SourceError(
            describe_unread(values.name, numbers.list_examples(f"trim(v) <> '' AND {others}"))
        )
    if n_second > MAX_STRAY_SHARE * (n_best + n_second):
        raise SourceError(
            f"{values.name}: {n_best:,} values are {KIND_NAMES[best]} "
            f"({numbers.list_examples(found[best])}), {n_second:,} are {KIND_NAMES[second]} "
            f"({numbers.list_examples(found[second])}); expected one kind. Export the column "
            f"again, or choose one: --ts-format {best}."
        )
    examples = numbers.list_examples(found[best])
    return TimeFormat(
        pattern=best,
        has_offset=best != "excel",
        evidence=f"{n_best:,} values are {KIND_NAMES[best]}, such as {examples}",
        is_certain=True,
        cleaning=cleaning,
    )


def take_given(values: Values, given: str) -> TimeFormat:
    import duckdb

    format_ = build_given(values.name, given)
    try:
        n_read, n_filled = values.count(f"{format_.sql('v', 'UTC')} IS NOT NULL", "trim(v) <> ''")
    except duckdb.Error as error:
        raise SourceError(
            f"{values.name}: --ts-format {given!r} is no pattern of strptime ({error}). {HINT}"
        ) from error
    if not n_filled or n_read < MIN_READ_SHARE * n_filled:
        unread = values.list_examples(f"trim(v) <> '' AND {format_.sql('v', 'UTC')} IS NULL")
        raise SourceError(
            f"{values.name}: --ts-format {given!r} reads {n_read:,} of {n_filled:,} values; "
            f"it does not read {unread or 'empty values'}. Correct it, or leave it out: the "
            "format is then found by itself."
        )
    return format_


HINT = (
    "Example: d/M/yyyy H:mm is written '%d/%m/%Y %H:%M'; month names are %b or %B, a clock of "
    "12 hours is %I and %p."
)


def build_given(name: str, given: str) -> TimeFormat:
    if given in NUMERIC_KINDS:
        return TimeFormat(
            pattern=given,
            has_offset=given != "excel",
            evidence="it was given",
            is_certain=True,
            cleaning=("decimal comma",),
        )
    if "%" not in given:
        kinds = ", ".join(NUMERIC_KINDS)
        raise SourceError(
            f"{name}: --ts-format is {given!r}; expected a pattern of strptime, with a % before "
            f"each letter, or one of {kinds}. {HINT}"
        )
    ends_in_utc = re.search(r"[^%](?:Z|UTC|GMT)$", given)
    zone: Zone = "offset" if re.search("%[zZ]", given) else "utc" if ends_in_utc else "local"
    return name_format((Layout(pattern=given, zone=zone),), (), "it was given", True)


def name_format(
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


def describe_unread(name: str, example: str) -> str:
    hint = ""
    if re.match(r"\s*\d+[.,]?\d*[eE]\+?\d+", example):
        hint = " A spreadsheet has cut its digits: export the column again as text."
    return f"{name}: no format reads {example!r}; expected timestamps.{hint} {REMEDY}"
