"""Where events go: an interface of SQLite, PostgreSQL and Kafka."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from components.events.event import Event
from components.events.recommendation import Recommendation


class Outcome(Enum):
    STORED = "stored"
    DUPLICATE = "duplicate"
    """The same event was stored before."""
    CONFLICT = "conflict"
    """Another event was stored under this id; it stays."""


class SinkUnavailable(RuntimeError):
    """The store does not answer or takes nothing; the message names it, without passwords."""


class Batch(NamedTuple):
    """Records of a sink after a position."""

    events: Sequence[Event]
    recommendations: Sequence[Recommendation]
    position: str
    """To go on from; opaque."""
    is_last: bool
    """Whether nothing more was there."""
    may_repeat: bool = False
    """Whether records of it may have come in earlier batches."""


class Sink(Protocol):
    """Safe to use from several processes; an instance belongs to one thread."""

    name: str
    """Its URL without user and password."""

    def write_events(self, events: Sequence[Event]) -> list[Outcome]:
        """Durable when it returns, all or none. Kafka cannot look ids up: it stores all, and its
        readers drop repetitions. Raises SinkUnavailable."""

    def write_recommendations(self, block: bytes, n: int) -> None:
        """`block` is a JSON array of `n` Recommendations as arrays. Durable when it returns.
        Raises SinkUnavailable."""

    def read(self, position: str = "", limit: int = 10_000) -> Batch:
        """Records stored after `position` (empty: the beginning), oldest first, up to about `limit`
        of either kind. Nothing is skipped that commits later. An event comes
        once. Raises SinkUnavailable."""

    def erase_session(self, session_id: str) -> int:
        """Number of events and recommendations that were removed. Raises SinkUnavailable."""

    def remove_before(self, ts_us: int) -> int:
        """Remove what was received before; the number of records. Raises SinkUnavailable."""

    def close(self) -> None: ...
