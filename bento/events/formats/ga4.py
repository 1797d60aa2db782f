"""Bodies of Google Analytics 4's Measurement Protocol.

https://developers.google.com/analytics/devguides/collection/protocol/ga4/reference
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from bento.events.sent_batch import SentBatch, find_list
from bento.schemas.events import MAX_EVENTS, SentItem
from components.events.event import EVENT_NAMES

NAMES = {
    "event": "name",
    "timestamp": "timestamp_micros",
    "session_id": "params.session_id",
    "request_id": "params.item_list_id",
    "order_id": "params.transaction_id",
    "items": "params.items",
}

BODY_FIELDS = frozenset({"client_id", "app_instance_id", "timestamp_micros", "events"})
EVENT_FIELDS = frozenset({"name", "params", "timestamp_micros"})
PARAMS = frozenset(
    {"event_id", "session_id", "request_id", "item_list_id", "transaction_id", "items"}
)
ITEM_FIELDS = SentItem.model_fields.keys() | {"item_list_id"}


def read_ga4(body: Mapping[str, Any]) -> SentBatch:
    """Raises BodyError."""
    events = find_list(body, "events", MAX_EVENTS)
    client = body.get("client_id") or body.get("app_instance_id")
    n_ignored = len(body.keys() - BODY_FIELDS)
    sent: list[dict[str, Any] | None] = []
    for event in events:
        name = event.get("name") if isinstance(event, dict) else None
        if isinstance(name, str) and name not in EVENT_NAMES:
            sent.append(None)
            continue
        if not isinstance(event, dict):
            sent.append({"event": event})
            continue
        params = event.get("params")
        if not isinstance(params, dict):
            params = {}
        n_ignored += len(event.keys() - EVENT_FIELDS) + len(params.keys() - PARAMS)
        n_ignored += count_unknown(params.get("items"))
        timestamp = event.get("timestamp_micros", body.get("timestamp_micros"))
        sent.append(to_native(name, params, client, timestamp))
    return SentBatch(sent, None, n_ignored, NAMES)


def to_native(name: Any, params: dict[str, Any], client: Any, timestamp: Any) -> dict[str, Any]:
    items = params.get("items")
    return {
        "event": name,
        "event_id": params.get("event_id") or make_event_id(name, params, client, timestamp),
        "timestamp": timestamp,
        "session_id": find_session(params.get("session_id"), client),
        "request_id": params.get("request_id")
        or params.get("item_list_id")
        or find_list_of_items(items),
        "order_id": params.get("transaction_id"),
        "items": items,
    }


def make_event_id(name: Any, params: dict[str, Any], client: Any, timestamp: Any) -> str:
    """The same whenever the same event is sent again: the protocol has no ids of events."""
    told = json.dumps([client, name, timestamp, params], sort_keys=True)
    return "ga4-" + hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def find_session(session_id: Any, client: Any) -> Any:
    """GA4's own session ids are times of a start, which shoppers share: they need the client."""
    if session_id is None or session_id == "":
        return client
    is_time = isinstance(session_id, int | float) or str(session_id).isdigit()
    return f"{client}.{session_id}" if is_time and client else session_id


def find_list_of_items(items: Any) -> Any:
    """The list that all items of an event name, if it is one."""
    if not isinstance(items, list):
        return None
    lists = {str(item.get("item_list_id") or "") for item in items if isinstance(item, dict)}
    return (lists.pop() or None) if len(lists) == 1 else None


def count_unknown(items: Any) -> int:
    if not isinstance(items, list):
        return 0
    return sum(len(item.keys() - ITEM_FIELDS) for item in items if isinstance(item, dict))
