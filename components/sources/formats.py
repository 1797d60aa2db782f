"""The type of each of our columns, and how a file's values become it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.sources.numbers import detect_number_format
from components.sources.reading import ColumnReading
from components.sources.tables import INT96, TEXT, Column, sql_text
from components.sources.timestamps import detect_time_format

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NUMBERS = ("position", "quantity", "price", "margin")
TIMES = ("ts", "added_at")
TRUE = ("true", "t", "1", "yes", "y", "in stock", "instock", "in_stock", "available")
NULLS = ("NULL", "null", "NaN", "nan", "None", "<NA>", "#N/A", "N/A", "\\N", "NaT")
"""Words of tools for a missing value."""


@dataclass(frozen=True)
class FormatChoices:
    """Choices that win over the evidence; empty where there are none."""

    ts_format: str = ""
    decimal: str = ""
    timezone: str = "UTC"


@dataclass(frozen=True)
class Parsed:
    """A column's value as SQL, and what it was taken for."""

    sql: str
    reading: ColumnReading


def text_of(columns: Sequence[Column], nothing: Sequence[str] = ()) -> str:
    """The first with a value, as it was written; `nothing` are more words for a missing one."""
    texts = [_without_nulls(one, nothing) for one in columns]
    if len(texts) == 1:
        return texts[0]
    filled = ", ".join(f"nullif(trim({one}), '')" for one in texts)
    return f"coalesce({filled})"


def _without_nulls(column: Column, nothing: Sequence[str]) -> str:
    words = [*(NULLS if column.type == TEXT else ()), *nothing]
    if not words:
        return column.text
    # DuckDB would make a join of IN, at several times the cost.
    nulls = " ".join(f"when {sql_text(one)} then null" for one in words)
    is_longer = f"strlen({column.text}) > {max(len(one.encode()) for one in words)}"
    return (
        f"case when {is_longer} then {column.text} "
        f"else case {column.text} {nulls} else {column.text} end end"
    )


def parse_number(
    con: "DuckDBPyConnection", table: str, text: str, columns: Mapping[str, Column],
    choices: FormatChoices, name: str,
) -> Parsed:  # fmt: skip
    """`text` is the column's text in `table`; `columns` are the shop's, with their types."""
    theirs = tuple(columns)
    if all(is_numeric(one.type) for one in columns.values()):
        number = f"try_cast({text} as double)"
        finite = f"case when isfinite({number}) then {number} end"
        return Parsed(finite, ColumnReading(theirs=theirs, format="number"))
    if not (values := _collect_values(con, table, text)):
        return Parsed("null::double", ColumnReading(theirs=theirs, format="empty"))
    found = detect_number_format(con, values, "v", name=name, decimal=choices.decimal)
    shown = f"decimal {'comma' if found.decimal == ',' else 'point'}"
    if found.thousands:
        shown += f", thousands {found.thousands!r}"
    reading = ColumnReading(
        theirs=theirs, format=shown, evidence=found.evidence, is_certain=found.is_certain
    )
    return Parsed(found.sql(text), reading)


def parse_time(
    con: "DuckDBPyConnection", table: str, text: str, columns: Mapping[str, Column],
    choices: FormatChoices, name: str,
) -> Parsed:  # fmt: skip
    """As a TIMESTAMP in UTC; clocks without zone are those of the shop."""
    theirs, kinds = tuple(columns), {one.type for one in columns.values()}
    kind = kinds.pop() if len(kinds) == 1 else ""
    if typed := _typed_time(kind, text, choices.timezone):
        return Parsed(typed, ColumnReading(theirs=theirs, format=_describe_type(kind)))
    if not (values := _collect_values(con, table, text)):
        return Parsed("null::timestamp", ColumnReading(theirs=theirs, format="empty"))
    found = detect_time_format(con, values, "v", name=name, given=choices.ts_format)
    evidence = found.evidence
    if found.has_offset and choices.timezone == "UTC" and (offset := _find_offset(con)):
        evidence += f"; days are those of UTC, though values carry {offset}: see --timezone"
    reading = ColumnReading(
        theirs=theirs, format=found.pattern, evidence=evidence, is_certain=found.is_certain
    )
    return Parsed(found.sql(text, choices.timezone), reading)


def _collect_values(con: "DuckDBPyConnection", table: str, text: str) -> str:
    """The different values in a table of their own, for they are looked at several times.

    Empty where there are none.
    """
    select = f"select {text} as v from {table} where trim({text}) <> '' group by 1"
    con.execute(f"create or replace temp table column_values as {select}")
    found = con.execute("select 1 from column_values limit 1").fetchall()
    return "column_values" if found else ""


def _find_offset(con: "DuckDBPyConnection") -> str:
    """An offset of the collected values that is not that of UTC."""
    offset = r"regexp_extract(v, '[+-]\d\d:?\d\d$')"
    query = f"select {offset} from column_values where regexp_matches({offset}, '[1-9]') limit 1"
    return "".join(one for (one,) in con.execute(query).fetchall())


def _typed_time(kind: str, text: str, timezone: str) -> str:
    """Parses again what DuckDB wrote: exact, and the column's expression stays one text."""
    if kind in ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS"):
        return f"timezone('UTC', try_cast({text} as timestamptz))"
    if kind == INT96:
        return f"try_cast({text} as timestamp)"
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        local = f"try_cast({text} as timestamp)"
        return f"timezone('UTC', timezone({sql_text(timezone)}, {local}))"
    return ""


def _describe_type(kind: str) -> str:
    return {
        "TIMESTAMP WITH TIME ZONE": "timestamp with zone",
        "TIMESTAMPTZ_NS": "timestamp with zone",
        INT96: "timestamp (INT96)",
        "DATE": "date",
    }.get(kind, "timestamp without zone")


def is_numeric(kind: str) -> bool:
    integers = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
    return kind.removeprefix("U") in integers or kind.startswith(("DECIMAL", "FLOAT", "DOUBLE"))


def parse_flag(text: str) -> str:
    values = ", ".join(map(sql_text, TRUE))
    return f"case when trim({text}) <> '' then lower(trim({text})) in ({values}) end"
