"""Events as shops send them: what is understood, what is refused, and what is only counted."""

import gzip
import json
import zlib

import pytest

from bento.events.check_batch import MAX_AHEAD_US, Clock, check_events
from bento.events.read_body import MAX_BODY_BYTES, check_headers, inflate, parse_batch
from bento.events.sent_batch import BodyError
from bento.events.times import TimeError, parse_time
from bento.http.errors import HttpError
from components.events.event import EventItem

NOW_US = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z
SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US


def read(body, form="native", base=0, now_us=NOW_US, max_age_h=72.0):
    """Events, refusals, and the numbers of ignored events and fields."""
    batch = parse_batch(json.dumps(body).encode(), form)
    clock = Clock.set_by(batch.sent_at, now_us, max_age_h)
    checked = check_events(batch, base, clock, 0, len(batch.events))
    n_others = sum(one is None for one in batch.events)
    return checked.events, checked.refused, n_others, batch.n_ignored_fields


def native(**fields):
    event = {"event": "select_item", "event_id": "e1", "items": [{"item_id": "tea"}], **fields}
    return {"events": [{name: value for name, value in event.items() if value is not ...}]}


def only(found):
    """The one event of a body that is all good."""
    (event,), refused, n_others, _ = found
    assert (refused, n_others) == ([], 0)
    return event


def error_of(found):
    """The field and what was expected of it."""
    events, (refused,), _, _ = found
    assert events == []
    return refused.errors[0].field, refused.errors[0].expected


def test_an_event_keeps_every_field_that_is_stored():
    event = only(
        read(
            native(
                event="purchase",
                timestamp="2026-09-21T16:13:19+02:00",
                session_id="s1",
                request_id="r1",
                order_id="o1",
                items=[{"item_id": "tea", "index": 3, "quantity": 2, "price": 1.5}],
            )
        )
    )
    assert event._asdict() == {
        "event_id": "e1",
        "event": "purchase",
        "ts_us": NOW_US - SECOND_US,
        "received_us": NOW_US,
        "session_id": "s1",
        "request_id": "r1",
        "order_id": "o1",
        "items": (EventItem("tea", 3, 2.0, 1.5),),
    }


def test_names_of_ga4_are_synonyms_and_our_own_win():
    event = only(
        read(
            native(event=..., name="purchase", item_list_id="list", transaction_id="order")
            | {"sent_at": None}
        )
    )
    assert (event.event, event.request_id, event.order_id) == ("purchase", "list", "order")
    both = only(read(native(request_id="ours", item_list_id="theirs")))
    assert both.request_id == "ours"


def test_without_a_time_an_event_happened_now():
    assert only(read(native())).ts_us == NOW_US


@pytest.mark.parametrize(
    "written",
    [
        "2026-09-21T14:13:20Z",
        "2026-09-21T16:13:20+02:00",
        "2026-09-21T14:13:20.000Z",
        1_790_000_000,
        1_790_000_000.0,
        1_790_000_000_000,
        1_790_000_000_000_000,
        "1790000000",
        "1790000000000",
    ],
)
def test_times_are_told_apart_by_form_and_magnitude(written):
    assert parse_time(written) == NOW_US


def test_times_keep_microseconds():
    assert parse_time(1_790_000_000_000_001) == NOW_US + 1
    assert parse_time("2026-09-21T14:13:20.000001Z") == NOW_US + 1
    assert parse_time(1_790_000_000.5) == NOW_US + SECOND_US // 2


@pytest.mark.parametrize(
    "written",
    [
        "2026-09-21T14:13:20",  # whose clock?
        "2026-09-21",
        "21/09/2026 14:13",
        "yesterday",
        "",
        0,
        -1_790_000_000,
        179_000_000_000,  # neither seconds nor milliseconds
        1.79e18,  # nanoseconds
        float("1e300"),
        True,
        [],
        {},
    ],
)
def test_ambiguous_and_impossible_times_are_refused(written):
    with pytest.raises(TimeError, match="ISO 8601 with a time zone"):
        parse_time(written)
    field, expected = error_of(read(native(timestamp=written)))
    assert field == "timestamp"
    assert expected.startswith("ISO 8601")


