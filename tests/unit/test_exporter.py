"""Counts of shoppers' events and comparisons of versions, on shoppers with obvious answers."""

import random
import time
import tracemalloc
from contextlib import closing

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.events.open import open_sink
from components.events.sink import Batch
from components.online.exporter import Exporter, serve_metrics
from components.online.follow import Follower
from components.online.live import OTHER, UNKNOWN, Arm, Live, Pair
from components.online.live_lift import HourlySums, compare
from components.online.live_settings import LiveSettings
from tests.shoppers import (
    MINUTE_US,
    START_US,
    by_time,
    make_event,
    make_list,
    shop,
    split,
    write,
)

OLD, NEW = Arm("1", "default"), Arm("2", "default")
LATER_US = START_US + 60 * MINUTE_US


def live_with(*records, **settings):
    live = Live(LiveSettings(**settings))
    live.add(*split(records))
    return live


def settled(*records, **settings):
    """{arm: (sessions, lists, clicks, adds, purchases)} when all sessions are over."""
    live = live_with(*records, **settings)
    live.settle(LATER_US)
    return {arm: (sums.n_sessions, *sums.totals()) for arm, sums in live.sums.items()}


# ---------------------------------------------------------------- counts


def test_a_click_counts_for_the_version_that_was_shown():
    live = live_with(
        make_list("a", model_version="1"),
        make_list("b", model_version="2"),
        make_event("view_item_list", "milk", "sugar", request_id="b"),
        make_event("select_item", "milk", request_id="b"),
    )
    assert live.impressions == {NEW: 2}
    assert live.events == {("select_item", NEW): 1}


def test_carts_and_orders_without_a_request_count_for_the_last_list_with_the_product():
    live = live_with(
        make_list("a", model_version="1"),
        make_list("b", model_version="2"),
        make_list("c", model_version="3", items=("bread",)),
        make_event("add_to_cart", "milk"),
        make_event("purchase", "milk", "bread", "soap"),
    )
    assert live.events == {
        ("add_to_cart", NEW): 1,
        ("purchase", NEW): 1,
        ("purchase", Arm("3", "default")): 1,
    }


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (make_event("select_item", "soap", request_id="a"), "not_recommended"),
        (make_event("select_item", "milk"), "not_recommended"),
        (make_event("add_to_cart", "milk", session_id="bob"), "not_recommended"),
        (make_event("select_item", "milk", request_id="a", session_id="eve"), "other_session"),
        (
            make_event("select_item", "milk", request_id="a", ts_us=START_US - 5 * MINUTE_US),
            "before_list",
        ),
        (
            make_event("select_item", "milk", request_id="a", ts_us=START_US + 25 * 60 * MINUTE_US),
            "late",
        ),
    ],
)
def test_what_is_no_answer_to_a_recommendation_counts_for_none(event, outcome):
    live = live_with(make_list("a"), event)
    assert not live.events
    assert live.read == {outcome: 1}


def test_a_thousand_clicks_on_a_product_of_a_list_are_one():
    clicks = [
        make_event("select_item", "milk", request_id="a", ts_us=START_US + i) for i in range(1000)
    ]
    assert settled(make_list("a"), *clicks) == {OLD: (1, 1, 1, 0, 0)}


def test_an_event_may_come_before_its_list():
    live = Live(LiveSettings())
    live.add([], [make_event("select_item", "milk", request_id="a")])
    assert not live.events
    live.add([make_list("a")], [])
    assert live.events == {("select_item", OLD): 1}


def test_forged_request_ids_are_unknown_and_take_bounded_memory():
    live = Live(LiveSettings(max_waiting=100))
    for i in range(5_000):
        live.add([], [make_event("select_item", "milk", request_id=f"forged-{i}")])
    live.settle(LATER_US)
    assert live.events == {("select_item", UNKNOWN): 5_000}
    assert live.read == {"unknown_request": 5_000}


