"""Checks what was sent, event by event: good ones are kept, whatever the others are."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from bento.events.sent_batch import BodyError, SentBatch
from bento.events.times import TimeError, parse_time
from bento.schemas.events import RefusedEvent, SentEvent
from bento.schemas.problems import FieldError, field_errors, shorten
from components.events.event import Event, EventItem

HOUR_US = 3_600_000_000
MAX_AHEAD_US = HOUR_US
"""Clocks that are not corrected by `sent_at` may be an hour fast."""

MAX_ERRORS_PER_EVENT = 5


class Clock(NamedTuple):
    """Moments in microseconds since 1970."""

    received_us: int
    oldest_us: int
    newest_us: int
    shift_us: int
    """Added to a client's times."""

    @classmethod
    def set_by(cls, sent_at: Any, received_us: int, max_age_h: float) -> "Clock":
        """A client's clock that is wrong by more than `max_age_h` is not corrected: the body was
        rather kept and sent late. Raises BodyError for a `sent_at` that is no moment."""
        max_age_us = round(max_age_h * HOUR_US)
        shift_us = 0
        if sent_at is not None:
            try:
                shift_us = received_us - parse_time(sent_at)
            except TimeError as error:
                raise BodyError("sent_at", show(sent_at), str(error)) from None
        if abs(shift_us) > max_age_us:
            shift_us = 0
        return cls(received_us, received_us - max_age_us, received_us + MAX_AHEAD_US, shift_us)


class CheckedBatch(NamedTuple):
    events: list[Event]
    refused: list[RefusedEvent]


class EventError(ValueError):
    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__(field)
        self.error = FieldError(field=field, found=found, expected=expected)


def check_events(
    batch: SentBatch, index_base: int, clock: Clock, start: int, end: int
) -> CheckedBatch:
    """Those from `start` to `end`."""
    events: list[Event] = []
    refused: list[RefusedEvent] = []
    for place, sent in enumerate(batch.events[start:end], start):
        if sent is None:
            continue
        try:
            events.append(to_event(SentEvent.model_validate(sent), index_base, clock))
        except ValidationError as error:
            errors = field_errors(error, SentEvent)[:MAX_ERRORS_PER_EVENT]
            refused.append(refuse(place, sent, errors, batch.names))
        except EventError as error:
            refused.append(refuse(place, sent, [error.error], batch.names))
    return CheckedBatch(events, refused)


def to_event(sent: SentEvent, index_base: int, clock: Clock) -> Event:
    """Raises EventError."""
    if sent.event == "purchase" and sent.order_id is None:
        raise EventError("order_id", "nothing", "the order's id, as it is a purchase")
    items = tuple(
        [
            EventItem(
                item.item_id,
                None if item.index is None else item.index - index_base,
                item.quantity,
                item.price,
            )
            for item in sent.items
        ]
    )
    if index_base:
        check_positions(items)
    return Event(
        sent.event_id,
        sent.event,
        find_moment(sent.timestamp, clock),
        clock.received_us,
        sent.session_id,
        sent.request_id,
        sent.order_id if sent.event == "purchase" else None,
        items,
    )


def check_positions(items: tuple[EventItem, ...]) -> None:
    for place, item in enumerate(items):
        if item.position is not None and item.position < 0:
            raise EventError(f"items.{place}.index", "0", "1 or more: index_base is 1")


def find_moment(timestamp: Any, clock: Clock) -> int:
    """Raises EventError."""
    if timestamp is None:
        return clock.received_us
    try:
        ts_us = parse_time(timestamp) + clock.shift_us
    except TimeError as error:
        raise EventError("timestamp", show(timestamp), str(error)) from None
    if ts_us < clock.oldest_us:
        hours = round((clock.received_us - clock.oldest_us) / HOUR_US)
        raise EventError("timestamp", show(timestamp), f"at most {hours} hours ago")
    if ts_us > clock.newest_us:
        raise EventError("timestamp", show(timestamp), "at most an hour in the future")
    return ts_us


def refuse(
    place: int, sent: Mapping[str, Any], errors: list[FieldError], names: Mapping[str, str]
) -> RefusedEvent:
    event_id = sent.get("event_id")
    shown = shorten(str(event_id)) if isinstance(event_id, str | int) else None
    if names:
        errors = [
            error.model_copy(update={"field": rename(error.field, names)}) for error in errors
        ]
    return RefusedEvent(index=place, event_id=shown, errors=errors)


def rename(field: str, names: Mapping[str, str]) -> str:
    return ".".join(names.get(part, part) for part in field.split("."))


def show(value: Any) -> str:
    return shorten(json.dumps(value, ensure_ascii=False, default=str))
