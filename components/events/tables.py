"""Events and recommendations as tables."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import TypeVar

import pyarrow as pa

from components.contracts import EVENTS, RECOMMENDATIONS
from components.events.archive import find_day
from components.events.event import Event
from components.events.recommendation import Recommendation

Record = TypeVar("Record", Event, Recommendation)

UNUSABLE = (pa.ArrowException, ValueError, TypeError, OverflowError)
"""Errors of a value that no table holds, such as a lone surrogate. Such a record must not stop
all others for ever."""


def split_days(
    records: Iterable[Record], build: Callable[[Sequence[Record]], pa.Table]
) -> tuple[dict[date, pa.Table], int]:
    """A table for each day, and the number of records that fit into none."""
    days: dict[date, list[Record]] = defaultdict(list)
    n_unusable = 0
    for record in records:
        try:
            days[find_day(record.ts_us)].append(record)
        except UNUSABLE:
            n_unusable += 1
    built = {day: _build_usable(found, build) for day, found in days.items()}
    n_unusable += sum(n_left_out for _, n_left_out in built.values())
    return {day: table for day, (table, _) in built.items()}, n_unusable


def _build_usable(
    records: Sequence[Record], build: Callable[[Sequence[Record]], pa.Table]
) -> tuple[pa.Table, int]:
    whole = _try_build(records, build)
    if whole is not None:
        return whole, 0
    built = [_try_build([one], build) for one in records]
    usable: list[pa.Table] = [table for table in built if table is not None]
    return pa.concat_tables([build([]), *usable]), len(records) - len(usable)


def _try_build(
    records: Sequence[Record], build: Callable[[Sequence[Record]], pa.Table]
) -> pa.Table | None:
    try:
        return build(records)
    except UNUSABLE:
        return None


def build_events(events: Sequence[Event]) -> pa.Table:
    """A row for each product."""
    rows = [(event, item) for event in events for item in event.items]
    columns: dict[str, Sequence[object]] = {
        "event_id": [event.event_id for event, _ in rows],
        "event": [event.event for event, _ in rows],
        "ts": [event.ts_us for event, _ in rows],
        "received_at": [event.received_us for event, _ in rows],
        "session_id": [event.session_id for event, _ in rows],
        "request_id": [event.request_id for event, _ in rows],
        "order_id": [event.order_id for event, _ in rows],
        "product_id": [item.product_id for _, item in rows],
        "position": [item.position for _, item in rows],
        "quantity": [item.quantity for _, item in rows],
        "price": [item.price for _, item in rows],
    }
    return _build(columns, EVENTS)


def build_recommendations(records: Sequence[Recommendation]) -> pa.Table:
    names = ["ts" if name == "ts_us" else name for name in Recommendation._fields]
    columns: dict[str, Sequence[object]] = {
        name: [record[i] for record in records] for i, name in enumerate(names)
    }
    return _build(columns, RECOMMENDATIONS)


def _build(columns: Mapping[str, Sequence[object]], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    for array, field in zip(arrays, schema, strict=True):
        if array.null_count and not field.nullable:
            raise ValueError(f"{field.name}: null")
    return pa.table(arrays, schema=pa.schema(list(schema)))
