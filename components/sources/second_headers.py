"""Files that were put one behind the other: a later header may name another order of columns."""

from typing import TYPE_CHECKING

from components.sources.columns import ColumnMapping
from components.sources.errors import SourceError
from components.sources.tables import Table, sql_text

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def refuse_other_headers(
    con: "DuckDBPyConnection", table: Table, mapping: ColumnMapping, texts: str
) -> None:
    """Raises SourceError for a line of names that is not the header again; `texts` is a view."""
    ids = [ours for ours in ("order_id", "product_id") if ours in mapping.columns]
    if table.dialect is None or len(ids) < 2:
        return
    names = ", ".join(sql_text(one.casefold()) for one in table.columns)
    is_named = " and ".join(f"lower({ours}) in ({names})" for ours in ids)
    order, product = (mapping.columns[ours][0].casefold() for ours in ids)
    is_joined = (
        f"contains(lower(order_id), {sql_text(order)}) "
        f"and contains(lower(order_id), {sql_text(product)})"
    )
    columns = [ours for ours in mapping.columns if len(mapping.columns[ours]) == 1]
    query = f"select {', '.join(columns)} from {texts} where ({is_named}) or ({is_joined}) limit 10"
    expected = [mapping.columns[ours][0].casefold() for ours in columns]
    for found in con.execute(query).fetchall():
        if [str(one or "").strip().casefold() for one in found] != expected:
            shown = ", ".join(str(one) for one in found if one)
            raise SourceError(
                f"{table.name}: a line among the others names columns in another way ({shown}), "
                f"expected one header ({', '.join(mapping.columns[o][0] for o in columns)}); "
                "give the files that were put together one by one, in a folder"
            )
