"""The queue in front of a sink: group commit, back-pressure, outages, the end."""

import asyncio
import json
import threading
import time

import pytest

from bento.events import write_queue
from bento.events.write_queue import QueueFull, WriteQueue
from components.events.event import Event, EventItem
from components.events.sink import Outcome, SinkUnavailable


def make(event_id, session_id="s"):
    items = (EventItem("tea"),)
    return Event(event_id, "select_item", 1, 1, session_id, None, None, items)


class ListSink:
    """A store in memory that a test can block, break and watch."""

    def __init__(self):
        self.transactions, self.blocks = [], []
        self.opened = self.closed = 0
        self.free = threading.Event()
        self.free.set()
        self.failure = None

    def open(self):
        if isinstance(self.failure, SinkUnavailable):
            raise self.failure
        self.opened += 1
        return self

    def write_events(self, events):
        self.free.wait(10)
        if self.failure is not None:
            raise self.failure
        known = {event.event_id for part in self.transactions for event in part}
        self.transactions.append(list(events))
        outcomes = []
        for event in events:
            outcomes.append(Outcome.DUPLICATE if event.event_id in known else Outcome.STORED)
            known.add(event.event_id)
        return outcomes

    def write_recommendations(self, block, n):
        self.free.wait(10)
        if self.failure is not None:
            raise self.failure
        self.blocks.append((json.loads(block), n))

    def close(self):
        self.closed += 1


@pytest.fixture
def sink():
    return ListSink()


@pytest.fixture
def dropped():
    return []


@pytest.fixture
def queue(sink, dropped):
    queue = WriteQueue(sink.open, dropped.append).start()
    yield queue
    sink.free.set()
    queue.stop()


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def run(*coroutines):
    async def gather():
        return await asyncio.gather(*coroutines, return_exceptions=True)

    return asyncio.run(gather())


def test_every_request_gets_its_own_outcomes(queue, sink):
    sink.free.clear()

    async def send():
        first = asyncio.create_task(queue.put([make("a")], 1))
        await asyncio.sleep(0.1)  # the thread is writing
        batches = [[make("b"), make("a")], [make("c")], [make("b"), make("d")]]
        others = [asyncio.create_task(queue.put(batch, 1)) for batch in batches]
        await asyncio.sleep(0.1)
        sink.free.set()
        return await asyncio.gather(first, *others)

    stored, duplicate = Outcome.STORED, Outcome.DUPLICATE
    assert asyncio.run(send()) == [
        [stored],
        [stored, duplicate],
        [stored],
        [duplicate, stored],
    ]
    # Those that came meanwhile shared a transaction.
    assert [len(one) for one in sink.transactions] == [1, 5]


def test_a_full_queue_refuses_and_an_empty_one_takes_any_batch(queue, sink, monkeypatch):
    monkeypatch.setattr(write_queue, "MAX_EVENTS", 10)
    sink.free.clear()

    async def send():
        large = asyncio.create_task(queue.put([make(str(n)) for n in range(50)], 1))
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFull):
            await queue.put([make("x")], 1)
        assert queue.fill == 5
        sink.free.set()
        await large
        return await queue.put([make("x")], 1)

    assert asyncio.run(send()) == [Outcome.STORED]
    assert queue.fill == 0


def test_the_queue_is_bounded_in_bytes_too(queue, sink):
    sink.free.clear()

    async def send():
        first = asyncio.create_task(queue.put([make("a")], write_queue.MAX_BYTES))
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFull):
            await queue.put([make("b")], 1)
        sink.free.set()
        return await first

    assert asyncio.run(send()) == [Outcome.STORED]


def test_a_short_outage_is_waited_for(queue, sink):
    wait_until(lambda: queue.status()["state"] == "open")
    sink.failure = SinkUnavailable("sink: gone")

    async def send():
        waiting = asyncio.create_task(queue.put([make("a")], 1))
        await asyncio.sleep(0.2)
        assert queue.status() == {"state": "down", "queued_events": 1, "error": "sink: gone"}
        sink.failure = None
        return await waiting

    assert asyncio.run(send()) == [Outcome.STORED]
    assert (sink.opened, sink.closed) == (2, 1)
    wait_until(lambda: queue.status()["state"] == "open")


