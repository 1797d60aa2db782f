"""Parquet that Spark can read as it is: typed columns under one name each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.sources.columns import map_columns, parse_columns
from components.sources.errors import SourceError
from components.sources.formats import NUMBERS, TIMES, is_numeric
from components.sources.reading import ColumnReading, FileReading
from components.sources.selection import IDS
from components.sources.tables import INT96, TEXT, Column
from components.sources.understand import REQUIRED, ReadSettings, Understood

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
CLOCKS = ("DATE", "TIMESTAMP", "TIMESTAMP_MS")
MOMENTS = (INT96, "TIMESTAMP WITH TIME ZONE")
ARROW_TYPES = {
    "string": TEXT, "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
    "float": "FLOAT", "double": "DOUBLE", "bool": "BOOLEAN", "date32[day]": "DATE",
    "timestamp[us]": "TIMESTAMP", "timestamp[ms]": "TIMESTAMP_MS",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class PlainColumn:
    ours: str
    theirs: str
    type: str
    """DuckDB's name."""


@dataclass(frozen=True)
class PlainParquet:
    address: str
    """A path, or an s3a:// address."""
    columns: tuple[PlainColumn, ...]


def find_plain(one: Understood) -> PlainParquet | None:
    """None where the file needs normalising."""
    mapping = one.mapping
    if one.file.kind != "parquet" or mapping.platform or mapping.items or mapping.is_numbered:
        return None
    if not all(_is_known_to_spark(column) for column in one.table.columns.values()):
        return None
    found = []
    for ours, theirs in one.selection.columns.items():
        name, column = next(iter(theirs.items()))
        if len(theirs) > 1 or name in one.file.partition or not _is_plain(ours, name, column):
            return None
        found.append(PlainColumn(ours, name, column.type))
    return PlainParquet(str(one.file.path), tuple(sorted(found)))


def find_remote_plain(
    system: "FileSystem", path: str, settings: ReadSettings
) -> PlainParquet | None:
    """Of order lines in an object store, by the footer alone. Raises SourceError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path, filesystem=system)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: a damaged Parquet file ({error}); write it again") from None
    columns = _describe_columns(metadata.schema)
    given = parse_columns(settings.columns)
    mapping = map_columns(list(columns), given, REQUIRED["orders"], path)
    if mapping.platform or mapping.items or not all(map(_is_known_to_spark, columns.values())):
        return None
    found = [
        PlainColumn(ours, theirs[0], columns[theirs[0]].type)
        for ours, theirs in mapping.columns.items()
    ]
    if not all(_is_plain(one.ours, one.theirs, columns[one.theirs]) for one in found):
        return None
    return PlainParquet(f"s3a://{path}", tuple(sorted(found)))


def describe_plain(file: PlainParquet) -> FileReading:
    columns = {
        one.ours: ColumnReading(theirs=(one.theirs,), format=one.type.lower())
        for one in file.columns
    }
    return FileReading(name=file.address, kind="parquet", columns=columns)


def _describe_columns(schema: Any) -> Mapping[str, Column]:
    arrow = schema.to_arrow_schema()
    old = {one.path for one in map(schema.column, range(len(schema))) if one.physical_type == INT96}
    return {
        field.name: Column("", INT96 if field.name in old else _duckdb_type(str(field.type)))
        for field in arrow
    }


def _duckdb_type(kind: str) -> str:
    if kind.startswith(("timestamp[us, ", "timestamp[ms, ")):
        return "TIMESTAMP WITH TIME ZONE"
    return "DECIMAL" if kind.startswith("decimal") else ARROW_TYPES.get(kind, "")


def _is_known_to_spark(column: Column) -> bool:
    """Of any column: Spark reads the schema of all, whichever are selected."""
    known = (TEXT, "BOOLEAN", "BLOB", *CLOCKS, *MOMENTS)
    return column.type in known or is_numeric(column.type)


def _is_plain(ours: str, name: str, column: Column) -> bool:
    if column.nested_in or "." in name or "`" in name:
        return False
    if ours in TIMES:
        return column.type in (*CLOCKS, *MOMENTS)
    if ours in NUMBERS:
        return column.type in SIGNED or column.type.startswith(("DECIMAL", "FLOAT", "DOUBLE"))
    if ours in IDS:
        return column.type in (TEXT, *SIGNED)
    return column.type in (TEXT, "BOOLEAN") or is_numeric(column.type)
