"""Remarks on a file that a person should read before trusting its lines."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.sources.columns import ColumnMapping
from components.sources.platforms import simplify
from components.sources.selection import Selection
from components.sources.tables import Table, fetch_one, sql_text
from components.sources.unpack import PlainFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STATES = ("status", "statu", "state", "event", "type", "durum")
"""Parts of the names of columns that say what became of a line, simplified."""
TIMES_OF_DAY = ("time", "uhrzeit", "saat", "heure", "hora", "timeofday")
NO_SALE = "(?i).*(cancel|refund|return|void|iptal|iade|storn|annul|anulad|devol|view|reject).*"


def list_notes(
    con: "DuckDBPyConnection", file: PlainFile, table: Table, mapping: ColumnMapping,
    selection: Selection,
) -> tuple[str, ...]:  # fmt: skip
    return tuple(_note(con, file, table, mapping, selection))


def _note(
    con: "DuckDBPyConnection", file: PlainFile, table: Table, mapping: ColumnMapping,
    selection: Selection,
) -> Iterator[str]:  # fmt: skip
    if mapping.platform:
        yield mapping.platform.note
    if file.n_nul:
        yield f"{file.name}: {file.n_nul} NUL bytes were dropped"
    if mapping.is_numbered:
        yield "Orders have no id: each row or list is an order, named by its number"
    for ours, several in mapping.ambiguous.items():
        yield (
            f"{' and '.join(several)} could each be {ours}, so none was taken: choose with "
            f"--columns '{ours}={several[0]}'"
        )
    if "order_id" in selection.texts and "quantity" not in selection.columns:
        yield "No column is the quantity: every line counts as one piece"
    if not mapping.platform and "order_id" in selection.texts:
        yield from _note_states(con, table)
        yield from _note_times(table, mapping)


def _note_states(con: "DuckDBPyConnection", table: Table) -> Iterator[str]:
    """Cancelled and returned lines of exports that are not known count as sales."""
    for name, column in table.columns.items():
        if column.nested_in or not (sql := _find_no_sales(name, column.text)):
            continue
        query = f"select count(*), any_value({column.text}) from {table.relation} where {sql}"
        n_lines, example = fetch_one(con, query)
        if n_lines:
            yield (
                f"Column {name!r} holds {example!r} and the like in {n_lines} lines, which count "
                "as sales: leave them out of the export if they are none"
            )


def _find_no_sales(name: str, text: str) -> str:
    """A condition, or nothing for a column of another name."""
    simple = simplify(name)
    if re.fullmatch(NO_SALE, simple):
        return f"lower(trim({text})) not in ('', '0', '0.0', '0.00', 'no', 'n', 'false', 'f')"
    if any(one in simple for one in STATES):
        return f"regexp_full_match({text}, {sql_text(NO_SALE)})"
    return ""


def _note_times(table: Table, mapping: ColumnMapping) -> Iterator[str]:
    days = mapping.columns.get("ts", ())
    for name in table.columns:
        if days and name not in days and simplify(name) in TIMES_OF_DAY:
            yield f"Column {name!r} is not used: times are those of {' and '.join(map(repr, days))}"
