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
OBJECT = r"[\"']\w+[\"']\s*:"
"""A key of JSON."""
MIN_SHARE_OF_QUOTED = 0.9
SPACED_CODES = r"\s*\S*\d\S*(\s+\S*\d\S*)*\s*"
"""Texts that spaces may divide: each part has a digit, as names do not."""
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
    if table.columns[name].type.startswith("MAP"):
        raise SourceError(_describe_quantities(table, name, table.columns[name].type))
    parts = f"unnest({_split(con, table, name, text)})"
    stripped = f"trim({parts}, {sql_text(BRACKETS)})"
    numbered = f"(select *, row_number() over () as {ORDER_ROW} from {table.relation})"
    relation = f"(select *, {stripped} as {ELEMENT} from {numbered})"
    filled = f"(select * from {relation} where {ELEMENT} <> '')"
    _refuse_quantities(con, table, name, filled)
    return replace(table, relation=filled, columns=table.columns | {name: Column(ELEMENT)})


def _refuse_quantities(con: "DuckDBPyConnection", table: Table, name: str, relation: str) -> None:
    """`A:2` beside `A:1` is one product with its quantity, and no id."""
    bare = (
        f"regexp_replace(regexp_replace({ELEMENT}, '\\s*([:=*×x]\\s*|\\()\\d+\\)?$', ''), "
        "'^\\d+\\s*[*×x]\\s+', '')"
    )
    query = f"select count(distinct {ELEMENT}), count(distinct {bare}), any_value({ELEMENT})"
    n_ids, n_bare, example = fetch_one(
        con, f"{query} from (select * from {relation} limit 100000) where {bare} <> {ELEMENT}"
    )
    if n_bare < MAX_SHARE_OF_BARE * n_ids:
        raise SourceError(_describe_quantities(table, name, example))


def _describe_quantities(table: Table, name: str, example: str) -> str:
    return (
        f"{table.name}: column {name!r} (items) holds products with a quantity, such as "
        f"{example!r}, expected products alone; leave the quantities out, or export one line for "
        "each product"
    )


def _split(con: "DuckDBPyConnection", table: Table, name: str, text: str) -> str:
    """A list of texts: what stands in quotes, or between separators."""
    sample = f"(select * from {table.relation} where {text} <> '' limit 100000)"
    is_object = f"regexp_matches({text}, {sql_text(OBJECT)})"
    objects = f"select any_value({text}) from {sample} where {is_object}"
    if example := fetch_one(con, objects)[0]:
        raise SourceError(_describe_quantities(table, name, example[:60]))
    for quote in ('"', "'"):
        is_quoted = sql_text(f"\\W*{quote}[^{quote}]+{quote}.*")
        share = f"select avg(regexp_full_match({text}, {is_quoted})::int) from {sample}"
        if (fetch_one(con, share)[0] or 0) > MIN_SHARE_OF_QUOTED:
            inside = "\"([^\"]+)\"|'([^']+)'"
            return f"regexp_extract_all({text}, {sql_text(inside)})"
    return f"string_split({text}, {sql_text(_find_separator(con, table, name))})"


def _find_separator(con: "DuckDBPyConnection", table: Table, name: str) -> str:
    text = table.columns[name].text
    contains = {one: f"contains(trim({text}), {sql_text(one)})" for one in LIST_SEPARATORS}
    contains[" "] += f" and regexp_full_match({text}, {sql_text(SPACED_CODES)})"
    counts = ", ".join(f"count_if({one})" for one in contains.values())
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
