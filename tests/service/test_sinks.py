"""Events in SQLite, a real PostgreSQL and a real Kafka broker: the same tests on all three."""

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.events.event import Event, EventItem
from components.events.open import open_sink
from components.events.recommendation import Recommendation
from components.events.sink import Outcome, SinkUnavailable
from tests.kafka import kafka
from tests.postgres import postgres

STORED, DUPLICATE, CONFLICT = Outcome
DAY_US = 86_400_000_000
NOW_US = time.time_ns() // 1000
PASSWORD, ENCODED = "ge/heim%@", "ge%2Fheim%25%40"

numbers = itertools.count()


def make_event(session="anna", received_us=None, **changes):
    n = next(numbers)
    event = Event(
        event_id=f"event-{n}", event="add_to_cart", ts_us=NOW_US + n,
        received_us=received_us or NOW_US + n, session_id=session, request_id=None, order_id=None,
        items=(EventItem("milk", 0, 1.0, 0.99), EventItem("Käse \\ \t ☕")),
    )  # fmt: skip
    return event._replace(**changes)


def make_recommendation(session="anna", **changes):
    record = Recommendation(
        request_id=f"request-{next(numbers)}", ts_us=NOW_US, session_id=session,
        endpoint="recommend", context="cart", model_version="1", arm="default", experiment=None,
        share=0.5, asked=["milk"], items=["tea", "Käse"], sources=["bought_together"] * 2, rules=[],
    )  # fmt: skip
    return record._replace(**changes)


def write_block(sink, *records):
    sink.write_recommendations(json.dumps(records).encode(), len(records))


def read_all(sink, position="", limit=10_000):
    """Events and recommendations after a position, and the position after them."""
    events, recommendations = [], []
    for _ in range(1000):
        batch = sink.read(position, limit)
        events += batch.events
        recommendations += batch.recommendations
        position = batch.position
        if batch.is_last:
            return events, recommendations, position
    raise AssertionError("the reading has no end")


