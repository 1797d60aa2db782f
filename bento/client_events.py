"""Events for `Client.send_events`: what a shopper saw, clicked, put into the cart, and bought.

Each gets a new id and the time of now, so that sending it again does no harm. `request_id` is that
of the answer that was shown.
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple


class Bought(NamedTuple):
    product_id: str
    quantity: float = 1
    price: float | None = None
    """Per unit, in the shop's currency."""


def impression(
    products: Sequence[str], *, session_id: str, request_id: str, first: int = 0
) -> dict[str, Any]:
    """Products that were in the viewport; the position of the `first` in the answer is from 0."""
    items = [{"item_id": one, "index": first + place} for place, one in enumerate(products)]
    return build_event("view_item_list", items, session_id, request_id=request_id)


def click(product: str, index: int, *, session_id: str, request_id: str) -> dict[str, Any]:
    """`index` is its position in the answer, from 0."""
    items = [{"item_id": product, "index": index}]
    return build_event("select_item", items, session_id, request_id=request_id)


def add_to_cart(
    bought: Bought, *, session_id: str, request_id: str | None = None
) -> dict[str, Any]:
    return build_event("add_to_cart", [to_item(bought)], session_id, request_id=request_id)


def purchase(order_id: str, bought: Iterable[Bought], *, session_id: str | None) -> dict[str, Any]:
    return build_event("purchase", list(map(to_item, bought)), session_id, order_id=order_id)


def to_item(bought: Bought) -> dict[str, Any]:
    item = {"item_id": bought.product_id, "quantity": bought.quantity}
    return item if bought.price is None else {**item, "price": bought.price}


def build_event(
    name: str, items: list[dict[str, Any]], session_id: str | None, **more: str | None
) -> dict[str, Any]:
    return {
        "event": name,
        "event_id": uuid.uuid4().hex,
        "timestamp": datetime.now(UTC).isoformat(),
        "session_id": session_id,
        "items": items,
        **{field: value for field, value in more.items() if value is not None},
    }
