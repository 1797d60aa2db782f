"""Schemas of the tables between steps, and the one way to read and write them.

A table is a Parquet file or a folder of parts, with all columns of its schema.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.model.atomic import atomic_write

if TYPE_CHECKING:
    import pyarrow.dataset as ds

ORDER_LINES = pa.schema(
    [
        pa.field("order_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("ts", pa.timestamp("us", tz="UTC")),
        pa.field("position", pa.int32()),
        pa.field("quantity", pa.float64(), nullable=False),
        pa.field("price", pa.float64()),
    ],
    metadata={"name": "order_lines"},
)
"""`price` is per unit, in the shop's currency; `position` counts from 0."""

QUARANTINE = pa.schema(
    [pa.field(field.name, pa.string()) for field in ORDER_LINES]
    + [pa.field("reason", pa.string(), nullable=False)],
    metadata={"name": "quarantine"},
)
"""Rejected order lines as raw text, with the reason."""

PRODUCTS = pa.schema(
    [
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("category", pa.string()),
        pa.field("brand", pa.string()),
        pa.field("price", pa.float64()),
        pa.field("image_url", pa.string()),
        pa.field("in_stock", pa.bool_()),
        pa.field("margin", pa.float64()),
        pa.field("added_at", pa.timestamp("us", tz="UTC")),
        pa.field("attributes", pa.string()),
    ],
    metadata={"name": "products"},
)
"""`price` and `margin` are per unit, in the shop's currency; `attributes` is a JSON object of
texts: all other columns of the shop."""