def test_late_events_are_kept_as_long_as_the_setting_says():
    day_ago = (NOW_US - 24 * HOUR_US) // SECOND_US
    assert only(read(native(timestamp=day_ago), max_age_h=25)).ts_us == day_ago * SECOND_US
    assert error_of(read(native(timestamp=day_ago), max_age_h=23)) == (
        "timestamp",
        "at most 23 hours ago",
    )


def test_an_hour_in_the_future_is_a_clock_and_more_is_refused():
    soon = (NOW_US + MAX_AHEAD_US) // SECOND_US
    assert only(read(native(timestamp=soon))).ts_us == soon * SECOND_US
    assert error_of(read(native(timestamp=soon + 1))) == (
        "timestamp",
        "at most an hour in the future",
    )


@pytest.mark.parametrize("wrong_h", [-48, -2, 2, 48])
def test_sent_at_corrects_a_wrong_clock(wrong_h):
    clock = NOW_US + wrong_h * HOUR_US
    body = native(timestamp=(clock - 60 * SECOND_US) / SECOND_US)
    assert only(read({**body, "sent_at": clock / SECOND_US})).ts_us == NOW_US - 60 * SECOND_US


def test_a_body_that_was_kept_for_days_is_no_wrong_clock():
    sent_us = NOW_US - 100 * HOUR_US
    body = {**native(timestamp=sent_us // SECOND_US), "sent_at": sent_us // SECOND_US}
    assert error_of(read(body)) == ("timestamp", "at most 72 hours ago")


def test_a_sent_at_that_is_no_time_refuses_the_body():
    with pytest.raises(BodyError, match=r"sent_at: found \"soon\", expected ISO 8601"):
        read({**native(), "sent_at": "soon"})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"event": ...}, "event"),
        ({"event": 7}, "event"),
        ({"event": None}, "event"),
        ({"event_id": ...}, "event_id"),
        ({"event_id": ""}, "event_id"),
        ({"event_id": "x" * 129}, "event_id"),
        ({"event_id": "a\0b"}, "event_id"),
        ({"event_id": True}, "event_id"),
        ({"session_id": "x" * 129}, "session_id"),
        ({"session_id": "ann@shop.example"}, "session_id"),
        ({"session_id": "ann%40shop.example"}, "session_id"),
        ({"request_id": "x" * 257}, "request_id"),
        ({"request_id": {"id": 1}}, "request_id"),
        ({"event": "purchase"}, "order_id"),
        ({"event": "purchase", "order_id": ""}, "order_id"),
        ({"items": ...}, "items"),
        ({"items": []}, "items"),
        ({"items": "tea"}, "items"),
        ({"items": ["tea"]}, "items.0"),
        ({"items": [{"item_id": "tea"}] * 1001}, "items"),
        ({"items": [{}]}, "items.0.item_id"),
        ({"items": [{"item_id": ""}]}, "items.0.item_id"),
        ({"items": [{"item_id": None}]}, "items.0.item_id"),
        ({"items": [{"item_id": "x" * 257}]}, "items.0.item_id"),
        ({"items": [{"item_id": "a\0b"}]}, "items.0.item_id"),
        ({"items": [{"item_id": "a", "index": -1}]}, "items.0.index"),
        ({"items": [{"item_id": "a", "index": 0.5}]}, "items.0.index"),
        ({"items": [{"item_id": "a", "index": 10_001}]}, "items.0.index"),
        ({"items": [{"item_id": "a", "index": True}]}, "items.0.index"),
        ({"items": [{"item_id": "a", "quantity": -1}]}, "items.0.quantity"),
        ({"items": [{"item_id": "a", "quantity": "many"}]}, "items.0.quantity"),
        ({"items": [{"item_id": "a"}, {"item_id": "b", "price": -0.01}]}, "items.1.price"),
        ({"items": [{"item_id": "a", "price": 1e10}]}, "items.0.price"),
        ({"items": [{"item_id": "a", "price": "9,95"}]}, "items.0.price"),
    ],
)
def test_a_bad_field_is_named(fields, field):
    assert error_of(read(native(**fields)))[0] == field