@pytest.fixture(params=["sqlite", "postgresql", "kafka"])
def url(request, tmp_path):
    """Of a store of the test's own, without any table or topic."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/100% fbt/events.db"
    if request.param == "kafka":
        return request.getfixturevalue("kafka_broker").url()
    return request.getfixturevalue("postgres_server").new_database(ENCODED)


@pytest.fixture
def sink(url):
    with contextlib.closing(open_sink(url)) as made:
        yield made


def remembers_ids(sink):
    """Kafka cannot look an id up: it stores all, and its readers drop repetitions."""
    return not sink.name.startswith("kafka")


def test_what_was_written_is_read_as_it_was(sink):
    events = [make_event(), make_event(None, order_id="1", event="purchase"), make_event("bob")]
    records = [make_recommendation(), make_recommendation(None, teams=["a", ""], swapped=0)]
    assert sink.write_events(events) == [STORED] * 3
    write_block(sink, *records)
    found, found_records, _ = read_all(sink)
    assert found == events
    assert found_records == records


def test_nothing_is_read_from_an_empty_sink(sink):
    batch = sink.read()
    assert (batch.events, batch.recommendations, batch.is_last) == ([], [], True)
    assert sink.write_events([]) == []
    assert sink.read(batch.position).is_last


def test_the_first_event_of_an_id_stays(sink):
    first = make_event()
    again = first._replace(received_us=NOW_US + 5, ts_us=NOW_US + 1)
    other = first._replace(items=(EventItem("gold"),))
    assert sink.write_events([first]) == [STORED]
    outcomes = sink.write_events([again, other, make_event()])
    if remembers_ids(sink):
        assert outcomes == [DUPLICATE, CONFLICT, STORED]
    events, _, _ = read_all(sink)
    assert [event.event_id for event in events].count(first.event_id) == 1
    assert first in events


def test_repetitions_within_one_call_are_told_apart(sink):
    first = make_event()
    events = [first, first, first._replace(order_id="7"), make_event()]
    assert sink.write_events(events) == [STORED, DUPLICATE, CONFLICT, STORED]
    assert read_all(sink)[0] == [events[0], events[3]]


def test_events_without_a_session_and_with_awkward_texts_are_kept(sink):
    texts = ["", " ", "\\", "\\N", "\t\n", '"', "\0", "\ud800", "☕" * 500, "a,b", "\\x00"]
    events = [make_event(text, event_id=text, request_id=text) for text in texts]
    assert sink.write_events(events) == [STORED] * len(texts)
    assert read_all(sink)[0] == events


def test_reading_goes_on_where_it_ended(sink):
    events = [make_event() for _ in range(25)]
    for start in range(0, 25, 5):
        sink.write_events(events[start : start + 5])
        write_block(sink, *[make_recommendation()] * 3)
    found, records, position = read_all(sink, limit=4)
    assert found == events
    assert len(records) == 15
    late = make_event()
    sink.write_events([late])
    assert read_all(sink, position)[0] == [late]
    assert read_all(sink)[0] == [*events, late], "the beginning is there as before"


def test_reading_goes_on_in_another_process(sink, url):
    sink.write_events([make_event()])
    position = sink.read().position
    late = make_event()
    sink.write_events([late])
    with contextlib.closing(open_sink(url)) as other:
        assert read_all(other, position)[0] == [late]


def test_a_large_block_is_read_whole(sink):
    records = [make_recommendation(request_id=str(n)) for n in range(5000)]
    write_block(sink, *records)
    batch = sink.read(limit=10)
    assert list(batch.recommendations) == records
    assert sink.read(batch.position, limit=10).recommendations == []


def test_readers_skip_nothing_of_concurrent_writers(url):
    """Writers whose transactions overlap, and a reader that follows them all the while."""
    n_writers, n_batches = 4, 15
    open_sink(url).close()
    written = [[make_event(f"w{w}") for _ in range(n_batches * 7)] for w in range(n_writers)]
    is_over = threading.Event()

    def write(events):
        with contextlib.closing(open_sink(url, 30)) as sink:
            for start in range(0, len(events), 7):
                sink.write_events(events[start : start + 7])

    def follow():
        found, position = [], ""
        with contextlib.closing(open_sink(url, 30)) as sink:
            while True:
                was_over = is_over.is_set()
                batch = sink.read(position, limit=13)
                found += batch.events
                position = batch.position
                if was_over and batch.is_last:
                    return found

    with ThreadPoolExecutor() as threads:
        following = threads.submit(follow)
        list(threads.map(write, written))
        is_over.set()
        found = following.result()
    assert len(found) == n_writers * n_batches * 7
    for events in written:
        assert [one for one in found if one.session_id == events[0].session_id] == events


def test_writers_of_the_same_ids_store_each_once(url):
    events = [make_event() for _ in range(200)]
    open_sink(url).close()

    def write(turn):
        mine = events[turn:] + events[:turn]
        with contextlib.closing(open_sink(url, 30)) as sink:
            return [one for n in range(0, 200, 20) for one in sink.write_events(mine[n : n + 20])]

    with ThreadPoolExecutor() as threads:
        outcomes = list(threads.map(write, (0, 70, 130)))
    with contextlib.closing(open_sink(url)) as sink:
        if remembers_ids(sink):
            assert sum(one.count(STORED) for one in outcomes) == 200
            assert sum(one.count(DUPLICATE) for one in outcomes) == 400
        assert {one.event_id for one in read_all(sink)[0]} == {one.event_id for one in events}
        assert len(read_all(sink)[0]) == 200


def test_an_erased_session_is_gone(sink):
    anna, bob, nobody = make_event("anna", NOW_US), make_event("bob"), make_event(None)
    kept = make_recommendation("bob")
    sink.write_events([anna, bob, nobody])
    write_block(sink, make_recommendation("anna"), kept)
    write_block(sink, make_recommendation("anna"))
    n_erased = sink.erase_session("anna")
    assert n_erased == (3 if remembers_ids(sink) else 0)
    events, records, _ = read_all(sink)
    assert events == [bob, nobody]
    assert records == [kept]
    assert sink.erase_session("nobody of this name") == 0
    assert sink.write_events([make_event("anna", time.time_ns() // 1000)]) == [STORED]
    assert len(read_all(sink)[0]) == 3, "the session may come back"


@pytest.mark.parametrize("session", ['a"b', "a\\b", "ä☕", "a/b", "%", "_", "'"])
def test_sessions_of_awkward_names_can_be_erased(sink, session):
    sink.write_events([make_event(session, NOW_US)])
    write_block(sink, make_recommendation(session), make_recommendation(f"{session}2"))
    text = json.dumps([make_recommendation(session)], ensure_ascii=False)
    sink.write_recommendations(text.encode(), 1)
    sink.erase_session(session)
    events, records, _ = read_all(sink)
    assert events == []
    assert [one.session_id for one in records] == [f"{session}2"]


def test_what_is_erased_has_left_the_file(tmp_path):
    sink = open_sink(f"sqlite:///{tmp_path}/events.db")
    sink.write_events([make_event(f"secret-{n}", request_id="needle") for n in range(100)])
    write_block(sink, make_recommendation("secret-7"), make_recommendation("other"))
    for n in range(100):
        sink.erase_session(f"secret-{n}")
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"needle" not in content
    assert b"secret-7" not in content
    assert b"other" in content
    sink.close()


def test_old_records_can_be_removed(sink):
    old = [make_event(received_us=NOW_US - 3 * DAY_US + n) for n in range(30)]
    new = [make_event(), make_event()]
    sink.write_events(old)
    sink.write_events(new)
    write_block(sink, make_recommendation())
    position = sink.read().position
    assert sink.remove_before(NOW_US - DAY_US) == 30
    assert sink.remove_before(NOW_US - DAY_US) == 0
    events, records, _ = read_all(sink)
    assert events == new
    assert len(records) == 1
    late = make_event()
    sink.write_events([late])
    assert read_all(sink, position)[0] == [late]
    assert sink.remove_before(time.time_ns() // 1000 + 3_600_000_000) == 4
    assert read_all(sink)[:2] == ([], [])
    again = make_event(received_us=NOW_US - 3 * DAY_US)
    sink.write_events([again])
    assert read_all(sink, position)[0][-1] == again, "a removed day may come back"


def test_a_position_in_another_store_is_the_beginning(sink, url, tmp_path):
    sink.write_events([make_event() for _ in range(5)])
    position = json.loads(sink.read().position) | {"store": "one that was deleted"}
    batch = sink.read(json.dumps(position))
    assert len(batch.events) == 5
    assert batch.may_repeat


WRITER = """
import itertools, sys, time
from components.events.event import Event, EventItem
from components.events.open import open_sink

