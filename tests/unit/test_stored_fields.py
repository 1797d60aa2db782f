"""Fields of what releases have stored: they stay, in this order; later ones come after them."""

import pyarrow as pa
import pytest

from components.contracts import EVENTS, LATER, RECOMMENDATIONS
from components.events.event import Event, EventItem
from components.events.recommendation import Recommendation

EVENT = "event_id event ts_us received_us session_id request_id order_id items"
ITEM = "product_id position quantity price"
RECOMMENDATION = """request_id ts_us session_id endpoint context model_version arm experiment share
asked items sources rules swapped swap_drawn teams drawn_pair rule_ids"""
EVENT_COLUMNS = """event_id event ts received_at session_id request_id order_id product_id position
quantity price"""


@pytest.mark.parametrize(
    ("record", "fields"),
    [(Event, EVENT), (EventItem, ITEM), (Recommendation, RECOMMENDATION)],
    ids=["event", "item", "recommendation"],
)
def test_records_only_grow_at_their_end(record, fields):
    released = fields.split()
    assert list(record._fields[: len(released)]) == released
    assert set(record._fields[len(released) :]) <= set(record._field_defaults)


@pytest.mark.parametrize(
    ("schema", "columns"),
    [(EVENTS, EVENT_COLUMNS), (RECOMMENDATIONS, RECOMMENDATION.replace("ts_us", "ts"))],
    ids=["events", "recommendations"],
)
def test_columns_only_grow_by_later_ones(schema: pa.Schema, columns):
    released = columns.split()
    assert schema.names[: len(released)] == released
    later = [schema.field(name) for name in schema.names[len(released) :]]
    assert all(field.nullable and LATER.items() <= decode(field).items() for field in later)


def decode(field):
    return {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