def test_good_events_are_kept_beside_bad_ones():
    bodies = [native(event_id=f"e{n}")["events"][0] for n in range(5)]
    bodies[1]["items"] = []
    bodies[3] = "no event"
    events, refused, _, _ = read({"events": bodies})
    assert [event.event_id for event in events] == ["e0", "e2", "e4"]
    assert [(one.index, one.event_id) for one in refused] == [(1, "e1"), (3, None)]


def test_numbers_may_be_text_and_ids_numbers():
    event = only(
        read(
            native(
                event_id=17,
                items=[{"item_id": 4711, "index": "2", "quantity": "2", "price": "9.95"}],
            )
        )
    )
    assert event.event_id == "17"
    assert event.items == (EventItem("4711", 2, 2.0, 9.95),)


def test_other_events_and_unknown_fields_are_counted():
    body = {
        "events": [
            native(currency="EUR", items=[{"item_id": "a", "item_brand": "b", "x": 1}])["events"][
                0
            ],
            {"event": "page_view", "page": "/"},
            {"name": "scroll"},
        ],
        "user_agent": "curl",
    }
    events, refused, n_others, n_fields = read(body)
    assert (len(events), refused, n_others, n_fields) == (1, [], 2, 4)


@pytest.mark.parametrize("base", [0, 1])
def test_the_first_position_is_0_or_1_as_declared(base):
    body = native(items=[{"item_id": "a", "index": base}, {"item_id": "b", "index": base + 1}])
    assert [item.position for item in only(read(body, base=base)).items] == [0, 1]


def test_a_position_below_the_declared_base_is_refused():
    assert error_of(read(native(items=[{"item_id": "a", "index": 0}]), base=1)) == (
        "items.0.index",
        "1 or more: index_base is 1",
    )


def test_an_order_id_of_another_event_is_not_stored():
    assert only(read(native(order_id="o1"))).order_id is None


def test_times_do_not_tell_events_apart_and_all_else_does():
    """A client that sends again has a new `sent_at`."""
    first = only(read({**native(timestamp=NOW_US / 1e6), "sent_at": NOW_US / 1e6}))
    again = only(read({**native(timestamp=NOW_US / 1e6), "sent_at": NOW_US / 1e6 + 5}))
    assert first.ts_us != again.ts_us
    assert first.digest == again.digest
    assert first.digest != only(read(native(session_id="s2"))).digest


# Google Analytics 4


def ga4(name="view_item_list", params=None, **body):
    params = {"items": [{"item_id": "tea", "index": 1}], **(params or {})}
    return {"client_id": "77.88", "events": [{"name": name, "params": params}], **body}


def test_a_measurement_protocol_body_is_understood():
    body = ga4(
        "purchase",
        {
            "session_id": "visit-9",
            "transaction_id": "T_12345",
            "item_list_id": "r1",
            "currency": "EUR",
            "engagement_time_msec": 100,
            "items": [{"item_id": "SKU_1", "item_name": "x", "index": 0, "price": 10.01}],
        },
        timestamp_micros=NOW_US - 5,
        non_personalized_ads=False,
    )
    events, refused, _, n_fields = read(body, "ga4")
    assert refused == []
    assert events[0]._replace(event_id="?") == (
        "?",
        "purchase",
        NOW_US - 5,
        NOW_US,
        "visit-9",
        "r1",
        "T_12345",
        (EventItem("SKU_1", 0, None, 10.01),),
    )
    # non_personalized_ads, currency, engagement_time_msec, item_name
    assert n_fields == 4


def test_ga4_events_get_the_same_id_whenever_they_are_sent():
    ids = [only(read(body, "ga4")).event_id for body in (ga4(), ga4(), ga4(client_id="9"))]
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) <= 128
    other = only(read(ga4(params={"items": [{"item_id": "milk"}]}), "ga4"))
    assert other.event_id != ids[0]
    assert only(read(ga4(params={"event_id": "own"}), "ga4")).event_id == "own"


@pytest.mark.parametrize(
    ("session_id", "stored"),
    [
        (..., "77.88"),
        (1655936179, "77.88.1655936179"),
        ("1655936179", "77.88.1655936179"),
        ("visit-9", "visit-9"),
    ],
)
def test_ga4_session_ids_that_are_times_are_made_unique_by_the_client(session_id, stored):
    params = {} if session_id is ... else {"session_id": session_id}
    assert only(read(ga4(params=params), "ga4")).session_id == stored


