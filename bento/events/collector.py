"""Takes event requests from their bytes to the sink."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from bento.events.check_batch import Clock, check_events
from bento.events.key import EventsKey
from bento.events.location import find_events_url
from bento.events.metrics import EventMetrics
from bento.events.read_body import check_headers, inflate, parse_batch, to_http_error
from bento.events.sent_batch import BodyError, SentBatch
from bento.events.write_queue import MAX_WAIT_S, QueueFull, WriteQueue
from bento.http.errors import HttpError, to_json
from bento.http.limits import RateLimit
from bento.http.request_context import RequestContext
from bento.schemas.events import RefusedEvent
from bento.schemas.problems import MAX_FIELD_ERRORS, FieldError
from bento.settings import Settings
from components.events.event import Event
from components.events.open import open_sink
from components.events.sink import Outcome, SinkUnavailable

CHECKED_AT_ONCE = 10
MAX_TURN_S = 0.002
"""After which other requests have their turn."""

TIMEOUT_S = 6.0
"""A sink that hangs; one that says that it is down is waited for half as long."""

RETRY_AFTER = {"retry-after": "1"}


class EventCollector:
    """Its methods raise HttpError: 404 where events are switched off."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = find_events_url(settings)
        self._key = EventsKey(settings)
        rate = settings.events_rate_limit
        self._rate = RateLimit(rate) if rate else None
        self._queue: WriteQueue | None = None
        self.metrics = EventMetrics(lambda: self._queue.fill if self._queue else 0)
        if (url := self._url) is not None:
            self._queue = WriteQueue(
                lambda: open_sink(url, MAX_WAIT_S), self.metrics.count_unlogged
            ).start()

    def stop(self) -> None:
        """Write what is queued."""
        if self._queue is not None:
            self._queue.stop()

    def status(self) -> dict[str, Any]:
        return self._queue.status() if self._queue is not None else {"state": "off"}

    @property
    def is_on(self) -> bool:
        return self._queue is not None

    def put_recommendations(self, block: bytes, n: int) -> None:
        """A JSON array of `n` Recommendations as arrays. Never blocks: a full queue drops it."""
        if self._queue is not None:
            self._queue.put_recommendations(block, n)

    def admit(self, request: RequestContext) -> None:
        """Before the body is read. Raises HttpError (401, 404, 415, 429)."""
        self._require_queue()
        if self._rate is not None:
            self._rate.check(request.client)
        self._key.check(request.headers, request.scope["query_string"])
        check_headers(request.headers)

    async def collect(self, request: RequestContext) -> bytes:
        """An EventsAnswer as JSON, once the events are stored.

        Raises HttpError: 400 where nothing was good, 429 for a full queue, 503 without the sink.
        """
        body = inflate(request.body, request.headers)
        batch = parse_batch(body, request.data.format)
        events, refused = await self._check(batch, request.data.index_base)
        n_other = sum(sent is None for sent in batch.events)
        self.metrics.count_ignored(n_other, batch.n_ignored_fields)
        for one in refused:
            sent = batch.events[one.index]
            self.metrics.count_refused(sent and sent.get("event"))
        if refused and not events:
            raise HttpError(400, *list_errors(refused))
        outcomes = await self._store(events, len(body)) if events else []
        self.metrics.count_outcomes(events, outcomes)
        return render(outcomes, n_other, batch.n_ignored_fields, refused)

    async def _check(
        self, batch: SentBatch, index_base: int | None
    ) -> tuple[list[Event], list[RefusedEvent]]:
        base = self._settings.events_index_base if index_base is None else index_base
        try:
            max_age_h = self._settings.events_max_age_h
            clock = Clock.set_by(batch.sent_at, time.time_ns() // 1000, max_age_h)
        except BodyError as error:
            raise to_http_error(error) from None
        events: list[Event] = []
        refused: list[RefusedEvent] = []
        began = time.perf_counter()
        for start in range(0, len(batch.events), CHECKED_AT_ONCE):
            if time.perf_counter() - began > MAX_TURN_S:
                await asyncio.sleep(0)
                began = time.perf_counter()
            part = check_events(batch, base, clock, start, start + CHECKED_AT_ONCE)
            events += part.events
            refused += part.refused
        return events, refused

    async def _store(self, events: Sequence[Event], n_bytes: int) -> list[Outcome]:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._require_queue().put(events, n_bytes)
        except QueueFull:
            error = FieldError(field="queue", found="full", expected="fewer events at once")
            raise HttpError(429, error, headers=RETRY_AFTER) from None
        except (SinkUnavailable, TimeoutError):
            raise Unstored from None

    async def erase(self, session_id: str) -> dict[str, Any]:
        """An ErasedSession."""
        self._require_queue()
        try:
            n = await asyncio.to_thread(self._erase, session_id)
        except SinkUnavailable as failure:
            error = FieldError(field="store", found=str(failure), expected="one that answers")
            raise HttpError(503, error, headers=RETRY_AFTER) from None
        return {"session_id": session_id, "erased": n}

    def _erase(self, session_id: str) -> int:
        """By a sink of this thread's own."""
        assert self._url is not None
        sink = open_sink(self._url)
        try:
            return sink.erase_session(session_id)
        finally:
            sink.close()

    def _require_queue(self) -> WriteQueue:
        if self._queue is None:
            raise HttpError(404, detail="Events are switched off by FBT_EVENTS_URL")
        return self._queue


class Unstored(HttpError):
    """Without the store's own words, which the log has: whoever sends events is the public."""

    def __init__(self) -> None:
        expected = "one that answers; to send the same events again does no harm"
        error = FieldError(field="store", found="no answer in time", expected=expected)
        super().__init__(503, error, headers=RETRY_AFTER)


def list_errors(refused: Sequence[RefusedEvent]) -> list[FieldError]:
    return [
        FieldError(
            field=f"events.{one.index}.{error.field}", found=error.found, expected=error.expected
        )
        for one in refused
        for error in one.errors
    ][:MAX_FIELD_ERRORS]


def render(
    outcomes: Sequence[Outcome],
    n_ignored_events: int,
    n_ignored_fields: int,
    refused: Sequence[RefusedEvent],
) -> bytes:
    return to_json(
        {
            "accepted": outcomes.count(Outcome.STORED),
            "duplicates": outcomes.count(Outcome.DUPLICATE),
            "conflicts": outcomes.count(Outcome.CONFLICT),
            "ignored_events": n_ignored_events,
            "ignored_fields": n_ignored_fields,
            "refused": refused,
        }
    )
