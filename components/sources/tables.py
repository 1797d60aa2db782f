"""A file as a table in DuckDB: its columns by the shop's names, as SQL expressions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.sources.errors import SourceError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TEXT = "VARCHAR"
ORDER_ROW = "order_row"
"""Number of an order in relations that have one row for each order, or list of its lines."""
INT96 = "INT96"
"""The old type of Parquet timestamps: a moment, though DuckDB calls it a clock without zone."""


@dataclass(frozen=True)
class Column:
    sql: str
    type: str = TEXT
    """DuckDB's name, or INT96."""
    nested_in: str = ""
    """The list whose elements hold it."""

    @property
    def text(self) -> str:
        """Whole floats lose their .0: ids that a tool made numbers."""
        if self.type == TEXT:
            return self.sql
        text = f"cast({self.sql} as varchar)"
        if self.type in ("FLOAT", "DOUBLE"):
            whole = f"cast(try_cast({self.sql} as hugeint) as varchar)"
            is_whole = f"{self.sql} = floor({self.sql}) and abs({self.sql}) < 1e37"
            return (
                f"case when not isfinite({self.sql}) then null "
                f"when {is_whole} then {whole} else {text} end"
            )
        if self.type.startswith("DECIMAL"):
            return f"regexp_replace({text}, '\\.0+$', '')"
        return text


@dataclass(frozen=True)
class Dialect:
    """How the text of a file is divided."""

    separator: str
    quote: str = '"'
    escape: str = '"'
    n_skipped: int = 0
    """Lines above the header."""
    line_end: str = "\n"
    """Of the header: values may hold other line breaks."""


@dataclass(frozen=True)
class Table:
    name: str
    relation: str
    """SQL that can stand after FROM."""
    columns: dict[str, Column]
    lists: Mapping[str, str]
    """{name of a nested list: the relation with one row for each of its elements}."""
    dialect: Dialect | None = None
    malformed: str = ""
    """Relation of the lines that are no rows, as `line`."""

    def unnest(self, used: Sequence[str]) -> str:
        """The relation that holds the used columns; raises SourceError for two lists."""
        lists = {self.columns[one].nested_in for one in used} - {""}
        if len(lists) > 1:
            raise SourceError(
                f"{self.name}: columns come from several nested lists ({', '.join(sorted(lists))}),"
                " expected one list of lines for each order; choose columns with --columns"
            )
        return self.lists[lists.pop()] if lists else self.relation


def sql_text(text: str) -> str:
    """A literal."""
    return "'" + text.replace("'", "''") + "'"


def sql_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def name_twins(header: Sequence[str]) -> list[str]:
    """`price, price` as `price#1, price#2`; empty names stay empty."""
    names = [" ".join(one.replace("\u00a0", " ").split()) for one in header]
    n_each, seen = Counter(names), Counter[str]()
    named = []
    for one in names:
        seen[one] += 1
        named.append(f"{one}#{seen[one]}" if one and n_each[one] > 1 else one)
    return named


def fetch_one(con: "DuckDBPyConnection", query: str) -> tuple[Any, ...]:
    return tuple(con.execute(query).fetchall()[0])