def test_an_event_time_of_ga4_overrides_that_of_the_body():
    body = ga4(timestamp_micros=NOW_US - 10)
    assert only(read(body, "ga4")).ts_us == NOW_US - 10
    body["events"][0]["timestamp_micros"] = str(NOW_US - 20)
    assert only(read(body, "ga4")).ts_us == NOW_US - 20


def test_a_list_that_only_the_items_of_ga4_name_counts_if_it_is_one():
    one = [{"item_id": "a", "item_list_id": "r1"}, {"item_id": "b", "item_list_id": "r1"}]
    two = [one[0], {"item_id": "b", "item_list_id": "r2"}]
    assert only(read(ga4(params={"items": one}), "ga4")).request_id == "r1"
    assert only(read(ga4(params={"items": two}), "ga4")).request_id is None


def test_errors_of_ga4_bodies_use_its_names():
    params = {"items": [{"item_id": "a", "price": -1}]}
    assert error_of(read(ga4(params=params), "ga4"))[0] == "params.items.0.price"
    assert error_of(read(ga4("purchase"), "ga4"))[0] == "params.transaction_id"
    body = ga4(client_id="ann@shop.example")
    assert error_of(read(body, "ga4"))[0] == "params.session_id"


def test_streams_of_ga4_hold_other_events():
    body = ga4()
    body["events"] += [{"name": "page_view"}, {"name": "session_start", "params": {}}, 7]
    events, refused, n_others, _ = read(body, "ga4")
    assert (len(events), [one.index for one in refused], n_others) == (1, [3], 2)


# Segment


def segment(event, properties, **call):
    return {
        "type": "track",
        "event": event,
        "messageId": "m1",
        "anonymousId": "anon",
        "timestamp": "2026-09-21T14:13:10.000Z",
        "sentAt": "2026-09-21T14:13:20.000Z",
        "properties": properties,
        **call,
    }


PRODUCT = {"product_id": "p1", "sku": "x", "position": 2, "quantity": 1, "price": 18.99}


@pytest.mark.parametrize(
    ("event", "properties", "name", "n_fields"),
    [
        ("Product List Viewed", {"list_id": "r1", "products": [PRODUCT]}, "view_item_list", 1),
        ("product list viewed", {"list_id": "r1", "products": [PRODUCT]}, "view_item_list", 1),
        ("Product Clicked", {"list_id": "r1", **PRODUCT}, "select_item", 1),
        ("Product Added", {"request_id": "r1", "cart_id": "c", **PRODUCT}, "add_to_cart", 2),
        (
            "Order Completed",
            {"order_id": "o", "list_id": "r1", "total": 2, "products": [PRODUCT]},
            "purchase",
            2,
        ),
    ],
)
def test_track_calls_are_understood(event, properties, name, n_fields):
    found = read(segment(event, properties), "segment", base=1)
    stored = only(found)
    assert (stored.event_id, stored.event, stored.session_id) == ("m1", name, "anon")
    assert (stored.ts_us, stored.request_id) == (NOW_US - 10 * SECOND_US, "r1")
    assert stored.order_id == ("o" if name == "purchase" else None)
    assert stored.items == (EventItem("p1", 1, 1.0, 18.99),)
    assert found[3] == n_fields


def test_batches_of_calls_keep_what_is_understood():
    calls = [
        segment("Product Clicked", PRODUCT),
        {"type": "identify", "traits": {"email": "ann@shop.example"}},
        {"type": "page", "name": "Home"},
        segment("Products Searched", {"query": "tea"}),
        segment("Order Completed", {"products": [PRODUCT]}, messageId="m2"),
        segment("Product Clicked", PRODUCT, anonymousId="ann@shop.example"),
        segment("Product Clicked", {"position": 1}),
        "no call",
    ]
    body = {"batch": calls, "sentAt": "2026-09-21T14:13:20Z", "writeKey": "k"}
    events, refused, n_others, _ = read(body, "segment")
    assert ([event.event_id for event in events], n_others) == (["m1"], 3)
    assert [(one.index, one.errors[0].field) for one in refused] == [
        (4, "properties.order_id"),
        (5, "anonymousId"),
        (6, "properties.products.0.product_id"),
        (7, "event"),
    ]


