"""The recommendation log: what was shown, for later comparison with what shoppers did.

A request only appends references. A thread makes blocks of JSON of them and hands these on. Where
more comes than it can take, answers are dropped and counted; no request waits.
"""

import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import pydantic_core

from bento.answering.answer import Answer
from bento.answering.arms import Shown
from bento.answering.selection import AnyRequest, list_asked
from bento.schemas.requests import RecommendRequest
from components.events.recommendation import Recommendation

MAX_PENDING = 20_000
"""Answers not yet handed on, about 3 kB each."""

BLOCK = 256
"""Most records of a block."""

SLICE = 16
"""Records that the thread makes before requests have their turn: a tenth of a millisecond."""

FLUSH_S = 0.25

_log = logging.getLogger("fbt")


class Queue(Protocol):
    def put_recommendations(self, block: bytes, n: int) -> None:
        """Never blocks. `block` is a JSON array of `n` Recommendations as arrays."""


class LogEntry(NamedTuple):
    endpoint: str
    shown: Shown
    request: AnyRequest
    request_id: str
    ts_us: int
    share: float


class RecommendationLog:
    def __init__(
        self, queue: Queue, share: float, on_dropped: Callable[[int], None] = lambda _n: None
    ) -> None:
        """`share` is of answers outside of experiments. `on_dropped` is called by the thread."""
        self._queue, self._share, self._on_dropped = queue, share, on_dropped
        self._bound = int(share * 2**32)
        self._entries = deque[LogEntry]()
        self._n_refused = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fbt-log", daemon=True)

    def start(self) -> "RecommendationLog":
        self._thread.start()
        return self

    def add(self, endpoint: str, shown: Shown, request: AnyRequest, request_id: str) -> None:
        share = self._share
        if shown.experiment is not None:
            share = 1.0
        elif zlib.crc32(request_id.encode()) >= self._bound:  # a tenth of the cost of blake2
            return
        if len(self._entries) >= MAX_PENDING:
            self._n_refused += 1
            return
        ts_us = time.time_ns() // 1000
        self._entries.append(LogEntry(endpoint, shown, request, request_id, ts_us, share))

    def close(self) -> None:
        """Hand on what is left."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        if self._n_refused:
            n, self._n_refused = self._n_refused, 0
            self._on_dropped(n)
        while self._entries:
            entries = [self._entries.popleft() for _ in range(min(BLOCK, len(self._entries)))]
            try:
                self._queue.put_recommendations(encode_block(entries), len(entries))
            except Exception:
                _log.exception("log_failed")
                self._on_dropped(len(entries))


def encode_block(entries: Sequence[LogEntry]) -> bytes:
    records: list[list[object]] = []
    for start in range(0, len(entries), SLICE):
        # pydantic_core writes lists faster than named tuples.
        records += [list(to_recommendation(one)) for one in entries[start : start + SLICE]]
        time.sleep(0)
    block: bytes = pydantic_core.to_json(records)
    return block


def to_recommendation(entry: LogEntry) -> Recommendation:
    endpoint, shown, request, request_id, ts_us, share = entry
    answer, model, arm, experiment, swap, teams = shown
    return Recommendation(  # by position: names would double its cost
        request_id,
        ts_us,
        request.session_id,
        endpoint,
        name_context(entry),
        model.model_version,
        arm,
        experiment,
        share,
        list_asked(request),
        answer.list_product_ids(),
        [item.source for item in answer.shown],
        list(answer.rules),
        swap.pair if swap is not None and swap.is_swapped else None,
        swap is not None,
        None if teams is None else list(teams),
        None if swap is None else swap.pair,
        list_rule_ids(answer),
    )


def list_rule_ids(answer: Answer) -> list[list[str]] | None:
    if not answer.acting_rules or not any(item.moved_by for item in answer.shown):
        return None
    return [list(item.moved_by) for item in answer.shown]


def name_context(entry: LogEntry) -> str:
    """The given one, else that by which the list was ranked."""
    request = entry.request
    if not isinstance(request, RecommendRequest):
        return "similar"
    if request.context is not None:
        return request.context
    if len(request.items) <= 1:
        return "product_page"
    n_items = len(set(request.items))
    n_known = n_items - len(entry.shown.answer.unknown)
    return "product_page" if n_known == 1 or n_items == 1 else "cart"
