"""Between the event loop and a sink: a bounded queue and one thread that writes all it holds.

Whoever waits for a batch knows that it is stored. Under load, many requests share a transaction.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from components.events.event import Event
from components.events.sink import Outcome, Sink, SinkUnavailable

MAX_EVENTS = 20_000
MAX_BYTES = 32 * 1024 * 1024
"""Of requests whose events wait. Parsed, they take several times as much."""

MAX_BLOCK_BYTES = 8 * 1024 * 1024
"""Of the recommendation log that waits."""

MAX_GROUP = 5_000
"""Events of one transaction, which bounds the time that others wait."""

MAX_WAIT_S = 3.0
"""A sink that is down for longer is reported to clients."""

MAX_BACKOFF_S = 0.5

_log = logging.getLogger("fbt")


class QueueFull(RuntimeError):
    pass


class Waiting(NamedTuple):
    events: Sequence[Event]
    n_bytes: int
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[list[Outcome]]"
    deadline: float


class WriteQueue:
    def __init__(
        self,
        open_sink: Callable[[], Sink],
        on_dropped: Callable[[int], None] = lambda _n: None,
    ) -> None:
        """`on_dropped` gets the number of recommendations that were not logged."""
        self._open_sink, self._on_dropped = open_sink, on_dropped
        self._sink: Sink | None = None
        self._error: str | None = None
        self._waiting: deque[Waiting] = deque()
        self._blocks: deque[tuple[bytes, int]] = deque()
        self._n_events = self._n_bytes = self._n_block_bytes = 0
        self._changed = threading.Condition()
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="fbt-events", daemon=True)

    def start(self) -> "WriteQueue":
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what is queued, for as long."""
        with self._changed:
            self._stop_at = time.monotonic() + timeout_s
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s + 1)

    @property
    def fill(self) -> float:
        """0 to 1."""
        return max(self._n_events / MAX_EVENTS, self._n_bytes / MAX_BYTES)

    def status(self) -> dict[str, Any]:
        state = "down" if self._error else "open" if self._sink is not None else "starting"
        return {"state": state, "queued_events": self._n_events, "error": self._error}

    async def put(self, events: Sequence[Event], n_bytes: int) -> list[Outcome]:
        """Returns when they are stored. Raises QueueFull and SinkUnavailable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Outcome]] = loop.create_future()
        with self._changed:
            if self._stop_at is not None:
                raise SinkUnavailable("the service is stopping")
            # A batch of any size fits into an empty queue.
            if self._n_events and (
                self._n_events + len(events) > MAX_EVENTS or self._n_bytes + n_bytes > MAX_BYTES
            ):
                raise QueueFull
            deadline = time.monotonic() + MAX_WAIT_S
            self._waiting.append(Waiting(events, n_bytes, loop, future, deadline))
            self._n_events += len(events)
            self._n_bytes += n_bytes
            self._changed.notify()
        return await future

    def put_recommendations(self, block: bytes, n: int) -> None:
        """Never blocks: a full queue drops the block. `block` is a JSON array of `n` ones."""
        with self._changed:
            fits = self._n_block_bytes + len(block) <= MAX_BLOCK_BYTES and self._stop_at is None
            if fits and n:
                self._blocks.append((block, n))
                self._n_block_bytes += len(block)
                self._changed.notify()
        if not fits:
            self._on_dropped(n)

    def _run(self) -> None:
        wait_s = 0.01
        while self._await_work():
            try:
                self._write_group()
                self._write_blocks()
                self._error, wait_s = None, 0.01
            except Exception as error:
                self._note_failure(error)
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, MAX_BACKOFF_S)
        self._close_sink()
        self._give_up()

    def _await_work(self) -> bool:
        """Whether to go on."""
        with self._changed:
            if self._sink is None and self._stop_at is None:
                return True  # to open it
            while not (self._waiting or self._blocks) and self._stop_at is None:
                self._changed.wait()
            if self._stop_at is None:
                return True
            is_late = time.monotonic() > self._stop_at
            return bool(self._waiting or self._blocks) and not is_late

    def _find_sink(self) -> Sink:
        if self._sink is None:
            self._sink = self._open_sink()
        return self._sink

    def _write_group(self) -> None:
        group = self._take_group()
        try:
            sink = self._find_sink()
            if not group:
                return
            outcomes = sink.write_events([event for one in group for event in one.events])
        except SinkUnavailable as error:
            self._put_back(group, error)
            raise
        except BaseException as error:
            self._settle([(one, error) for one in group])
            raise
        results, start = [], 0
        for one in group:
            results.append((one, outcomes[start : start + len(one.events)]))
            start += len(one.events)
        self._settle(results)

    def _take_group(self) -> list[Waiting]:
        group: list[Waiting] = []
        n = 0
        with self._changed:
            while self._waiting and (not group or n + len(self._waiting[0].events) <= MAX_GROUP):
                group.append(one := self._waiting.popleft())
                n += len(one.events)
        return group

    def _put_back(self, group: list[Waiting], error: SinkUnavailable) -> None:
        """Those that may wait longer."""
        now = time.monotonic()
        with self._changed:
            self._waiting.extendleft(one for one in reversed(group) if one.deadline > now)
        self._settle([(one, error) for one in group if one.deadline <= now])

    def _settle(self, results: Sequence[tuple[Waiting, Any]]) -> None:
        """Wake those who wait: one call for each event loop."""
        with self._changed:
            self._n_events -= sum(len(one.events) for one, _ in results)
            self._n_bytes -= sum(one.n_bytes for one, _ in results)
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Waiting, Any]]] = {}
        for one, result in results:
            by_loop.setdefault(one.loop, []).append((one, result))
        for loop, part in by_loop.items():
            try:
                loop.call_soon_threadsafe(set_results, part)
            except RuntimeError:
                _log.warning("events_unanswered", extra={"requests": len(part)})  # a closed loop

    def _write_blocks(self) -> None:
        with self._changed:
            blocks = list(self._blocks)
        if not blocks:
            return
        joined = b"[%b]" % b",".join(block.strip()[1:-1] for block, _ in blocks)
        try:
            self._find_sink().write_recommendations(joined, sum(n for _, n in blocks))
        except SinkUnavailable:
            raise
        except Exception:
            self._drop_blocks()
            raise
        with self._changed:
            for block, _ in blocks:
                self._blocks.popleft()
                self._n_block_bytes -= len(block)

    def _note_failure(self, error: Exception) -> None:
        is_known = isinstance(error, SinkUnavailable)
        text = str(error) if is_known else f"{type(error).__name__}"
        if text != self._error:
            log = _log.warning if is_known else _log.exception
            log("sink_failed", extra={"reason": text})
        self._error = text
        self._close_sink()

    def _close_sink(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.close()
            except Exception:
                _log.warning("sink_not_closed", exc_info=True)

    def _give_up(self) -> None:
        with self._changed:
            left, self._waiting = list(self._waiting), deque()
        self._settle([(one, SinkUnavailable("the service is stopping")) for one in left])
        self._drop_blocks()

    def _drop_blocks(self) -> None:
        with self._changed:
            n = sum(n for _, n in self._blocks)
            self._blocks.clear()
            self._n_block_bytes = 0
        if n:
            self._on_dropped(n)


def set_results(results: Sequence[tuple[Waiting, Any]]) -> None:
    for one, result in results:
        if one.future.done():
            continue  # its client is gone
        if isinstance(result, BaseException):
            one.future.set_exception(result)
        else:
            one.future.set_result(result)