def test_further_versions_are_other_and_a_version_that_is_gone_makes_room():
    lists = [make_list(str(i), model_version=f"v{i}", session_id=str(i)) for i in range(2_000)]
    clicks = [
        make_event("select_item", "milk", request_id=str(i), session_id=str(i))
        for i in range(2_000)
    ]
    live = live_with(*lists, *clicks, max_arms=5)
    assert live.events["select_item", OTHER] == 1_995
    assert len(live.events) == 6
    later = START_US + 49 * 60 * MINUTE_US
    live.add(
        [make_list("new", ts_us=later, model_version="new")],
        [make_event("select_item", "milk", request_id="new", ts_us=later)],
    )
    assert live.events["select_item", Arm("new", "default")] == 1
    assert len(live.events) == 6


def test_memory_is_bounded_whatever_comes():
    """20,000 lists in memory, each with products of its own, would be 30 MB."""
    live = Live(LiveSettings(max_requests=1_000, max_sessions=500, max_waiting=100))
    tracemalloc.start()
    for i in range(20_000):
        name = f"n{i}"
        live.add(
            [make_list(name, session_id=name, items=(f"p{name}",), model_version=name)],
            [make_event("select_item", f"p{name}", request_id=f"forged-{name}")],
        )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert live.dropped == {"lists": 19_000, "sessions": 19_500}


# ---------------------------------------------------------------- sessions


def test_a_session_counts_once_its_time_is_over_with_what_happened_until_then():
    records = [
        make_list("a"),
        make_list("b", ts_us=START_US + 10 * MINUTE_US),
        make_event("select_item", "milk", request_id="a", ts_us=START_US + 20 * MINUTE_US),
        make_event("select_item", "milk", request_id="b", ts_us=START_US + 29 * MINUTE_US),
    ]
    live = live_with(*records)
    live.settle(START_US + 31 * MINUTE_US)
    assert not live.sums, "late events may come"
    assert live.n_open == 1
    records += [make_event("select_item", "sugar", request_id="b", ts_us=START_US + 31 * MINUTE_US)]
    assert settled(*records) == {OLD: (1, 2, 2, 0, 0)}


def test_a_session_that_sees_two_versions_counts_for_each_with_its_lists():
    assert settled(
        make_list("a", model_version="1"),
        make_list("b", model_version="1"),
        make_list("c", model_version="2"),
        make_event("select_item", "milk", request_id="c"),
        make_event("purchase", "milk"),
    ) == {OLD: (1, 2, 0, 0, 0), NEW: (1, 1, 1, 0, 1)}


def test_lists_without_a_session_are_sessions_of_their_own():
    assert settled(
        make_list("a", session_id=None),
        make_list("b", session_id=None),
        make_event("select_item", "milk", request_id="b", session_id="ada"),
    ) == {OLD: (2, 2, 1, 0, 0)}


def test_a_robot_is_not_compared():
    lists = [make_list(str(i)) for i in range(300)]
    live = live_with(*lists)
    live.settle(LATER_US)
    assert not live.sums
    assert live.dropped == {"robots": 1}


def test_what_is_older_than_the_window_is_forgotten():
    live = live_with(make_list("a"))
    live.settle(LATER_US)
    assert live.sums[OLD].n_sessions == 1
    live.settle(START_US + 50 * 60 * MINUTE_US)
    assert live.sums[OLD].n_sessions == 0


# ---------------------------------------------------------------- comparisons


