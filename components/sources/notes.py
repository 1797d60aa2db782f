"""Remarks on a file that a person should read before trusting its lines."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.sources.columns import ColumnMapping
from components.sources.platforms import simplify
from components.sources.selection import Selection
from components.sources.tables import Table, fetch_one, sql_text
from components.sources.unpack import PlainFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STATES = (
    "status",
    "orderstatus",
    "state",
    "financialstatus",
    "eventtype",
    "event",
    "type",
    "durum",
)
"""Names of columns that say what became of a line, simplified."""
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


def _note_states(con: "DuckDBPyConnection", table: Table) -> Iterator[str]:
    """Cancelled and returned lines of exports that are not known count as sales."""
    for name, column in table.columns.items():
        if simplify(name) in STATES and not column.nested_in:
            is_no_sale = f"regexp_full_match({column.text}, {sql_text(NO_SALE)})"
            n_lines, example = fetch_one(
                con,
                f"select count(*), any_value({column.text}) from {table.relation} "
                f"where {is_no_sale}",
            )
            if n_lines:
                yield (
                    f"Column {name!r} holds {example!r} and the like in {n_lines} lines, which "
                    "count as sales: leave them out of the export if they are none"
                )
