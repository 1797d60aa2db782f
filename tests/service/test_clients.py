"""Slow, many, greedy and odd clients, over HTTP; and settings that cannot be."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from components.package.server import ServerError
from tests.factories import make_bundle
from tests.service.serving import connect, everything, log_lines, metric, served

BODY = json.dumps({"items": ["tea"], "k": 1}).encode()
HEAD = b"POST /recommend HTTP/1.1\r\nHost: fbt\r\nContent-Length: %d\r\n\r\n" % len(BODY)
TIMEOUT_S = 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("protection") / "bundle")


@pytest.fixture(scope="module")
def server(bundle):
    with served(bundle, read_timeout_s=TIMEOUT_S, max_lag_ms=100) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


def ask(client, **more):
    return client.post("/recommend", json={"items": ["tea"], "k": 1}, **more)


@pytest.mark.parametrize("given", [HEAD[:30], HEAD[:-1], HEAD + BODY[:5]], ids=len)
def test_a_request_that_never_gets_complete_is_told_so(server, given):
    connection = connect(server)
    connection.sendall(given)
    began = time.monotonic()
    answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"application/problem+json" in answer
    assert TIMEOUT_S - 0.1 < time.monotonic() - began < TIMEOUT_S + 2


@pytest.mark.parametrize("given", [b"", b"\r\n\r\n"], ids=["nothing", "empty lines"])
def test_a_connection_that_asks_nothing_is_closed(server, given):
    connection = connect(server)
    connection.sendall(given)
    began = time.monotonic()
    assert everything(connection) == b""
    assert time.monotonic() - began < TIMEOUT_S + 2


def test_a_body_that_trickles_is_told_so_too(server, client):
    before = metric(client, "fbt_refused_total", status="408")
    connection = connect(server)
    connection.sendall(HEAD)
    connection.settimeout(0.2)
    for i in range(len(BODY)):
        connection.sendall(BODY[i : i + 1])
        try:
            answer = connection.recv(65536)
            break
        except TimeoutError:
            pass
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert metric(client, "fbt_refused_total", status="408") == before + 1


def test_a_request_in_pieces_is_answered_when_it_is_in_time(server):
    connection = connect(server)
    for piece in (HEAD[:10], HEAD[10:], BODY[:3], BODY[3:]):
        connection.sendall(piece)
        time.sleep(0.3)
    connection.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + BODY)
    assert everything(connection).count(b"HTTP/1.1 200 OK") == 2


def test_who_does_not_read_the_answers_is_hung_up_on(server, client):
    connection = connect(server)
    connection.settimeout(0.5)
    until = time.monotonic() + 20
    while sent(connection, PAGE * 50):
        assert time.monotonic() < until, "it waits for ever"
        time.sleep(0.05)
    assert time.monotonic() > until - 20 + TIMEOUT_S
    assert ask(client).status_code == 200


def test_who_asks_a_thousand_times_at_once_is_hung_up_on(server):
    connection = connect(server)
    connection.settimeout(0.5)
    while sent(connection, PAGE * 5000):
        pass


PAGE = b"GET /docs.json HTTP/1.1\r\nHost: fbt\r\n\r\n"


def sent(connection, given):
    """Whether the other side still listens, or at least has not hung up."""
    try:
        connection.sendall(given)
    except TimeoutError:
        time.sleep(0.2)
    except ConnectionError:
        return False
    return True


def test_a_thousand_slow_clients_hinder_nobody(server, client):
    slow = [connect(server) for _ in range(1000)]
    for i, connection in enumerate(slow):
        connection.sendall(HEAD[:30] if i % 2 else HEAD + BODY[:5])
    seconds = []
    for _ in range(100):
        began = time.perf_counter()
        assert ask(client).json()["items"][0]["product_id"] == "milk"
        seconds.append(time.perf_counter() - began)
    assert sorted(seconds)[90] < 0.1
    answers = [everything(connection) for connection in slow]
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 408"}
    assert ask(client).status_code == 200


def test_a_worker_opens_as_many_files_as_it_may(server):
    family = psutil.Process(server.process.pid).children(recursive=True)
    (worker,) = (one for one in family if "_bentoml_impl.worker.service" in one.cmdline())
    soft, hard = worker.rlimit(psutil.RLIMIT_NOFILE)
    assert soft == hard


def test_an_overloaded_worker_says_so_at_once(server, client):
    statuses, seconds, probes = [], [], []

    def hold():
        httpx.get(f"{server.url}/busy", params={"s": 0.3}, timeout=20)

    def probe():
        time.sleep(0.2)
        probes.append([httpx.get(f"{server.url}{p}", timeout=20).status_code for p in ALWAYS])

    with ThreadPoolExecutor(40) as pool:
        for _ in range(24):
            pool.submit(hold)
        probed = [pool.submit(probe) for _ in range(4)]
        for _ in range(30):
            began = time.perf_counter()
            response = ask(client)
            statuses.append(response.status_code)
            seconds.append(time.perf_counter() - began)
            if response.status_code == 503:
                assert response.headers["Retry-After"] == "1"
                assert response.json()["title"] == "Service Unavailable"
            time.sleep(0.02)
        [one.result() for one in probed]
    assert 503 in statuses
    assert set(statuses) <= {200, 503}
    assert probes == [[200] * len(ALWAYS)] * 4
    until = time.monotonic() + 5
    while ask(client).status_code != 200:
        assert time.monotonic() < until, "it stays overloaded"
    assert metric(client, "fbt_shed_total", reason="lag") > 0
    said = log_lines(server, "shed")
    assert said[0]["level"] == "warning"
    assert len(said) < 15


ALWAYS = ("/livez", "/readyz", "/healthz", "/metrics", "/docs.json", "/")

DEEP = {
    "lists": b"[" * 100_000,
    "closed lists": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"items":' * 20_000,
    "inside": b'{"items": ["tea"], "k": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", DEEP.values(), ids=DEEP)
def test_deep_json_is_refused_fast(client, body):
    began = time.perf_counter()
    response = client.post("/recommend", content=body)
    assert response.status_code == 400
    assert time.perf_counter() - began < 0.2


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused(client, number):
    response = client.post("/recommend", content=f'{{"items": ["tea"], "k": {number}}}')
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "k")


@pytest.fixture(scope="module")
def strict(bundle):
    limits = {"rate_limit": "5/m", "trusted_proxies": "127.0.0.0/8", "max_connections": 8}
    with served(bundle, **limits) as server:
        yield server


def by_way_of(*hops):
    return {"X-Forwarded-For": ", ".join(hops)}


def test_a_greedy_client_waits_and_others_do_not(strict):
    with httpx.Client(base_url=strict.url) as client:
        statuses = [ask(client, headers=by_way_of("10.0.0.1")).status_code for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2
        refused = ask(client, headers=by_way_of("10.0.0.1"))
        assert 1 <= int(refused.headers["Retry-After"]) <= 12
        assert refused.json()["errors"][0]["field"] == "requests"
        assert ask(client, headers=by_way_of("10.0.0.2")).status_code == 200
        # What a client says of itself stands left of what the proxy says of it.
        lying = by_way_of("10.0.0.3", "10.0.0.1", "127.0.0.9")
        assert ask(client, headers=lying).status_code == 429
        for _ in range(9):
            assert client.get("/readyz", headers=by_way_of("10.0.0.1")).status_code == 200
        assert metric(client, "fbt_refused_total", status="429") == 4


def test_nobody_is_believed_that_is_no_trusted_proxy(server, client):
    answer = client.get("/things/a", headers=by_way_of("10.0.0.1")).json()
    assert answer["client"] == "127.0.0.1"


def test_a_connection_too_many_is_told_so_and_probes_get_through(strict):
    full = [connect(strict) for _ in range(8)]
    time.sleep(0.3)
    client = by_way_of("10.0.0.8")
    response = httpx.post(f"{strict.url}/recommend", content=BODY, headers=client)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.headers["Connection"] == "close"
    for path in ALWAYS:
        assert httpx.get(f"{strict.url}{path}").status_code == 200
    beyond = [connect(strict) for _ in range(80)]
    assert everything(beyond[-1]).startswith(b"HTTP/1.1 503 ")
    for connection in full + beyond:
        connection.close()
    time.sleep(0.3)
    assert httpx.post(f"{strict.url}/recommend", content=BODY, headers=client).status_code == 200
    assert 'reason="connections"' in httpx.get(f"{strict.url}/metrics").text


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_lag_ms": "soon"}, "FBT_MAX_LAG_MS: found 'soon', expected a valid number"),
        ({"admin_token_file": "/no/such/file"}, "FBT_ADMIN_TOKEN_FILE: found /no/such/file"),
    ],
)
def test_a_wrong_setting_is_named_at_the_start(bundle, settings, says):
    with pytest.raises(ServerError, match=says), served(bundle, **settings):
        pytest.fail("the server took a wrong setting")
