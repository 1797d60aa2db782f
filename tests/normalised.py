"""Normalised lines of a source, without Spark."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.sources.normalise import connect, describe, understand_files, write_lines
from components.sources.reading import Reading
from components.sources.source import open_source
from components.sources.tables import sql_text
from components.sources.understand import Kind, ReadSettings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FIELDS = ("order_id", "product_id", "ts", "quantity", "price", "user_id", "name")
Line = tuple[str | float | datetime | None, ...]


@dataclass(frozen=True)
class Normalised:
    lines: list[Line]
    """`FIELDS` of the lines that count, sorted by order and product."""
    left_out: list[tuple[str, str]]
    """Order ids and reasons."""
    reading: Reading


def read_lines(
    source: Path | str, staging: Path, kind: Kind = "orders", **settings: str
) -> Normalised:
    with connect(staging) as con:
        return read_with(con, source, staging, ReadSettings(**settings), kind)


def read_with(
    con: "DuckDBPyConnection", source: Path | str, staging: Path, settings: ReadSettings,
    kind: Kind = "orders",
) -> Normalised:  # fmt: skip
    """As read_source does, but Parquet that is plain is written out as well."""
    files = open_source(str(source), staging, settings.encoding)
    lines = understand_files(con, files, kind, settings, staging / "tables")
    parts = write_lines(con, lines, range(len(files)), staging / "parts")
    relation = f"read_parquet([{', '.join(sql_text(str(one)) for one in parts)}])"
    reading = describe(con, str(source), lines, relation, settings)
    kept = "coalesce(trim(order_id), '') <> '' and coalesce(trim(product_id), '') <> ''"
    sql = f"select {_list_fields()} from {relation} where left_out is null and {kept} order by all"
    out = f"select order_id, left_out from {relation} where left_out is not null order by all"
    return Normalised(con.execute(sql).fetchall(), con.execute(out).fetchall(), reading)


def _list_fields() -> str:
    return ", ".join(f"{one}::timestamp as ts" if one == "ts" else one for one in FIELDS)


def column(found: Normalised, name: str) -> list[object]:
    return [line[FIELDS.index(name)] for line in found.lines]


def ids(found: Normalised) -> Sequence[tuple[object, object]]:
    return [line[:2] for line in found.lines]
