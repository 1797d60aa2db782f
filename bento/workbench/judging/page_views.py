"""How often product pages were looked at, by the recommendation log."""

import time
from collections import Counter

from components.events.open import open_sink
from components.events.sink import SinkUnavailable

MAX_SECONDS = 5.0
"""A sink that was never compacted holds years; a part of them orders the queue as well."""


def count_views(url: str | None) -> dict[str, int]:
    """By product id; empty where there is no log, or it does not answer."""
    if url in (None, "", "off"):
        return {}
    views: Counter[str] = Counter()
    deadline = time.monotonic() + MAX_SECONDS
    try:
        sink = open_sink(url)
        try:
            position, is_last = "", False
            while not is_last and time.monotonic() < deadline:
                batch = sink.read(position)
                views.update(
                    one.asked[-1]
                    for one in batch.recommendations
                    if one.context == "product_page" and one.asked
                )
                position, is_last = batch.position, batch.is_last
        finally:
            sink.close()
    except (SinkUnavailable, ValueError):
        return dict(views)
    return dict(views)
