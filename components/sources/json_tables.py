"""JSON or JSON Lines of orders as a table; every value as the text that was written."""

import json
from typing import TYPE_CHECKING, Any

from components.sources.errors import SourceError
from components.sources.parquet_tables import ELEMENT
from components.sources.tables import ORDER_ROW, Column, Table, fetch_one, sql_text
from components.sources.unpack import PlainFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_OBJECT_BYTES = 64 << 20
OBJECT = "object"
WRAPPERS = (
    "data",
    "orders",
    "results",
    "records",
    "rows",
    "value",
    "content",
    "response",
    "result",
)


def open_json(con: "DuckDBPyConnection", file: PlainFile) -> Table:
    """Raises SourceError for what is no list of objects."""
    scan = (
        f"(select json as {OBJECT} from read_json_objects({sql_text(str(file.path))}, "
        f"format='auto', compression='none', maximum_object_size={MAX_OBJECT_BYTES}))"
    )
    structure = _read_structure(con, scan, file)
    n_objects = fetch_one(con, f"select count(*) from {scan}")[0]
    if n_objects == 1 and (wrapped := _find_wrapped(structure)):
        elements = f"json_extract({OBJECT}, {_path(*wrapped)} || '[*]')"
        scan = f"(select unnest({elements}) as {OBJECT} from {scan})"
        for name in wrapped:
            structure = structure[name]
        structure = structure[0]  # type: ignore[index]
    columns: dict[str, Column] = {}
    lists: dict[str, str] = {}
    _add_fields(structure, (), OBJECT, "", scan, columns, lists)
    return Table(file.name, scan, columns, lists)


def _read_structure(con: "DuckDBPyConnection", scan: str, file: PlainFile) -> dict[str, Any]:
    import duckdb

    try:
        found = fetch_one(con, f"select json_group_structure({OBJECT}) from {scan}")[0]
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(
            f"{file.name}: no valid JSON ({reason}), expected an array of orders or one order a "
            "line; export it again"
        ) from None
    structure = json.loads(found or "null")
    if not isinstance(structure, dict):
        raise SourceError(
            f"{file.name}: JSON of {structure!r}, expected objects, one an order or a line; export "
            "it again"
        )
    return structure


def _find_wrapped(structure: dict[str, Any]) -> list[str]:
    """The path to the list of orders in the answer of an API, as in {"data": {"orders": […]}}."""
    for name, inner in structure.items():
        is_wrapper = name.casefold() in WRAPPERS or len(structure) == 1
        if is_wrapper and _is_list_of_objects(inner):
            return [name]
        if is_wrapper and isinstance(inner, dict) and (path := _find_wrapped(inner)):
            return [name, *path]
    return []


def _is_list_of_objects(structure: Any) -> bool:
    return isinstance(structure, list) and bool(structure) and isinstance(structure[0], dict)


def _add_fields(
    structure: dict[str, Any], path: tuple[str, ...], base: str, nested_in: str, scan: str,
    columns: dict[str, Column], lists: dict[str, str],
) -> None:  # fmt: skip
    for name, inner in structure.items():
        whole = (*path, name)
        label = ".".join([nested_in, *whole] if nested_in else whole)
        if isinstance(inner, dict):
            _add_fields(inner, whole, base, nested_in, scan, columns, lists)
        elif isinstance(inner, list) and inner and not nested_in:
            _add_list(inner[0], whole, label, scan, columns, lists)
        elif not isinstance(inner, list):
            columns[label] = Column(f"({base} ->> {_path(*whole)})", nested_in=nested_in)


def _add_list(
    element: Any, path: tuple[str, ...], label: str, scan: str,
    columns: dict[str, Column], lists: dict[str, str],
) -> None:  # fmt: skip
    elements = f"json_extract({OBJECT}, {_path(*path)} || '[*]')"
    numbered = f"(select {OBJECT}, row_number() over () as {ORDER_ROW} from {scan})"
    lists[label] = f"(select *, unnest({elements}) as {ELEMENT} from {numbered})"
    if isinstance(element, dict):
        _add_fields(element, (), ELEMENT, label, scan, columns, lists)
    elif isinstance(element, str):
        columns[label] = Column(f"({ELEMENT} ->> '$')", nested_in=label)


def _path(*names: str) -> str:
    return sql_text("$" + "".join(f'."{name}"' for name in names))
