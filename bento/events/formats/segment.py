"""Track calls of Segment's e-commerce specification v2, which RudderStack and PostHog share.

https://segment.com/docs/connections/spec/ecommerce/v2/
"""

from collections.abc import Mapping
from typing import Any

from bento.events.sent_batch import SentBatch, find_list
from bento.schemas.events import MAX_EVENTS

EVENTS = {
    "product list viewed": "view_item_list",
    "product clicked": "select_item",
    "product added": "add_to_cart",
    "order completed": "purchase",
}
"""Names in lower case: SDKs differ."""

LISTS = ("view_item_list", "purchase")
"""Their products are in `properties.products`; of other events, the properties are the product."""

NAMES = {
    "event_id": "messageId",
    "session_id": "anonymousId",
    "request_id": "properties.list_id",
    "order_id": "properties.order_id",
    "items": "properties.products",
    "item_id": "product_id",
    "index": "position",
}

ITEM_FIELDS = {
    "product_id": "item_id",
    "position": "index",
    "quantity": "quantity",
    "price": "price",
}
BATCH_FIELDS = frozenset({"batch", "sentAt", "writeKey"})
CALL_FIELDS = frozenset(
    {"type", "event", "messageId", "anonymousId", "timestamp", "originalTimestamp", "sentAt"}
    | {"receivedAt", "properties", "writeKey"}
)
PROPERTIES = frozenset({"session_id", "request_id", "list_id", "order_id", "products"})


def read_segment(body: Mapping[str, Any]) -> SentBatch:
    """Raises BodyError."""
    is_batch = "batch" in body
    calls = find_list(body, "batch", MAX_EVENTS) if is_batch else [body]
    n_ignored = len(body.keys() - BATCH_FIELDS) if is_batch else 0
    sent: list[dict[str, Any] | None] = []
    for call in calls:
        if not isinstance(call, dict):
            sent.append({"event": call})
            continue
        name = find_event(call)
        if name is None:
            sent.append(None)
            continue
        properties = call.get("properties")
        if not isinstance(properties, dict):
            properties = {}
        products = properties.get("products") if name in LISTS else [properties]
        n_ignored += count_unknown(call, properties, products, name)
        sent.append(to_native(name, call, properties, products))
    # Segment itself corrects what it passes on, and says when it received it.
    passed_on = any(isinstance(call, dict) and "receivedAt" in call for call in calls)
    return SentBatch(sent, None if passed_on else body.get("sentAt"), n_ignored, NAMES)


def find_event(call: Mapping[str, Any]) -> str | None:
    """GA4's name; None for what fbt does not store."""
    if call.get("type", "track") != "track":
        return None
    return EVENTS.get(str(call.get("event", "")).lower())


def to_native(
    name: str, call: Mapping[str, Any], properties: Mapping[str, Any], products: Any
) -> dict[str, Any]:
    return {
        "event": name,
        "event_id": call.get("messageId"),
        "timestamp": call.get("timestamp") or call.get("originalTimestamp"),
        "session_id": properties.get("session_id") or call.get("anonymousId"),
        "request_id": properties.get("request_id") or properties.get("list_id"),
        "order_id": properties.get("order_id"),
        "items": [to_item(product) for product in products]
        if isinstance(products, list)
        else products,
    }


def to_item(product: Any) -> Any:
    if not isinstance(product, dict):
        return product
    return {ours: product[name] for name, ours in ITEM_FIELDS.items() if name in product}


def count_unknown(
    call: Mapping[str, Any], properties: Mapping[str, Any], products: Any, name: str
) -> int:
    n = len(call.keys() - CALL_FIELDS)
    n += len(properties.keys() - PROPERTIES - (set() if name in LISTS else ITEM_FIELDS.keys()))
    if name in LISTS and isinstance(products, list):
        n += sum(len(one.keys() - ITEM_FIELDS.keys()) for one in products if isinstance(one, dict))
    return n
