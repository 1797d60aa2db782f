"""fbt's own format, which EventBatch describes, with GA4's names as synonyms."""

from collections.abc import Mapping
from typing import Any

from bento.events.sent_batch import SentBatch, find_list
from bento.schemas.events import MAX_EVENTS, EventBatch, SentEvent, SentItem
from components.events.event import EVENT_NAMES

SYNONYMS = {"name": "event", "item_list_id": "request_id", "transaction_id": "order_id"}
KNOWN = SentEvent.model_fields.keys() | SYNONYMS.keys()
ITEM_FIELDS = SentItem.model_fields.keys()


def read_native(body: Mapping[str, Any]) -> SentBatch:
    """Raises BodyError."""
    events = find_list(body, "events", MAX_EVENTS)
    n_ignored = len(body.keys() - EventBatch.model_fields.keys())
    sent: list[dict[str, Any] | None] = []
    for event in events:
        if not isinstance(event, dict):
            sent.append({"event": event})
            continue
        for synonym, ours in SYNONYMS.items():
            if synonym in event and event.get(ours) is None:
                event[ours] = event[synonym]
        name = event.get("event")
        if isinstance(name, str) and name not in EVENT_NAMES:
            sent.append(None)
            continue
        n_ignored += count_unknown(event)
        sent.append(event)
    return SentBatch(sent, body.get("sent_at"), n_ignored)


def count_unknown(event: dict[str, Any]) -> int:
    n = len(event.keys() - KNOWN)
    items = event.get("items")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            n += len(item.keys() - ITEM_FIELDS)
    return n
