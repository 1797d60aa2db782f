"""Both kinds of records of a sink at one pace, from the beginning to its moving end."""

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from components.events.event import Event
from components.events.recommendation import Recommendation
from components.events.sink import Batch, Sink

DISORDER = 100_000
"""Records of a kind, within which all that came at one time are read. Kafka gives a megabyte of one
partition, then of the next: some 4,000 events each."""


class Part(NamedTuple):
    lists: Sequence[Recommendation]
    events: Sequence[Event]
    until_us: int
    """Everything that was received before has been read."""
    is_last: bool


class Pace:
    """How far one kind has been read: the oldest of its last records."""

    def __init__(self, disorder: int) -> None:
        self._disorder = disorder
        self._oldest: deque[tuple[float, int]] = deque()
        """Time and number of records, of each read."""
        self._n = 0
        self.position = ""
        self.is_at_end = False

    @property
    def until_us(self) -> float:
        """Infinite at the end; 0 while too little was read to know."""
        if self.is_at_end:
            return math.inf
        return min(self._oldest)[0] if self._n >= max(self._disorder, 1) else 0.0

    def add(self, times_us: Sequence[int], batch: Batch) -> None:
        self.position, self.is_at_end = batch.position, batch.is_last
        if times_us:
            self._oldest.append((min(times_us), len(times_us)))
            self._n += len(times_us)
        while self._oldest and self._n - self._oldest[0][1] >= max(self._disorder, 1):
            self._n -= self._oldest.popleft()[1]


class Follower:
    """A sink's reads go on by number in each kind: where a list has ten events, the newest of a
    hundred reads are lists of today and events of last week. Until the end is reached once, each
    kind is read from a position of its own, that which lags behind first."""

    def __init__(self, limit: int = 10_000, disorder: int = DISORDER) -> None:
        """`limit` is that of one read."""
        self._limit = limit
        self._lists, self._events = Pace(disorder), Pace(disorder)
        self._has_caught_up = False
        self._reached_us = 0

    def read(self, sink: Sink, now_us: int) -> Part:
        """Raises SinkUnavailable."""
        if self._has_caught_up:
            return self._read_both(sink, now_us)
        if self._lists.until_us <= self._events.until_us:
            return self._read_lists(sink, now_us)
        return self._read_events(sink, now_us)

    def _read_both(self, sink: Sink, now_us: int) -> Part:
        batch = sink.read(self._events.position, self._limit)
        self._events.add([one.received_us for one in batch.events], batch)
        self._lists.add([one.ts_us for one in batch.recommendations], batch)
        return self._make_part(batch.recommendations, batch.events, now_us)

    def _read_lists(self, sink: Sink, now_us: int) -> Part:
        batch = sink.read(self._lists.position, self._limit)
        self._lists.add([one.ts_us for one in batch.recommendations], batch)
        # Lists that came since the events' end was reached come again with the events' position.
        self._has_caught_up = self._lists.is_at_end and self._events.is_at_end
        return self._make_part(batch.recommendations, [], now_us)

    def _read_events(self, sink: Sink, now_us: int) -> Part:
        batch = sink.read(self._events.position, self._limit)
        self._events.add([one.received_us for one in batch.events], batch)
        # This position is behind lists that came meanwhile: on to them.
        self._lists.is_at_end &= not batch.is_last
        return self._make_part([], batch.events, now_us)

    def _make_part(
        self, lists: Sequence[Recommendation], events: Sequence[Event], now_us: int
    ) -> Part:
        until_us = min(self._lists.until_us, self._events.until_us, now_us)
        self._reached_us = max(self._reached_us, int(until_us))
        is_last = self._has_caught_up and self._events.is_at_end
        return Part(lists, events, self._reached_us, is_last)
