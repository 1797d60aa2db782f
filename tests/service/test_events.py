"""POST /events of a real service: what is accepted is stored, once, whatever happens."""

import contextlib
import gzip
import json
import random
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from components.package.server import ServerError, find_free_port
from tests.factories import make_bundle
from tests.postgres import postgres
from tests.service.ingesting import click, ingesting, numbered, slices, stored
from tests.service.serving import TOKEN, connect, everything, metric, served

KEY = "public-key"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
ORIGIN = "https://shop.example"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("events") / "bundle")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('sink') / 'events.db'}"


@pytest.fixture(scope="module")
def server(bundle, url):
    """The whole service, with two workers and a key."""
    settings = {"events_url": url, "events_key": KEY, "admin_token": TOKEN}
    limits = {"read_timeout_s": 2, "cors_origins": ORIGIN}
    with served(bundle, workers=2, database_url="off", **settings, **limits) as server:
        yield server


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.url, timeout=30, headers={"X-Fbt-Key": KEY}) as client:
        yield client


@pytest.fixture
def sqlite(tmp_path):
    return f"sqlite:///{tmp_path / 'events.db'}"


@pytest.fixture(params=["sqlite", "postgresql", "kafka"])
def sink_url(request, sqlite):
    if request.param == "sqlite":
        return sqlite
    if request.param == "kafka":
        return request.getfixturevalue("kafka_broker").url()
    return request.getfixturevalue("postgres_server").new_database()


def send(client, *events, path="/events", **more):
    return client.post(path, json={"events": list(events)}, **more)


def told(answer):
    assert answer.status_code == 202, answer.text
    found = answer.json()
    return tuple(found[name] for name in ("accepted", "duplicates", "conflicts"))


def stored_of(url, prefix):
    return [event for event in stored(url) if event.event_id.startswith(prefix)]


def test_what_is_accepted_is_stored_with_its_fields(client, url):
    answer = send(
        client,
        click("fields-1", request_id="r1", timestamp=time.time(), colour="red"),
        {"event": "page_view"},
        click("fields-2", items=[{"item_id": "tea", "price": -1}]),
    )
    assert told(answer) == (1, 0, 0)
    found = answer.json()
    assert (found["ignored_events"], found["ignored_fields"]) == (1, 1)
    (refused,) = found["refused"]
    assert (refused["index"], refused["event_id"]) == (2, "fields-2")
    assert refused["errors"] == [
        {"field": "items.0.price", "found": "-1", "expected": "greater than or equal to 0"}
    ]
    (event,) = stored_of(url, "fields")
    assert (event.session_id, event.request_id, event.items[0].position) == ("s1", "r1", 0)
    assert abs(event.ts_us - event.received_us) < 60_000_000


def test_an_event_is_stored_once_and_the_first_of_an_id_stays(client, url):
    event = click("once-1")
    assert told(send(client, event, event)) == (1, 1, 0)
    assert told(send(client, {**event, "timestamp": time.time() - 9})) == (0, 1, 0)
    assert told(send(client, {**event, "session_id": "other"}, click("once-2"))) == (1, 0, 1)
    assert [event.session_id for event in stored_of(url, "once")] == ["s1", "s1"]


def test_formats_of_others_end_in_the_same_store(client, url):
    params = {"item_list_id": "ga4-list", "items": [{"item_id": "tea", "index": 1}]}
    body = {"client_id": "1.2", "events": [{"name": "select_item", "params": params}]}
    path = "/events?format=ga4&index_base=1&measurement_id=G-1&api_secret=" + KEY
    assert told(client.post(path, json=body, headers={"X-Fbt-Key": KEY})) == (1, 0, 0)
    properties = {"list_id": "segment-list", "product_id": "tea", "position": 1}
    call = {"type": "track", "event": "Product Clicked", "messageId": "segment-1"}
    call |= {"anonymousId": "anon", "properties": properties}
    path = "/events?format=segment&index_base=1"
    for body in (call, {"batch": [call, {"type": "page"}]}):
        assert client.post(path, json=body).status_code == 202
    found = {event.request_id: event for event in stored(url)}
    assert found["ga4-list"].items == found["segment-list"].items
    assert found["segment-list"].items[0].position == 0
    assert sum(event.event_id == "segment-1" for event in stored(url)) == 1