BASKETS = pa.schema(
    [
        pa.field("order_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("ts", pa.timestamp("us", tz="UTC")),
        pa.field("items", pa.list_(pa.string()), nullable=False),
        pa.field("positions", pa.list_(pa.int32())),
        pa.field("weight", pa.float32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ],
    metadata={"name": "baskets"},
)
"""Orders as sets of products. `weight` is 1 for the newest; `split` is one of SPLITS."""

COMPANIONS = pa.schema(
    [
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("companion_id", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("support", pa.float64()),
        pa.field("lift", pa.float64()),
        pa.field("confidence", pa.float64()),
    ],
    metadata={"name": "companions"},
)
"""Recommendations of the service, `rank` from 1; `score` is null for products from a rule."""

LATER = {"later": "yes"}
"""Of a field that files of earlier releases lack: it is read as null."""

EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("ts", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("received_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("session_id", pa.string()),
        pa.field("request_id", pa.string()),
        pa.field("order_id", pa.string()),
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("position", pa.int32()),
        pa.field("quantity", pa.float64()),
        pa.field("price", pa.float64()),
    ],
    metadata={"name": "events"},
)
"""One row for each product of an event, in folders `events/day=2026-11-29` by `ts` (UTC); see
`components.events.event`."""

RECOMMENDATIONS = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("ts", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("session_id", pa.string()),
        pa.field("endpoint", pa.string(), nullable=False),
        pa.field("context", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("experiment", pa.string()),
        pa.field("share", pa.float64(), nullable=False),
        pa.field("asked", pa.list_(pa.string()), nullable=False),
        pa.field("items", pa.list_(pa.string()), nullable=False),
        pa.field("sources", pa.list_(pa.string()), nullable=False),
        pa.field("rules", pa.list_(pa.string()), nullable=False),
        pa.field("swapped", pa.int32()),
        pa.field("swap_drawn", pa.bool_(), nullable=False),
        pa.field("teams", pa.list_(pa.string())),
        pa.field("drawn_pair", pa.int32()),
        pa.field("rule_ids", pa.list_(pa.list_(pa.string())), metadata=LATER),
    ],
    metadata={"name": "recommendations"},
)
"""One row for each logged answer, in folders `recommendations/day=2026-11-29`; see
`components.events.recommendation`."""

SESSIONS = pa.schema(
    [
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("experiment", pa.string()),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("first_ts", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("is_seen", pa.bool_(), nullable=False),
        pa.field("lists", pa.float64(), nullable=False),
        pa.field("impressions", pa.float64(), nullable=False),
        pa.field("clicks", pa.float64(), nullable=False),
        pa.field("adds", pa.float64(), nullable=False),
        pa.field("purchases", pa.float64(), nullable=False),
        pa.field("revenue", pa.float64(), nullable=False),
        pa.field("orders", pa.float64(), nullable=False),
        pa.field("attached_orders", pa.float64(), nullable=False),
        pa.field("order_value", pa.float64(), nullable=False),
        pa.field("earlier_orders", pa.float64(), nullable=False),
        pa.field("earlier_order_value", pa.float64(), nullable=False),
        pa.field("earlier_clicks", pa.float64(), nullable=False),
    ],
    metadata={"name": "sessions"},
)
"""Lists and actions of a session under one version and arm. `clicks`, `adds`, `purchases` and
`revenue` count recommended products; `orders` and `order_value` all that it bought after
`first_ts`, its first list; `attached_orders` hold a recommended product that was seen. All of them
end with the window (24 hours unless another is given); `earlier_…` is before it. `is_seen` is
false where no list was in the viewport."""

FEEDBACK = pa.schema(
    [
        pa.field("day", pa.date32(), nullable=False),
        pa.field("context", pa.string(), nullable=False),
        pa.field("asked", pa.list_(pa.string()), nullable=False),
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("impressions", pa.float64(), nullable=False),
        pa.field("clicks", pa.float64(), nullable=False),
        pa.field("adds", pa.float64(), nullable=False),
        pa.field("purchases", pa.float64(), nullable=False),
        pa.field("examined", pa.float64(), nullable=False),
        pa.field("positive", pa.float64(), nullable=False),
    ],
    metadata={"name": "feedback"},
)
"""A recommended product that was seen, by the products asked for and the day (UTC) of the list.
`examined` are impressions by the propensity of their place, `positive` outcomes by worth, both
weighted by age; see `components.feedback.examples`. Nothing tells sessions apart."""

SPLITS = ("train", "validation", "test")


class ContractError(ValueError):
    """A table does not have its schema."""


def table_name(schema: pa.Schema) -> str:
    return str(schema.metadata[b"name"].decode())


def open_table(path: str | Path, schema: pa.Schema) -> "ds.Dataset":
    """A lazy dataset with checked columns; raises ContractError."""
    import pyarrow.dataset as ds  # imports pandas, which the service does not need

    path = Path(path)
    name = table_name(schema)
    if not path.exists():
        raise ContractError(f"{name}: nothing found at {path}; run the step that writes it first")
    parts = [path] if path.is_file() else sorted(path.glob("**/*.parquet"))
    if not parts:
        raise ContractError(f"{name}: {path} holds no Parquet file; the step that writes it failed")
    dataset = ds.dataset([str(part) for part in parts], format="parquet")
    _check_columns(dataset.schema, schema, path)
    return dataset.replace_schema(add_later_fields(dataset.schema, schema))


def add_later_fields(found: pa.Schema, schema: pa.Schema) -> pa.Schema:
    """With those that files of earlier releases lack."""
    later = [field for field in schema if _is_later(field) and field.name not in found.names]
    return pa.schema([*found, *later], found.metadata)


def _is_later(field: pa.Field) -> bool:
    return bool(field.metadata) and b"later" in field.metadata


def _check_columns(found_schema: pa.Schema, schema: pa.Schema, path: Path) -> None:
    name = table_name(schema)
    found = {field.name: field.type for field in found_schema}
    for field in schema:
        if field.name not in found and _is_later(field):
            continue
        if field.name not in found:
            raise ContractError(
                f"{name}: column {field.name!r} is missing in {path}; found {sorted(found)}, "
                f"expected {schema.names}; run the step that writes it again"
            )
        if not _is_readable_as(found[field.name], field.type):
            raise ContractError(
                f"{name}: column {field.name!r} in {path} has type {found[field.name]}, "
                f"expected {field.type}; map or cast it in the step that writes the table"
            )


def read_table(path: str | Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """The table cast to `schema`, checked for columns, types and nulls; raises ContractError."""
    wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
    table = open_table(path, schema).to_table(columns=wanted.names)
    _check_nulls(table, wanted, table_name(schema))
    return pa.table(
        [table.column(field.name).cast(field.type) for field in wanted], names=wanted.names
    )


def write_table(table: pa.Table, schema: pa.Schema, path: str | Path) -> None:
    """Write atomically; raises ContractError for other columns or forbidden nulls."""
    name = table_name(schema)
    if table.column_names != schema.names:
        raise ContractError(
            f"{name}: cannot write columns {table.column_names}, expected {schema.names}; select "
            "them in this order"
        )
    _check_nulls(table, schema, name)
    with atomic_write(path) as aside:
        pq.write_table(table.cast(pa.schema(list(schema))), aside)


def _is_readable_as(found: pa.DataType, expected: pa.DataType) -> bool:
    if pa.types.is_list(expected):
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        return bool(is_list and _is_readable_as(found.value_type, expected.value_type))
    if pa.types.is_string(expected):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    if pa.types.is_timestamp(expected):
        return bool(pa.types.is_timestamp(found) and found.tz is not None)
    return bool(found == expected)


def _check_nulls(table: pa.Table, schema: pa.Schema, name: str) -> None:
    for field in schema:
        column = table.column(field.name)
        if not field.nullable and column.null_count:
            first = pc.index(pc.is_null(column), pa.scalar(True)).as_py()
            raise ContractError(
                f"{name}: column {field.name!r} holds {column.null_count} nulls "
                f"(first in row {first}), expected none; quarantine such rows before writing"
            )
