"""Made-up shoppers, for what is counted while they shop."""

import json
import random
from collections.abc import Iterable, Iterator

from components.events.event import Event, EventItem
from components.events.recommendation import Recommendation
from components.events.sink import Sink

MINUTE_US = 60_000_000
START_US = 1_700_000_000_000_000 // 3_600_000_000 * 3_600_000_000
"""A full hour."""

Record = Recommendation | Event


def make_list(
    request_id: str,
    *,
    ts_us: int = START_US,
    session_id: str | None = "ada",
    model_version: str = "1",
    arm: str = "default",
    items: tuple[str, ...] = ("milk", "sugar", "honey"),
) -> Recommendation:
    return Recommendation(
        request_id, ts_us, session_id, "recommend", "product_page", model_version, arm, None, 1.0,
        ["tea"], list(items), ["model"] * len(items), [],
    )  # fmt: skip


def make_event(
    event: str,
    *items: str,
    request_id: str | None = None,
    session_id: str | None = "ada",
    ts_us: int = START_US + MINUTE_US,
    received_us: int | None = None,
    event_id: str = "",
) -> Event:
    return Event(
        event_id or f"{event}-{request_id}-{session_id}-{ts_us}-{'-'.join(items)}",
        event,  # type: ignore[arg-type]
        ts_us,
        ts_us if received_us is None else received_us,
        session_id,
        request_id,
        "order" if event == "purchase" else None,
        tuple(map(EventItem, items)),
    )


def split(records: Iterable[Record]) -> tuple[list[Recommendation], list[Event]]:
    both = list(records)
    lists = [one for one in both if isinstance(one, Recommendation)]
    return lists, [one for one in both if isinstance(one, Event)]


def shop(
    version: str,
    n: int,
    click_rate: float,
    *,
    start_us: int = START_US,
    minutes: float = 60,
    seed: int = 0,
    arm: str = "default",
) -> Iterator[Record]:
    """`n` sessions, evenly over the time, of one to four lists each; a list is clicked with this
    probability, and a fifth of the clicks go into the cart."""
    chance = random.Random(f"{seed}-{version}-{arm}")
    for i in range(n):
        session = f"{seed}-{version}-{arm}-{i}"
        first_us = start_us + int(i / n * minutes * MINUTE_US)
        for j in range(chance.randint(1, 4)):
            request, ts_us = f"{session}-{j}", first_us + j * MINUTE_US
            yield make_list(
                request, ts_us=ts_us, session_id=session, model_version=version, arm=arm
            )
            told = {"request_id": request, "session_id": session, "ts_us": ts_us + 1_000_000}
            yield make_event("view_item_list", "milk", "sugar", **told)
            if chance.random() < click_rate:
                yield make_event("select_item", "milk", **told)
                if chance.random() < 0.2:
                    told["request_id"] = None
                    yield make_event("add_to_cart", "milk", **told)


def by_time(record: Record) -> int:
    return record.ts_us


def write(sink: Sink, records: Iterable[Record]) -> None:
    lists, events = split(records)
    for i in range(0, len(lists), 500):
        block = lists[i : i + 500]
        sink.write_recommendations(json.dumps(block).encode(), len(block))
    for i in range(0, len(events), 1000):
        sink.write_events(events[i : i + 1000])
