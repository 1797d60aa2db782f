"""Request bodies to try in the documentation, by their purpose."""

from collections.abc import Mapping
from typing import Any

Examples = Mapping[str, Mapping[str, Any]]

RECOMMEND: Examples = {
    "a product page": {"items": ["85123A"], "k": 4},
    "a cart, filtered and explained": {
        "items": ["85123A", "22423"],
        "k": 4,
        "filters": {"category": {"exclude": ["Toys"]}, "price": {"max": 20}, "in_stock": True},
        "explain": True,
    },
    "the checkout, few and sure": {"items": ["85123A"], "context": "checkout", "strict": True},
    "a brand new product": {
        "items": ["brand new"],
        "attributes": {"name": "Blue regency teacup", "category": "Kitchen", "price": 2.95},
    },
}

BATCH: Examples = {"two pages": {"requests": [{"items": ["85123A"]}, {"items": ["22423"]}]}}

SIMILAR: Examples = {
    "instead of a product": {"item": "85123A", "k": 4},
    "instead of a description": {"attributes": {"name": "Blue regency teacup"}},
}

CATALOGUE: Examples = {
    "out of stock": {"upsert": [{"product_id": "85123A", "in_stock": False}]},
    "a price and a deletion": {
        "upsert": [{"product_id": "85123A", "price": 2.75}],
        "delete": ["22423"],
    },
}

RULE: Examples = {
    "pin beside one product": {
        "action": "pin",
        "target": {"product_id": "22423"},
        "when": {"product_id": "85123A"},
        "position": 1,
        "ends_at": "2030-01-01T00:00:00Z",
        "note": "The cake stand beside the teacup, until stock is gone",
    },
    "block a brand": {"action": "block", "target": {"brand": "Recalled & Co"}},
    "bury a category": {"action": "bury", "target": {"category": "Gift wrap"}, "factor": 3},
    "the service's default": {"action": "set", "settings": {"max_own_kind": 2}},
    "many cards with a card": {
        "action": "exempt",
        "target": {"category": "Cards"},
        "when": {"category": "Cards"},
    },
}

EVENTS: Examples = {
    "an impression and a click": {
        "events": [
            {
                "event": "view_item_list",
                "event_id": "5e1f8c3a-1",
                "session_id": "s-83f1",
                "request_id": "7d0c5a9e0f6b4a7f8a52c7e1f0b3d911",
                "items": [{"item_id": "22423", "index": 0}, {"item_id": "22699", "index": 1}],
            },
            {
                "event": "select_item",
                "event_id": "5e1f8c3a-2",
                "session_id": "s-83f1",
                "request_id": "7d0c5a9e0f6b4a7f8a52c7e1f0b3d911",
                "items": [{"item_id": "22699", "index": 1}],
            },
        ]
    },
    "an order": {
        "events": [
            {
                "event": "purchase",
                "event_id": "5e1f8c3a-3",
                "session_id": "s-83f1",
                "order_id": "10042",
                "items": [{"item_id": "22699", "quantity": 2, "price": 2.95}],
            }
        ]
    },
}