def test_beacons_send_plain_text_and_the_key_in_the_path(server, url):
    body = json.dumps({"events": [click("beacon-1")]})
    headers = {"Content-Type": "text/plain;charset=UTF-8", "Origin": ORIGIN}
    answer = httpx.post(f"{server.url}/events?key={KEY}", content=body, headers=headers, timeout=20)
    assert told(answer) == (1, 0, 0)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert len(stored_of(url, "beacon")) == 1


def test_pages_of_the_shop_may_send_the_key_in_a_header(server):
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-fbt-key",
    }
    allowed = httpx.options(f"{server.url}/events", headers=asked, timeout=20)
    assert allowed.status_code == 200
    assert "X-Fbt-Key" in allowed.headers["Access-Control-Allow-Headers"]
    other = httpx.options(
        f"{server.url}/events", headers={**asked, "Origin": "https://x.example"}, timeout=20
    )
    assert other.status_code == 400


@pytest.mark.parametrize(
    ("query", "more", "status"),
    [
        ("", {}, 401),
        ("?key=wrong", {}, 401),
        ("?api_secret=", {}, 401),
        ("", {"headers": {"X-Fbt-Key": "wrong"}}, 401),
        ("", {"auth": ("wrong", KEY)}, 401),
        ("", {"headers": {"Authorization": "Basic !"}}, 401),
        ("", {"headers": {"X-Fbt-Key": KEY}}, 202),
        (f"?key={KEY}", {}, 202),
        (f"?api_secret={KEY}", {}, 202),
        ("", {"auth": (KEY, "")}, 202),
    ],
)
def test_requests_name_the_key(server, query, more, status):
    body = {"events": [click("key-1")]}
    answer = httpx.post(f"{server.url}/events{query}", json=body, timeout=20, **more)
    assert answer.status_code == status
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_the_key_reads_nothing(client):
    assert client.get("/events").status_code == 405
    assert client.delete("/events/sessions/s1").status_code == 401
    assert client.get("/rules").status_code == 401