def compared(new_rate, *, n=8_000, old_rate=0.05, seed=0):
    records = [*shop("1", n, old_rate, seed=seed), *shop("2", n // 2, new_rate, seed=seed)]
    live = live_with(*sorted(records, key=by_time))
    live.settle(START_US + 100 * MINUTE_US)
    return dict(live.compare())


def test_bounds_hold_the_truth_and_are_on_its_side():
    new, old = Arm("2", ""), Arm("1", "")
    worse = compared(0.03)[Pair("select_item", new, old)]
    assert -1 < worse.lower < -0.4 < worse.upper < 0
    better = compared(0.08)[Pair("select_item", new, old)]
    assert 0 < better.lower < 0.6 < better.upper
    equal = compared(0.05)
    assert (
        equal[Pair("select_item", new, old)].lower < 0 < equal[Pair("select_item", new, old)].upper
    )
    turned = equal[Pair("select_item", old, new)]
    assert turned.lower == pytest.approx(1 / (1 + equal[Pair("select_item", new, old)].upper) - 1)


def test_a_version_that_nobody_clicks_is_worse_for_certain():
    bounds = compared(0.0)[Pair("select_item", Arm("2", ""), Arm("1", ""))]
    assert bounds.lower == -1
    assert bounds.upper < -0.6


def test_too_little_traffic_is_not_compared():
    assert compared(0.05, n=300) == {}


def test_arms_are_compared_where_there_are_several():
    records = [
        *shop("1", 2_000, 0.1, arm="a"),
        *shop("1", 2_000, 0.2, arm="b"),
        *shop("2", 2_000, 0.1, arm="a"),
    ]
    live = live_with(*sorted(records, key=by_time))
    live.settle(START_US + 100 * MINUTE_US)
    found = dict(live.compare())
    assert found[Pair("select_item", Arm("1", "b"), Arm("1", "a"))].lower > 0.4
    assert Pair("select_item", Arm("2", ""), Arm("1", "")) in found


def test_an_hour_of_one_version_alone_does_not_count():
    """Stable has quiet nights behind it when a canary comes on a busy morning."""
    chance = random.Random(3)
    stable, canary = HourlySums(), HourlySums()
    for hour, rate in ((1, 0.02), (2, 0.1)):
        for _ in range(20_000):
            stable.add(hour, (1, int(chance.random() < rate), 0, 0))
            if hour == 2 and chance.random() < 0.2:
                canary.add(hour, (1, int(chance.random() < rate), 0, 0))
    bounds = compare(canary, stable, 0)
    assert bounds.lower < 0 < bounds.upper < 0.4


def test_a_growing_share_of_changing_hours_is_no_difference():
    """5, then 50 per cent of the traffic, while the rate of both triples."""
    chance = random.Random(4)
    stable, canary = HourlySums(), HourlySums()
    for hour, share, rate in ((1, 0.05, 0.03), (2, 0.5, 0.09)):
        for _ in range(20_000):
            arm = canary if chance.random() < share else stable
            arm.add(hour, (1, int(chance.random() < rate), 0, 0))
    bounds = compare(canary, stable, 0)
    assert bounds.lower < 0 < bounds.upper


def test_looking_often_at_equal_canaries_fails_none():
    """Of 40 canaries, whose share grows and whose hours differ, looked at every five minutes."""
    wrong = 0
    for seed in range(40):
        chance = random.Random(seed)
        stable, canary = HourlySums(), HourlySums()
        for look in range(72):
            hour, share = look // 12, (0.05, 0.25, 0.5)[look // 24]
            for _ in range(60):
                arm = canary if chance.random() < share else stable
                arm.add(hour, (1, int(chance.random() < 0.2 + 0.05 * hour), 0, 0))
            bounds = compare(canary, stable, 0)
            wrong += bounds is not None and not bounds.lower < 0 < bounds.upper
    assert wrong == 0


# ---------------------------------------------------------------- the process


def scraped(url):
    """{(name, labels): value}."""
    response = httpx.get(f"{url}/metrics")
    assert response.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def in_window(series):
    names = ("fbt_online_sessions", "fbt_online_lists", "fbt_online_outcomes", "fbt_online_lift")
    return {key: value for key, value in series.items() if key[0].startswith(names)}


@pytest.fixture
def sink(tmp_path):
    sink = open_sink(f"sqlite:///{tmp_path / 'events.db'}")
    yield sink
    sink.close()


def test_a_restart_gives_the_same_sessions_and_no_jump_of_a_counter(sink, tmp_path):
    """However the sink was read the first time: as it filled, and in small parts."""
    now_us = START_US + 120 * MINUTE_US
    records = sorted([*shop("1", 900, 0.2), *shop("2", 900, 0.3)], key=by_time)
    clock = [START_US / 1e6 - 1]
    first = Exporter(LiveSettings(), lambda: closing(sink), lambda: clock[0])
    for i in range(0, len(records), 1500):
        part = records[i : i + 1500]
        clock[0] = part[-1].ts_us / 1e6
        write(sink, part)
        first.read_all(sink)
    clock[0] = now_us / 1e6
    first.read_all(sink)
    second = Exporter(LiveSettings(), lambda: closing(sink), lambda: now_us / 1e6)
    with serve_metrics(second, "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert "fbt_online_sessions" not in httpx.get(f"{url}/metrics").text
        second.read_all(sink)
        assert httpx.get(f"{url}/readyz").status_code == 200
        after = scraped(url)
    with serve_metrics(first, "127.0.0.1", 0) as port:
        before = scraped(f"http://127.0.0.1:{port}")
    assert in_window(before) == in_window(after)
    assert len(in_window(before)) >= 18
    clicked = ("fbt_events_total", ("event", "select_item"))
    assert sum(value for key, value in before.items() if key[:2] == clicked) > 800
    assert not any(key[:2] == clicked for key in after)


def test_a_long_sink_is_read_at_the_pace_of_the_slower_kind(sink):
    """Of twenty events a list, the first two hundred are of the first ten lists."""
    lists = [make_list(str(i), session_id=str(i), ts_us=START_US + i * 1000) for i in range(1_000)]
    events = [
        make_event(
            *("select_item", "milk"),
            **{"request_id": one.request_id, "session_id": one.session_id},
            **{"ts_us": one.ts_us + 1 + j, "event_id": f"{one.request_id}-{j}"},
        )
        for one in lists
        for j in range(20)
    ]
    for i in range(0, len(lists), 100):
        write(sink, lists[i : i + 100])
    write(sink, events)
    live, follower = Live(LiveSettings(max_requests=600)), Follower(200, disorder=0)
    now_us = LATER_US
    is_last, newest = False, 0
    while not is_last:
        part = follower.read(sink, now_us)
        live.add(part.lists, part.events)
        live.settle(part.until_us)
        assert newest <= part.until_us, "time goes on"
        is_last, newest = part.is_last, part.until_us
    assert live.events == {("select_item", OLD): 1_000}
    late = make_list("late", ts_us=now_us)
    write(sink, [late, make_event("select_item", "milk", request_id="late", ts_us=now_us)])
    part = follower.read(sink, now_us)
    assert (part.lists[-1], len(part.events), part.is_last) == (late, 1, True)


class Partitions:
    """A sink whose reads are of one partition, then of the next, as Kafka's."""

    def __init__(self, *partitions):
        self.parts = [split(one) for one in partitions]

    def read(self, position="", limit=0):
        at = int(position or 0)
        lists, events = self.parts[at] if at < len(self.parts) else ([], [])
        return Batch(events, lists, str(at + 1), at + 1 >= len(self.parts))


def test_partitions_may_be_read_one_after_the_other():
    records = [list(shop(str(i), 100, 0.5, seed=i)) for i in range(5)]
    live, follower, sink = Live(LiveSettings()), Follower(), Partitions(*records)
    is_last = False
    while not is_last:
        part = follower.read(sink, START_US + 120 * MINUTE_US)
        live.add(part.lists, part.events)
        live.settle(part.until_us)
        is_last = part.is_last
    assert [live.sums[Arm(str(i), "default")].n_sessions for i in range(5)] == [100] * 5
    assert live.read["counted"] > 0.99 * live.read.total()


def test_how_far_behind_is_told_while_the_sink_is_away(sink):
    clock = [time.time()]
    exporter = Exporter(LiveSettings(), lambda: closing(sink), lambda: clock[0])
    exporter.read_all(sink)
    with serve_metrics(exporter, "127.0.0.1", 0) as port:
        assert scraped(f"http://127.0.0.1:{port}")["fbt_online_behind_seconds",] < 1
        clock[0] += 90
        assert scraped(f"http://127.0.0.1:{port}")["fbt_online_behind_seconds",] == pytest.approx(
            90
        )
        assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/other").status_code == 404
