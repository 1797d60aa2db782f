"""Actions of shoppers, in the words of Google Analytics 4's e-commerce events."""

import hashlib
import json
from typing import Any, Literal, NamedTuple, Self, get_args

EventName = Literal["view_item_list", "select_item", "add_to_cart", "purchase"]
"""An impression of products, a click, products put into the cart, an order."""

EVENT_NAMES: tuple[EventName, ...] = get_args(EventName)


class EventItem(NamedTuple):
    """Stored as an array; a later release may add fields at its end."""

    product_id: str
    position: int | None = None
    """From 0, within the list of recommendations."""
    quantity: float | None = None
    price: float | None = None
    """Per unit, in the shop's currency."""


class Event(NamedTuple):
    """An accepted event. Nothing else of what a shop sends is stored.

    It is stored as an array in this order of fields; a later release may add some at its end.
    """

    event_id: str
    event: EventName
    ts_us: int
    """When it happened: microseconds since 1970, by our clock (see `sent_at`)."""
    received_us: int
    session_id: str | None
    request_id: str | None
    """Of the answer that was shown."""
    order_id: str | None
    """Of a purchase."""
    items: tuple[EventItem, ...]

    @property
    def digest(self) -> bytes:
        """16 bytes that tell events with one id apart; times differ when a client sends again."""
        told = [self.event, self.session_id, self.request_id, self.order_id, self.items]
        return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).digest()

    def to_json(self) -> str:
        return json.dumps(self, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Fields that a newer release has added are left out."""
        *fields, items = json.loads(text)[:N_FIELDS]
        return cls._make((*fields, tuple(EventItem(*one[:N_ITEM_FIELDS]) for one in items)))


N_FIELDS, N_ITEM_FIELDS = len(Event._fields), len(EventItem._fields)


def to_fields(event: Event) -> dict[str, Any]:
    """As a JSON object with names."""
    return event._asdict() | {"items": [item._asdict() for item in event.items]}