GZIP = {"Content-Encoding": "gzip", "Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b'{"events": [{"event": "sel', {}, 400),
        (b"", {}, 400),
        (gzip.compress(json.dumps({"events": [click("gzip-1")]}).encode()), GZIP, 202),
        (gzip.compress(bytes(400_000_000)), GZIP, 413),
        (gzip.compress(b"{}" * 99)[:-9], GZIP, 400),
        (b"x" * 3_000_000, {}, 413),
        (b"{}", {"Content-Type": "image/png"}, 415),
        (b"{}", {"Content-Encoding": "br"}, 415),
        (json.dumps({"events": [click(n) for n in range(1001)]}).encode(), {}, 400),
        (json.dumps({"events": [click(1, timestamp=1), click(2, items=[])]}).encode(), {}, 400),
        (json.dumps({"events": [{"event": "page_view"}]}).encode(), {}, 202),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else None,
)
def test_bodies(client, content, headers, status):
    headers = {"Content-Type": "application/json"} | headers
    answer = client.post("/events", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    if status != 202:
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_wrong_query_is_named(client):
    answer = send(client, click("q"), path="/events?format=xml&index_base=2&colour=red")
    assert answer.status_code == 400
    assert {one["field"] for one in answer.json()["errors"]} == {"format", "index_base", "colour"}


def test_a_client_that_never_ends_its_body_is_told_so(server):
    connection = connect(server)
    head = b"POST /events HTTP/1.1\r\nHost: fbt\r\nX-Fbt-Key: " + KEY.encode()
    connection.sendall(head + b'\r\nContent-Length: 900\r\n\r\n{"events": [')
    assert everything(connection).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_one_session_may_click_ten_thousand_times(client, url):
    for part in slices(numbered(10_000, "bot", session_id="bot"), 1000):
        assert told(send(client, *part)) == (1000, 0, 0)
    assert len(stored_of(url, "bot")) == 10_000


def test_forged_request_ids_are_kept(client, url):
    forged = ["0" * 32, "'; drop table events; --", "../../etc/passwd", "\u202e", "x" * 256]
    events = [click(f"forged-{n}", request_id=one) for n, one in enumerate(forged)]
    assert told(send(client, *events)) == (len(forged), 0, 0)
    assert [event.request_id for event in stored_of(url, "forged")] == forged


def test_a_million_names_make_no_series(client):
    names = [{"event": f"e{n}", "event_id": "x"} for n in range(500)]
    wrong = [{"event": "purchase", "event_id": f"w{n}", f"field{n}": 1} for n in range(500)]
    assert send(client, *names, *wrong).status_code == 400
    lines = client.get("/metrics").text.splitlines()
    ours = [line for line in lines if line.startswith("fbt_events_")]
    assert len(ours) < 30
    assert not any("field" in line and "499" in line for line in ours)


def test_events_are_counted(client):
    def count(outcome):
        return metric(client, "fbt_events_received_total", event="select_item", outcome=outcome)

    before = {outcome: count(outcome) for outcome in ("stored", "duplicate", "conflict", "refused")}
    event = click("counted-1")
    send(client, event, event, {**event, "session_id": "x"}, click("counted-2", items=[]))
    after = {outcome: count(outcome) - n for outcome, n in before.items()}
    assert after == {"stored": 1, "duplicate": 1, "conflict": 1, "refused": 1}


def test_a_session_is_erased(client, url):
    assert told(send(client, *numbered(3, "erase", session_id="a/b c"), click("erase-9"))) == (
        4, 0, 0,
    )  # fmt: skip
    answer = client.delete("/events/sessions/a%2Fb%20c", headers=ADMIN)
    assert (answer.status_code, answer.json()) == (200, {"session_id": "a/b c", "erased": 3})
    assert [event.event_id for event in stored_of(url, "erase")] == ["erase-9"]
    assert client.delete("/events/sessions/a%2Fb%20c", headers=ADMIN).json()["erased"] == 0


def test_workers_share_one_memory_of_ids(client, server, url):
    """The same events at once, over connections that the two workers share out."""
    events = numbered(200, "shared")

    def send_all(_):
        with httpx.Client(base_url=server.url, timeout=30, headers={"X-Fbt-Key": KEY}) as one:
            return [told(send(one, *part)) for part in slices(events, 20)]

    with ThreadPoolExecutor(8) as threads:
        answers = [one for part in threads.map(send_all, range(8)) for one in part]
    assert [sum(column) for column in zip(*answers, strict=True)] == [200, 1400, 0]
    assert len(stored_of(url, "shared")) == 200


# Of `python -m bento.ingest`: one process, to be killed


def test_ingest_answers_events_alone(sqlite):
    with (
        ingesting(sqlite, workers=2, admin_token=TOKEN) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        assert told(send(client, click("a"))) == (1, 0, 0)
        assert client.get("/readyz").json()["details"]["events"]["state"] == "open"
        assert client.get("/recommend").status_code == 404
        assert client.get("/livez").status_code == client.get("/healthz").status_code == 200
        assert metric(client, "fbt_events_received_total", outcome="stored") == 1
        assert metric(client, "fbt_requests_total", endpoint="/events", status="202") == 1
        assert client.delete("/events/sessions/s1", headers=ADMIN).json()["erased"] == 1
    assert stored(sqlite) == []


def test_events_that_are_switched_off_are_not_found():
    with ingesting("off") as server:
        answer = httpx.post(f"{server.url}/events", json={"events": [click("a")]}, timeout=20)
        assert answer.status_code == 404
        assert "FBT_EVENTS_URL" in answer.json()["detail"]
        assert httpx.get(f"{server.url}/readyz", timeout=20).json()["details"] == {
            "events": {"state": "off"}
        }


def test_a_wrong_address_stops_the_start_without_showing_a_password():
    with pytest.raises(ServerError, match="FBT_EVENTS_URL") as caught, ingesting("redis://u:pw@h"):
        pass
    assert "pw@" not in str(caught.value)


def test_clients_have_a_rate(sqlite):
    with ingesting(sqlite, events_rate_limit="3/m") as server:
        answers = [
            httpx.post(f"{server.url}/events", json={"events": [click(n)]}, timeout=20)
            for n in range(5)
        ]
    assert [one.status_code for one in answers] == [202, 202, 202, 429, 429]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert len(stored(sqlite)) == 3


@contextlib.contextmanager
def locked(url):
    """Another program holds the database."""
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as holder:
        holder.isolation_level = None
        holder.execute("begin exclusive")
        yield
        holder.execute("rollback")


def test_a_blocked_sink_pushes_back_and_recovers(sqlite):
    """503 for those who waited, 429 for those who find the queue full; neither is stored later
    without having been accepted, unless it was sent again."""
    with (
        ingesting(sqlite) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
        ThreadPoolExecutor(40) as threads,
    ):
        assert told(send(client, click("before"))) == (1, 0, 0)
        batches = [numbered(1000, f"b{n}") for n in range(40)]
        with locked(sqlite):
            waiting = [threads.submit(send, client, *batch) for batch in batches]
            time.sleep(1)
            began = time.monotonic()
            assert client.get("/readyz").status_code == 200
            assert time.monotonic() - began < 5
            refused = [one.result() for one in waiting]
        assert {one.status_code for one in refused} == {429, 503}
        assert all(int(one.headers["Retry-After"]) > 0 for one in refused)
        assert not any("events.db" in one.text for one in refused)
        assert [told(send(client, *batch))[2] for batch in batches] == [0] * 40
    events = [event.event_id for event in stored(sqlite)]
    assert len(events) == len(set(events)) == 40_001


class Shopper(threading.Thread):
    """Sends batches again until they are accepted."""

    def __init__(self, url, name, done):
        super().__init__(daemon=True)
        self._url, self._name, self._done = url, name, done
        self.accepted = set()
        self.n_doubtful = 0
        self.gives_up = False

    def run(self):
        n = 0
        while not self._done.is_set():
            batch = numbered(50, f"{self._name}-{n}", session_id=self._name)
            while not self._send(batch):
                if self.gives_up:
                    return
                self.n_doubtful += 1
                time.sleep(0.02)
            n += 1

    def _send(self, batch):
        try:
            answer = httpx.post(f"{self._url}/events", json={"events": batch}, timeout=20)
        except httpx.TransportError:
            return False
        if answer.status_code != 202:
            return False
        accepted, duplicates, conflicts = told(answer)
        assert (accepted + duplicates, conflicts) == (50, 0)
        self.accepted |= {event["event_id"] for event in batch}
        return True


def test_nothing_is_lost_or_doubled_when_the_process_is_killed(sink_url):
    port, done, dice = find_free_port(), threading.Event(), random.Random(7)
    shoppers = [Shopper(f"http://127.0.0.1:{port}", f"s{n}", done) for n in range(4)]
    for shopper in shoppers:
        shopper.start()
    for _ in range(5):
        with ingesting(sink_url, port) as server:
            time.sleep(dice.uniform(0.05, 0.5))
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(20)
    with ingesting(sink_url, port):
        done.set()
        for shopper in shoppers:
            shopper.join(60)
            assert not shopper.is_alive()
    accepted = set().union(*(shopper.accepted for shopper in shoppers))
    found = [event.event_id for event in stored(sink_url)]
    assert len(found) == len(set(found))
    assert set(found) == accepted
    assert len(accepted) >= 100
    assert sum(shopper.n_doubtful for shopper in shoppers) > 0


def test_nothing_is_lost_or_doubled_when_the_database_is_restarted():
    with postgres() as database, ingesting(database.url()) as server:
        done = threading.Event()
        shoppers = [Shopper(server.url, f"s{n}", done) for n in range(4)]
        for shopper in shoppers:
            shopper.start()
        for _ in range(3):
            time.sleep(0.5)
            database.stop()
            time.sleep(0.5)
            database.start()
        time.sleep(0.5)
        done.set()
        for shopper in shoppers:
            shopper.join(60)
        found = [event.event_id for event in stored(database.url())]
        assert len(found) == len(set(found)) >= 200
        assert set(found) == set().union(*(shopper.accepted for shopper in shoppers))


def test_the_end_answers_whoever_was_let_in(bundle, sqlite):
    """The whole service, told to end while events come in."""
    done = threading.Event()
    with served(bundle, events_url=sqlite, database_url="off") as server:
        shoppers = [Shopper(server.url, f"s{n}", done) for n in range(4)]
        for shopper in shoppers:
            shopper.start()
        time.sleep(1)
        done.set()  # after the batch that is on its way
        server.process.send_signal(signal.SIGTERM)
        for shopper in shoppers:
            shopper.gives_up = True
            shopper.join(30)
        server.process.wait(30)
    accepted = set().union(*(shopper.accepted for shopper in shoppers))
    assert accepted <= {event.event_id for event in stored(sqlite)}
    assert accepted


def test_ingest_ends_in_order(sqlite):
    port, done = find_free_port(), threading.Event()
    shoppers = [Shopper(f"http://127.0.0.1:{port}", f"s{n}", done) for n in range(4)]
    with ingesting(sqlite, port) as server:
        for shopper in shoppers:
            shopper.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.log.read_text()
    for shopper in shoppers:
        shopper.gives_up = True
        shopper.join(30)
    accepted = set().union(*(shopper.accepted for shopper in shoppers))
    assert accepted <= {event.event_id for event in stored(sqlite)}
    assert accepted