sink = open_sink(sys.argv[1], 20)
for n in itertools.count():
    now = time.time_ns() // 1000
    events = [
        Event(f"{sys.argv[2]}-{n}-{m}", "purchase", now, now, "s", None, "1", (EventItem("a"),))
        for m in range(20)
    ]
    sink.write_events(events)
    print(*[event.event_id for event in events], flush=True)
"""


def test_what_was_accepted_outlives_a_killed_process(url):
    open_sink(url).close()
    accepted = []
    for turn in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(turn)], stdout=subprocess.PIPE, text=True
        ) as writer:
            lines = [writer.stdout.readline() for _ in range(5)]
            os.kill(writer.pid, signal.SIGKILL)
            lines += writer.stdout.readlines()
        accepted += [line.split() for line in lines if line.endswith("\n")]
    with contextlib.closing(open_sink(url)) as sink:
        found = [event.event_id for event in read_all(sink)[0]]
    assert len(found) == len(set(found))
    assert {one for ids in accepted for one in ids} <= set(found)
    if "kafka" not in url:
        assert len(found) % 20 == 0, "a call is stored as a whole"


@pytest.mark.parametrize("place", ["postgresql", "kafka"])
def test_a_restart_of_the_store_is_survived(place):
    """A write fails in an orderly way while it is away, and nothing that was accepted is lost."""
    server = postgres() if place == "postgresql" else kafka()
    with server as server, contextlib.closing(open_sink(server.url(), 5)) as sink:
        before, during, after = make_event(), make_event(), make_event()
        write_until_stored(sink, [before])
        position = sink.read().position
        server.stop()
        with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1"):
            sink.write_events([during])
        with pytest.raises(SinkUnavailable):
            sink.read(position)
        server.start()
        write_until_stored(sink, [after, during])
        found = read_all(sink)[0]
        assert found[0] == before
        assert {one.event_id for one in found} == {e.event_id for e in (before, during, after)}
        assert len(found) == 3


def write_until_stored(sink, events):
    """A store that has just started may refuse for a while."""
    for _ in range(20):
        with contextlib.suppress(SinkUnavailable):
            sink.write_events(events)
            return
    raise AssertionError("the store takes nothing")


def test_a_frozen_postgresql_does_not_hold_a_writer(tmp_path):
    with postgres() as server, contextlib.closing(open_sink(server.url(), 1)) as sink:
        sink.write_events([make_event()])
        with server.frozen():
            start = time.monotonic()
            with pytest.raises(SinkUnavailable):
                sink.write_events([make_event()])
            assert time.monotonic() - start < 20
        assert sink.write_events([make_event()]) == [STORED]


def test_a_day_that_another_process_removed_is_made_again(postgres_server):
    postgres_server.sql("create database removed_day")
    url = postgres_server.url("removed_day")
    with contextlib.closing(open_sink(url)) as sink, contextlib.closing(open_sink(url)) as other:
        sink.write_events([make_event(received_us=NOW_US - 9 * DAY_US)])
        assert other.remove_before(NOW_US - DAY_US) == 1
        with pytest.raises(SinkUnavailable, match="no partition"):
            sink.write_events([make_event(received_us=NOW_US - 9 * DAY_US)])
        assert sink.write_events([make_event(received_us=NOW_US - 9 * DAY_US)]) == [STORED]


def test_a_reader_waits_for_a_transaction_with_a_lower_number(postgres_server):
    """The lower number commits last: whoever had gone on from the higher one would skip it."""
    postgres_server.sql("create database overtaken")
    url = postgres_server.url("overtaken")
    with contextlib.closing(open_sink(url, 20)) as sink:
        early, late = make_event(), make_event()
        slow = open_sink(url)
        with slow._writing("fbt_events", {early.received_us // DAY_US}) as cursor:
            cursor.execute(
                "insert into fbt_events (received_us, body) values (%s, %s)",
                [early.received_us, early.to_json()],
            )
            sink.write_events([late])
            with ThreadPoolExecutor(1) as threads:
                reading = threads.submit(sink.read)
                time.sleep(0.5)
                assert not reading.done()
                cursor.execute("commit; begin")
                assert list(reading.result().events) == [early, late]
        slow.close()


def test_many_processes_may_open_a_new_store_at_once(url):
    code = "import sys; from components.events.open import open_sink; open_sink(sys.argv[1], 30)"
    opening = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(4)]
    assert [one.wait(timeout=120) for one in opening] == [0] * 4


def test_a_full_disk_stores_nothing_of_a_call(tmp_path):
    url = f"sqlite:///{tmp_path}/events.db"
    with contextlib.closing(open_sink(url)) as sink:
        sink.write_events([make_event()])
        (n_pages,) = sink._file.execute("pragma page_count").fetchone()
        sink._file.execute(f"pragma max_page_count = {n_pages + 20}")
        with pytest.raises(SinkUnavailable, match="full"):
            sink.write_events([make_event() for _ in range(5000)])
        with pytest.raises(SinkUnavailable, match="full"):
            sink.write_recommendations(b"[" + b" " * 1_000_000 + b"]", 0)
        assert len(read_all(sink)[0]) == 1
        sink._file.execute("pragma max_page_count = 100000")
        assert sink.write_events([make_event()]) == [STORED]
        assert len(read_all(sink)[0]) == 2


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts need root")
def test_a_disk_that_is_really_full_for_a_while(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        with contextlib.closing(open_sink(f"sqlite:///{disk}/events.db")) as sink:
            filler = disk / "filler"
            accepted = [make_event() for _ in range(10)]
            sink.write_events(accepted)
            with contextlib.suppress(OSError):
                filler.write_bytes(bytes(4 << 20))
            with contextlib.suppress(SinkUnavailable):
                for _ in range(200):
                    events = [make_event() for _ in range(50)]
                    sink.write_events(events)
                    accepted += events
            with pytest.raises(SinkUnavailable):
                sink.write_events([make_event() for _ in range(5000)])
            filler.unlink()
            late = make_event()
            assert sink.write_events([late]) == [STORED]
            assert read_all(sink)[0] == [*accepted, late]
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_file_that_was_deleted_is_made_again(tmp_path):
    path = tmp_path / "events.db"
    with contextlib.closing(open_sink(f"sqlite:///{path}")) as sink:
        sink.write_events([make_event()])
        for file in tmp_path.iterdir():
            file.unlink()
        late = make_event()
        assert sink.write_events([late]) == [STORED]
        with contextlib.closing(sqlite3.connect(path)) as file:
            assert file.execute("select count(*) from events").fetchone() == (1,)
        assert read_all(sink)[0] == [late]


def test_a_locked_file_is_unavailable_for_a_while(tmp_path):
    path = tmp_path / "events.db"
    with contextlib.closing(open_sink(f"sqlite:///{path}", 0.2)) as sink:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("begin immediate")
            with pytest.raises(SinkUnavailable, match="locked"):
                sink.write_events([make_event()])
            assert sink.read().is_last, "readers pass writers"
        assert sink.write_events([make_event()]) == [STORED]


@pytest.mark.parametrize(
    "url",
    [
        "", "off", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://anna:geheim@host/db",
        "postgresql://anna:geheim@host", "postgresql://anna:geheim@host:port/db", "kafka://host:1",
        "kafka:///prefix", "/a/file", "anna:geheim",
    ],
)  # fmt: skip
def test_another_url_is_refused_without_repeating_it(url):
    with pytest.raises(ValueError, match="expected sqlite:///FILE") as caught:
        open_sink(url)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://anna:{}@127.0.0.1:1/db", "kafka://127.0.0.1:1/a"])
def test_a_store_that_does_not_answer_is_named_without_its_password(url):
    with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1:1/") as caught:
        open_sink(url.format(ENCODED), 1)
    assert PASSWORD not in str(caught.value)
    assert ENCODED not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = Path(tmp_path / "events.db")
    path.write_text("a shopping list" * 100)
    with pytest.raises(SinkUnavailable, match=r"events\.db.*not a database"):
        open_sink(f"sqlite:///{path}")
    with pytest.raises(SinkUnavailable):
        open_sink(f"sqlite:///{path}/below/events.db")
