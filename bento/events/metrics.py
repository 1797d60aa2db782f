"""Prometheus metrics of events."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from bento.http.metrics import BufferedCounter
from components.events.event import EVENT_NAMES, Event
from components.events.sink import Outcome

OTHER = "other"
"""Label of refused events whose name is unknown: names come from clients."""

REFUSED = "refused"
OUTCOMES = (*(outcome.value for outcome in Outcome), REFUSED)


class EventMetrics:
    def __init__(self, read_fill: Callable[[], float]) -> None:
        import prometheus_client

        self._read_fill = read_fill
        self._received = prometheus_client.Counter(
            "fbt_events_received_total", "Events, by what became of them.", ["event", "outcome"]
        )
        self._ignored = prometheus_client.Counter(
            "fbt_events_ignored_total", "Events of other names, and unknown fields.", ["reason"]
        )
        self._dropped = prometheus_client.Counter(
            "fbt_log_dropped_total",
            "Answers that the recommendation log lost, as the queue was full.",
        )
        self._fill = prometheus_client.Gauge(
            "fbt_events_queue_fill",
            "Fullness of the queue in front of the sink, 0 to 1.",
            multiprocess_mode="livemax",
        )
        self._buffers: list[BufferedCounter] = []
        self._get_received = functools.cache(self._create_received)
        self._events, self._fields = map(self._create_ignored, ("event", "field"))
        for name in EVENT_NAMES:
            for outcome in OUTCOMES:
                self._get_received(name, outcome)
        self._get_received(OTHER, REFUSED)

    def count_outcomes(self, events: Iterable[Event], outcomes: Iterable[Outcome]) -> None:
        for event, outcome in zip(events, outcomes, strict=True):
            self._get_received(event.event, outcome.value).n += 1

    def count_refused(self, name: object) -> None:
        known = name if isinstance(name, str) and name in EVENT_NAMES else OTHER
        self._get_received(known, REFUSED).n += 1

    def count_ignored(self, n_events: int, n_fields: int) -> None:
        self._events.n += n_events
        self._fields.n += n_fields

    def count_unlogged(self, n: int) -> None:
        """From any thread."""
        self._dropped.inc(n)

    def flush(self) -> None:
        for buffer in self._buffers:
            buffer.flush()
        self._fill.set(self._read_fill())

    def _create_received(self, event: str, outcome: str) -> BufferedCounter:
        return self._buffer(self._received.labels(event, outcome))

    def _create_ignored(self, reason: str) -> BufferedCounter:
        return self._buffer(self._ignored.labels(reason))

    def _buffer(self, counter: Any) -> BufferedCounter:
        self._buffers.append(buffer := BufferedCounter(counter))
        return buffer