def test_a_long_outage_is_reported_and_nothing_is_stored_afterwards(queue, sink, monkeypatch):
    monkeypatch.setattr(write_queue, "MAX_WAIT_S", 0.2)
    sink.failure = SinkUnavailable("sink: gone")
    (failure,) = run(queue.put([make("a")], 1))
    assert isinstance(failure, SinkUnavailable)
    sink.failure = None
    assert run(queue.put([make("b")], 1)) == [[Outcome.STORED]]
    assert [event.event_id for part in sink.transactions for event in part] == ["b"]


def test_an_error_of_the_sink_fails_those_who_wait_and_not_the_queue(queue, sink):
    wait_until(lambda: queue.status()["state"] == "open")
    sink.failure = ZeroDivisionError("a bug")
    (failure,) = run(queue.put([make("a")], 1))
    assert isinstance(failure, ZeroDivisionError)
    sink.failure = None
    assert run(queue.put([make("b")], 1)) == [[Outcome.STORED]]


def test_a_client_that_goes_away_harms_nobody(queue, sink):
    sink.free.clear()

    async def send():
        gone = asyncio.create_task(queue.put([make("a")], 1))
        await asyncio.sleep(0.05)
        gone.cancel()
        other = asyncio.create_task(queue.put([make("b")], 1))
        await asyncio.sleep(0.05)
        sink.free.set()
        return await other

    assert asyncio.run(send()) == [Outcome.STORED]
    assert queue.fill == 0


def test_blocks_of_the_log_are_joined_and_counted(queue, sink, dropped):
    sink.free.clear()
    queue.put_recommendations(b'[["r0"]]', 1)
    wait_until(lambda: queue.status()["state"] == "open")
    time.sleep(0.05)
    queue.put_recommendations(b'[["r1"],["r2"]]', 2)
    queue.put_recommendations(b'[["r3"]]', 1)
    queue.put_recommendations(b"[]", 0)
    sink.free.set()
    wait_until(lambda: sum(n for _, n in sink.blocks) == 4)
    rows = [row for rows, _ in sink.blocks for row in rows]
    assert rows == [["r0"], ["r1"], ["r2"], ["r3"]]
    assert dropped == []


def test_a_full_log_drops_and_counts(queue, sink, dropped):
    sink.free.clear()
    block = b'["' + b"x" * (write_queue.MAX_BLOCK_BYTES // 2) + b'"]'
    for _ in range(3):
        queue.put_recommendations(block, 7)
    assert sum(dropped) == 14


def test_the_log_waits_for_an_outage(queue, sink, dropped):
    wait_until(lambda: queue.status()["state"] == "open")
    sink.failure = SinkUnavailable("sink: gone")
    queue.put_recommendations(b'[["r0"]]', 1)
    wait_until(lambda: queue.status()["state"] == "down")
    sink.failure = None
    wait_until(lambda: sink.blocks == [([["r0"]], 1)])
    assert dropped == []


def test_a_block_that_no_sink_takes_is_dropped(queue, sink, dropped):
    queue.put_recommendations(b"[oops]", 3)
    wait_until(lambda: dropped == [3])
    assert run(queue.put([make("a")], 1)) == [[Outcome.STORED]]


def test_the_end_stores_what_is_queued(sink, dropped):
    queue = WriteQueue(sink.open, dropped.append).start()
    sink.free.clear()
    queue.put_recommendations(b'[["r0"]]', 1)
    time.sleep(0.05)
    queue.put_recommendations(b'[["r1"]]', 1)
    threading.Timer(0.2, sink.free.set).start()
    queue.stop()
    assert sum(n for _, n in sink.blocks) == 2
    assert sink.closed == 1
    queue.put_recommendations(b'[["r2"]]', 1)
    assert dropped == [1]
    (failure,) = run(queue.put([make("a")], 1))
    assert isinstance(failure, SinkUnavailable)


def test_the_end_does_not_wait_for_ever(sink, dropped):
    sink.failure = SinkUnavailable("sink: gone")
    queue = WriteQueue(sink.open, dropped.append).start()
    queue.put_recommendations(b'[["r0"]]', 1)
    began = time.monotonic()
    queue.stop(timeout_s=0.3)
    assert time.monotonic() - began < 3
    assert dropped == [1]
