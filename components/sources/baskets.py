"""Orders of one row: products as separated text, and the FIMI format of frequent-itemset papers."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from components.sources.errors import SourceError
from components.sources.parquet_tables import ELEMENT
from components.sources.tables import ORDER_ROW, Column, Table, fetch_one, sql_text
from components.sources.unpack import PlainFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FIMI_SUFFIX = ".dat"
FIMI_LINE = re.compile(r"\s*\d+(\s+\d+)*\s*")
LIST_SEPARATORS = ("|", ";", ",", "\t", " ")
"""In this order: a text with `|` in most values is not separated by its commas."""
MAX_SHARE_OF_BARE = 0.8
"""Of different texts that are still different without a number behind them."""
BRACKETS = "[](){} '\""


def is_fimi(file: PlainFile) -> bool:
    """By its name and its first lines: lines of numbers alone could be a table without a header."""
    if file.kind != "text" or FIMI_SUFFIX not in file.name:
        return False
    with file.path.open(encoding="utf-8", errors="replace") as stream:
        lines = [line for line, _ in zip(stream, range(1000), strict=False) if line.strip()]
    widths = {len(line.split()) for line in lines}
    return bool(lines) and len(widths) > 1 and all(map(FIMI_LINE.fullmatch, lines))


def open_fimi(file: PlainFile) -> Table:
    """One order a line, named by its number; products are numbers between spaces."""
    lines = (
        f"(select row_number() over () as {ORDER_ROW}, c0 "
        f"from read_csv({sql_text(str(file.path))}, "
        "compression='none', "
        "auto_detect=false, header=false, delim='\\0', quote='', escape='', parallel=false, "
        "columns={'c0': 'VARCHAR'}) where trim(c0) <> '')"
    )
    products = r"regexp_split_to_array(trim(c0), '\s+')"
    relation = f"(select {ORDER_ROW}, unnest({products}) as {ELEMENT} from {lines})"
    columns = {"order_id": Column(ORDER_ROW, "BIGINT"), "product_id": Column(ELEMENT)}
    return Table(file.name, relation, columns, {})


def unnest_text(con: "DuckDBPyConnection", table: Table, name: str) -> Table:
    """One row for each product of the separated text in the column; raises SourceError."""
    text = table.columns[name].text
    separator = _find_separator(con, table, name)
    parts = f"unnest(string_split({text}, {sql_text(separator)}))"
    stripped = f"trim({parts}, {sql_text(BRACKETS)})"
    numbered = f"(select *, row_number() over () as {ORDER_ROW} from {table.relation})"
    relation = f"(select *, {stripped} as {ELEMENT} from {numbered})"
    filled = f"(select * from {relation} where {ELEMENT} <> '')"
    _refuse_quantities(con, table, name, filled)
    return replace(table, relation=filled, columns=table.columns | {name: Column(ELEMENT)})


def _refuse_quantities(con: "DuckDBPyConnection", table: Table, name: str, relation: str) -> None:
    """`A:2` beside `A:1` is one product with its quantity, and no id."""
    bare = f"regexp_replace({ELEMENT}, '\\s*[:*×x]\\s*\\d+$', '')"
    query = f"select count(distinct {ELEMENT}), count(distinct {bare}), any_value({ELEMENT})"
    n_ids, n_bare, example = fetch_one(
        con, f"{query} from (select * from {relation} limit 100000) where {bare} <> {ELEMENT}"
    )
    if n_bare < MAX_SHARE_OF_BARE * n_ids:
        raise SourceError(
            f"{table.name}: column {name!r} (items) holds products with a quantity, such as "
            f"{example!r}, expected products alone; leave the quantities out, or export one line "
            "for each product"
        )


def _find_separator(con: "DuckDBPyConnection", table: Table, name: str) -> str:
    text = table.columns[name].text
    counts = ", ".join(
        f"count_if(contains(trim({text}), {sql_text(one)}))" for one in LIST_SEPARATORS
    )
    sample = f"(select * from {table.relation} where {text} <> '' limit 100000)"
    n_rows, *found = fetch_one(con, f"select count(*), {counts} from {sample}")
    for separator, n_found in zip(LIST_SEPARATORS, found, strict=True):
        if n_found and 3 * n_found >= n_rows:
            return separator
    raise SourceError(
        f"{table.name}: column {name!r} (items) holds no separated text, expected products "
        f"separated by one of {' '.join(map(repr, LIST_SEPARATORS))}; for one product a line map "
        f"it with --columns product_id={name}"
    )
