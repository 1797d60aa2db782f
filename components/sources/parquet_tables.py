"""A Parquet file as a table, lists and structures flattened."""

from typing import TYPE_CHECKING

from components.sources.errors import SourceError
from components.sources.tables import INT96, ORDER_ROW, TEXT, Column, Table, sql_name, sql_text
from components.sources.unpack import PlainFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ELEMENT = "element"
"""Name of a list's element in its unnested relation."""


def open_parquet(con: "DuckDBPyConnection", file: PlainFile) -> Table:
    """Raises SourceError for a damaged file."""
    import duckdb
    import pyarrow as pa

    scan = f"read_parquet({sql_text(str(file.path))}, binary_as_string=true)"
    try:
        described = con.execute(f"describe select * from {scan}").fetchall()
        old = _int96_columns(file)
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(
            f"{file.name}: a damaged Parquet file ({reason}); write it again"
        ) from None
    columns: dict[str, Column] = {}
    lists: dict[str, str] = {}
    for name, kind, *_ in described:
        _add_column(name, sql_name(name), INT96 if name in old else kind, scan, columns, lists)
    return Table(file.name, scan, columns, lists)


def _int96_columns(file: PlainFile) -> set[str]:
    import pyarrow.parquet as pq

    schema = pq.read_metadata(file.path).schema
    columns = (schema.column(place) for place in range(len(schema)))
    return {one.path for one in columns if one.physical_type == INT96}


def _add_column(
    name: str, sql: str, kind: str, scan: str, columns: dict[str, Column], lists: dict[str, str],
    nested_in: str = "",
) -> None:  # fmt: skip
    """With the fields of a structure, or of a list's elements, as columns of their own."""
    if kind.endswith("[]") and not nested_in:
        numbered = f"(select *, row_number() over () as {ORDER_ROW} from {scan})"
        lists[name] = f"(select *, unnest({sql}) as {ELEMENT} from {numbered})"
        _add_column(name, ELEMENT, kind[:-2], scan, columns, lists, nested_in=name)
    elif kind.startswith("STRUCT("):
        for field, inner in _split_fields(kind):
            path = f"{sql}.{sql_name(field)}"
            _add_column(f"{name}.{field}", path, inner, scan, columns, lists, nested_in)
    elif kind == "ENUM" or kind.startswith("ENUM("):
        columns[name] = Column(f"cast({sql} as varchar)", TEXT, nested_in)
    else:
        columns[name] = Column(sql, kind, nested_in)


def _split_fields(kind: str) -> list[tuple[str, str]]:
    """Of `STRUCT(a BIGINT, "b c" STRUCT(d VARCHAR)[])`."""
    import duckdb

    return [(name, str(inner)) for name, inner in duckdb.sqltype(kind).children]
