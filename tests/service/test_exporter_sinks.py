"""The exporter's reader on every kind of sink: the same counts, in small parts."""

import contextlib
import time

import pytest

from components.events.open import open_sink
from components.online.follow import Follower
from components.online.live import Arm, Live
from components.online.live_settings import LiveSettings
from tests.shoppers import MINUTE_US, by_time, make_event, make_list, shop, split, write


@pytest.fixture(params=["sqlite", "postgresql", "kafka"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'events.db'}"
    if request.param == "kafka":
        return request.getfixturevalue("kafka_broker").url()
    return request.getfixturevalue("postgres_server").new_database()


def test_all_sinks_give_the_same_counts(url):
    # Of today: Kafka removes what is old.
    now_us = int(time.time() * 1e6)
    told = {"start_us": now_us - 120 * MINUTE_US}
    records = sorted([*shop("1", 400, 0.5, **told), *shop("2", 400, 0.5, **told)], key=by_time)
    lists, events = split(records)
    with contextlib.closing(open_sink(url)) as sink:
        write(sink, records)
        live, follower = Live(LiveSettings()), Follower(300)
        read_to_the_end(live, follower, sink, now_us)
        for version in ("1", "2"):
            sums = live.sums[Arm(version, "default")]
            assert sums.n_sessions == 400
            assert sums.totals()[0] == sum(one.model_version == version for one in lists)
        assert live.read.total() == sum(len(one.items) for one in events)
        assert live.read["counted"] > 0.99 * live.read.total()
        later = make_event("select_item", "milk", request_id="later", ts_us=now_us)
        write(sink, [make_list("later", ts_us=now_us), later])
        before = live.events["select_item", Arm("1", "default")]
        read_to_the_end(live, follower, sink, now_us)
        assert live.events["select_item", Arm("1", "default")] == before + 1


def read_to_the_end(live, follower, sink, now_us):
    is_last = False
    while not is_last:
        part = follower.read(sink, now_us)
        live.add(part.lists, part.events)
        live.settle(part.until_us)
        is_last = part.is_last
