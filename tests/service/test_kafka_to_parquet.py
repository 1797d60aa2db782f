"""Kafka to Parquet by several processes of Spark, from a real broker."""

import contextlib
import json
import time

import pytest

from components.contracts import EVENTS, RECOMMENDATIONS, read_table
from components.events import kafka_to_parquet
from components.events.archive import Archive
from components.events.compact import compact
from components.events.event import Event, EventItem
from components.events.kafka_to_parquet import compact_kafka
from components.events.open import open_sink
from components.events.recommendation import Recommendation
from components.spark import map_in_process, spark_mapper, spark_session

YESTERDAY_US = time.time_ns() // 1000 - 86_400_000_000


def make_event(n, **changes):
    items = (EventItem("milk", 0), EventItem("tea", 1))
    event = Event(
        f"{n:04d}",
        "view_item_list",
        YESTERDAY_US + n,
        YESTERDAY_US + n,
        f"s{n % 20}",
        "r",
        None,
        items,
    )
    return event._replace(**changes)


def make_block(*names):
    return json.dumps(
        [
            Recommendation(
                name, YESTERDAY_US, "s1", "recommend", "cart", "1", "a", None, 1.0,
                ["milk"], ["tea"], ["s"], [],
            )
            for name in names
        ]
    ).encode()  # fmt: skip


@pytest.fixture
def url(kafka_broker):
    """Of topics with 300 events and two recommendations, some of them twice."""
    url = kafka_broker.url()
    with contextlib.closing(open_sink(url, 30)) as sink:
        sink.write_events([make_event(n) for n in range(300)])
        sink.write_events([make_event(n) for n in range(0, 300, 10)])
        sink.write_recommendations(make_block("r1", "r2"), 2)
    return url


@pytest.fixture
def archive(tmp_path):
    return Archive(str(tmp_path / "online"))


def read_ids(archive):
    return sorted(read_table(f"{archive.root}/events", EVENTS).column("event_id").to_pylist())


EXPECTED = sorted([f"{n:04d}" for n in range(300)] * 2)


def test_spark_takes_all_once(url, archive):
    with spark_session("test") as session:
        assert compact_kafka(url, archive, spark_mapper(session))[:2] == (300, 2)
        assert read_ids(archive) == EXPECTED
        assert compact_kafka(url, archive, spark_mapper(session))[:3] == (0, 0, 0)
    found = read_table(f"{archive.root}/recommendations", RECOMMENDATIONS)
    assert found.column("request_id").to_pylist() == ["r1", "r2"]


def test_it_goes_on_where_the_plain_compaction_ended_and_back(url, archive):
    with contextlib.closing(open_sink(url, 30)) as sink:
        assert compact(sink, archive)[:2] == (300, 2)
        sink.write_events([make_event(n) for n in range(295, 310)])
        assert compact_kafka(url, archive, map_in_process)[:3] == (10, 0, 5)
        sink.write_events([make_event(310)])
        assert compact(sink, archive)[:3] == (1, 0, 0)
    assert read_ids(archive) == sorted([f"{n:04d}" for n in range(311)] * 2)


def test_several_rounds_take_all_once(url, archive, monkeypatch):
    monkeypatch.setattr(kafka_to_parquet, "N_RECORDS", 7)
    assert compact_kafka(url, archive, map_in_process)[:2] == (300, 2)
    assert read_ids(archive) == EXPECTED


def test_an_erased_session_stays_out(url, archive):
    with contextlib.closing(open_sink(url, 30)) as sink:
        sink.erase_session("s1")
    assert compact_kafka(url, archive, map_in_process)[:2] == (285, 0)


def test_a_process_that_dies_loses_and_doubles_nothing(url, archive):
    def die_after_two(work, shared, parts):
        yield from map_in_process(work, shared, parts[:2])
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        compact_kafka(url, archive, die_after_two)
    assert archive.files(EVENTS) == []
    assert compact_kafka(url, archive, map_in_process)[:2] == (300, 2)
    assert read_ids(archive) == EXPECTED


def test_another_sink_is_refused(tmp_path, archive):
    with pytest.raises(ValueError, match="no Kafka"):
        compact_kafka(f"sqlite:///{tmp_path}/events.db", archive, map_in_process)