def test_a_wrong_clock_of_a_segment_client_is_corrected_once():
    late = {"timestamp": "2026-09-20T14:13:10Z", "sentAt": "2026-09-20T14:13:20Z"}
    assert only(read(segment("Product Clicked", PRODUCT, **late), "segment")).ts_us == (
        NOW_US - 10 * SECOND_US
    )
    # As Segment passes it on, the time is right already.
    passed_on = {"receivedAt": "2026-09-21T14:13:20Z", "sentAt": "2026-09-20T14:13:20Z"}
    call = segment("Product Clicked", PRODUCT, **passed_on)
    assert only(read(call, "segment")).ts_us == NOW_US - 10 * SECOND_US


# Bodies


@pytest.mark.parametrize("form", ["native", "ga4", "segment"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"events": [',
        b"\xff\xfe",
        b"null",
        b"[]",
        b"7",
        b'{"events": NaN}',
        b"[" * 9999,
    ],
)
def test_a_broken_body_is_refused(form, body):
    with pytest.raises(HttpError) as caught:
        parse_batch(body, form)
    assert caught.value.problem.status == 400


def test_a_body_that_is_cut_off_is_called_so():
    with pytest.raises(HttpError) as caught:
        parse_batch(b'{"events": [{"event": "purch', "native")
    [error] = caught.value.problem.errors
    assert error.found.startswith("a body that is cut off (EOF while parsing a string at line 1")


@pytest.mark.parametrize("events", [None, {}, [], "x", [{"event": "page_view"}] * 1001])
@pytest.mark.parametrize(
    ("form", "name"), [("native", "events"), ("ga4", "events"), ("segment", "batch")]
)
def test_a_batch_has_1_to_1000_events(form, name, events):
    with pytest.raises(HttpError, match="Bad Request") as caught:
        read({name: events}, form)
    assert caught.value.problem.errors[0].field == name


GZIP = {b"content-encoding": b"gzip"}


def test_gzip_bodies_are_inflated():
    assert inflate(gzip.compress(b"{}"), GZIP) == b"{}"
    assert inflate(b"{}", {}) == b"{}"


def test_a_gzip_bomb_is_refused_before_it_is_inflated():
    bomb = gzip.compress(bytes(200 * MAX_BODY_BYTES))
    assert len(bomb) < MAX_BODY_BYTES
    with pytest.raises(HttpError) as caught:
        inflate(bomb, GZIP)
    assert caught.value.problem.status == 413
    assert len(inflate(gzip.compress(bytes(MAX_BODY_BYTES)), GZIP)) == MAX_BODY_BYTES


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        gzip.compress(b"{}" * 99, mtime=0)[:-9],
        2 * gzip.compress(b"{}", mtime=0),
        zlib.compress(b"{}"),
        b"",
    ],
)
def test_what_is_no_whole_gzip_is_refused(body):
    with pytest.raises(HttpError) as caught:
        inflate(body, GZIP)
    assert caught.value.problem.status == 400


@pytest.mark.parametrize(
    ("kind", "coding", "status"),
    [
        (None, None, None),
        ("application/json", "gzip", None),
        ("application/json; charset=utf-8", "identity", None),
        ("text/plain;charset=UTF-8", "GZIP", None),
        ("application/cloudevents+json", None, None),
        ("multipart/form-data; boundary=x", None, 415),
        ("application/x-www-form-urlencoded", None, 415),
        ("image/gif", None, 415),
        ("application/json", "br", 415),
        ("application/json", "gzip, gzip", 415),
    ],
)
def test_content_types(kind, coding, status):
    given = {b"content-type": kind, b"content-encoding": coding}
    headers = {name: value.encode() for name, value in given.items() if value is not None}
    if status is None:
        check_headers(headers)
    else:
        with pytest.raises(HttpError) as caught:
            check_headers(headers)
        assert caught.value.problem.status == status
