"""What answers outside of BentoML, over HTTP: metrics, routes, tokens, CORS, headers, logs."""

import http.server
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from components.package.server import find_free_port
from tests.factories import PAIRS, make_bundle
from tests.service.serving import TOKEN, everything, log_lines, metric, served

SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("outermost") / "bundle")


@pytest.fixture(scope="module")
def token_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(f"{TOKEN}\n")
    return file


@pytest.fixture(scope="module")
def server(bundle, token_file):
    with served(
        bundle, workers=2, variant="green", admin_token_file=token_file, cors_origins=SHOP,
        access_log=1,
    ) as server:  # fmt: skip
        yield server


@pytest.fixture
def client(server):
    """A connection of its own, that is, a worker of its own."""
    with httpx.Client(base_url=server.url, timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
def plain(bundle):
    """A server as it is without any setting."""
    with served(bundle) as server, httpx.Client(base_url=server.url, timeout=10) as client:
        yield client


def settled(client, name, expected, **labels):
    """Whether a metric is what it should be, soon: the other worker enters what it noted late."""
    until = time.monotonic() + 3
    while (found := metric(client, name, **labels)) != expected and time.monotonic() < until:
        time.sleep(0.02)
    return found == expected, found


def ask(server, n, path="/recommend", **more):
    """`n` requests over connections of their own, that is, by both workers."""

    def one(i):
        asked = {"items": [PAIRS[i % len(PAIRS)][0]], "k": 2}
        return httpx.post(f"{server.url}{path}", timeout=10, **({"json": asked} | more))

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, range(n)))


OURS = {"model_version": "7", "variant": "green"}


def test_two_workers_count_every_request_once(server, client):
    name = "bentoml_service_request_total"
    labels = {"endpoint": "/recommend", "http_response_code": "200", "service_name": "fbt"}
    before = metric(client, name, **labels)
    versions = {"source": "model", "model_version": "7"}
    answered = metric(client, "fbt_recommend_requests_total", **versions)
    assert all(response.status_code == 200 for response in ask(server, 60))
    whole, found = settled(client, name, before + 60, **labels)
    assert whole, found - before
    for other in ("bentoml_service_request_duration_seconds_count",):
        assert metric(client, other, **labels) == before + 60
    assert metric(client, "fbt_recommend_requests_total", **versions) == answered + 60
    of_route = {"endpoint": "/recommend", **OURS}
    assert metric(client, "fbt_requests_total", status="200", **of_route) == before + 60
    assert metric(client, "fbt_request_duration_seconds_count", **of_route) == before + 60
    assert metric(client, "fbt_list_length_count", **OURS) >= answered + 60
    in_progress = "bentoml_service_request_in_progress"
    assert settled(client, in_progress, 0, endpoint="/recommend")[0]
    last = [
        line for line in client.get("/metrics").text.splitlines()
        if line.startswith("bentoml_service_last_request_timestamp_seconds{")
    ]  # fmt: skip
    assert max(float(line.split()[-1]) for line in last) > time.time() - 60


def test_answers_are_counted_by_source_variant_and_length(server, client):
    labels = {"endpoint": "recommend", "source": "bestsellers", **OURS}
    before = metric(client, "fbt_answers_total", **labels)
    shown = metric(client, "fbt_recommended_products_total", **labels)
    unknown = metric(client, "fbt_unknown_items_total", endpoint="recommend", **OURS)
    client.post("/recommend", json={"items": ["no such", "nor such"], "k": 3})
    assert settled(client, "fbt_answers_total", before + 1, **labels)[0]
    assert settled(client, "fbt_recommended_products_total", shown + 3, **labels)[0]
    assert metric(client, "fbt_unknown_items_total", **OURS) == unknown + 2
    assert metric(client, "fbt_bundle_created_timestamp_seconds", **OURS) > 1e9
    for name in ("fbt_rules_applied_total", "fbt_shed_total"):
        assert f"{name}{{" in client.get("/metrics").text, f"{name} is not there from the start"


def test_metrics_know_routes_and_no_paths(client):
    for path in ("/things/a", "/things/b%2Fc", "/no/such/path", "/static_content/none.js"):
        client.get(path)
    client.get("/static_content/swagger-ui.css")
    client.request("BREW", "/things/a")
    text = client.get("/metrics").text
    assert 'endpoint="/things/{thing_id}"' in text
    for odd in ("/things/a", "/things/b", "/no/such", "none.js", "BREW"):
        assert odd not in text
    refused = {"endpoint": "unknown", "http_response_code": "404"}
    assert metric(client, "bentoml_service_request_total", **refused) >= 2
    static = {"endpoint": "/static_content/swagger-ui.css"}
    assert metric(client, "bentoml_service_request_total", **static) > 0


def test_what_a_path_names_is_decoded_once(client):
    answer = client.get("/things/b%2Fc%25?q=t%C3%A9&q=&x=1").json()
    assert answer["path"] == {"thing_id": "b/c%"}
    assert answer["query"] == {"q": ["té", ""], "x": ["1"]}
    rest = client.put("/things/a/parts/b/c", content=b"").json()
    assert rest["path"] == {"thing_id": "a", "rest": "b/c"}
    assert client.get("/things/%ff%fe").status_code == 200
    assert client.get("/things/").status_code == 404
    assert client.get("/things/a/b").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/recommend", "POST"),
        ("PATCH", "/similar", "POST"),
        ("POST", "/docs.json", "GET, HEAD"),
        ("POST", "/things/a", "DELETE, GET, HEAD"),
    ],
)
def test_another_method_is_told_what_is_allowed(client, method, path, allow):
    response = client.request(method, path)
    assert (response.status_code, response.headers["Allow"]) == (405, allow)
    problem = response.json()
    assert problem["errors"][0] == {
        "field": "method", "found": method, "expected": f"one of {allow}"
    }  # fmt: skip


def test_another_path_is_a_problem_too(client):
    response = client.post("/recommendation", json={})
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["title"] == "Not Found"


def test_what_can_be_got_has_a_head(client):
    response = client.head("/docs.json")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["Content-Length"]) > 1000


def test_readiness_tells_of_version_and_variant(client):
    said = client.get("/readyz").json()
    assert said.pop("details")["database"]["state"] == "fresh"
    assert said == {"status": "ready", "model_version": "7", "variant": "green"}
    assert client.get("/livez").text == client.get("/healthz").text == "\n"
    assert client.get("/schema.json").status_code == 200


def test_a_failure_is_a_problem_and_a_line_of_log(server, client):
    given = {"X-Request-Id": "broken-1"}
    response = client.get("/broken", headers=given)
    assert response.status_code == 500
    assert "broken-1" in response.json()["detail"]
    assert "4711" not in response.text
    (line,) = [one for one in log_lines(server, "request_failed") if one["level"] == "error"]
    assert (line["request_id"], line["endpoint"]) == ("broken-1", "/broken")
    assert line["error"].startswith("ValueError")
    assert any("probed.py" in frame for frame in line["at"])
    labels = {"endpoint": "/broken", "http_response_code": "500"}
    assert settled(client, "bentoml_service_request_total", 1, **labels)[0]


def test_what_waits_is_given_up_and_hinders_nobody(server, client):
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(httpx.get, f"{server.url}/waiting", params={"s": 60}, timeout=10)
        began = time.monotonic()
        assert client.get("/waiting", params={"s": 0}).status_code == 200
        assert time.monotonic() - began < 0.4
        assert slow.result().status_code == 504
    (line,) = log_lines(server, "request_refused")
    assert (line["endpoint"], line["status"], line["requests"]) == ("/waiting", 504, 1)


def test_requests_are_logged_when_that_is_wanted(server, client):
    client.post("/recommend", json={"items": ["tea"]}, headers={"X-Request-Id": "logged-1"})
    client.get("/livez")  # The line is written after the answer.
    (line,) = [one for one in log_lines(server, "request") if one["request_id"] == "logged-1"]
    assert line.keys() >= {"ts", "level", "endpoint", "status", "ms"}
    assert (line["endpoint"], line["status"]) == ("/recommend", 200)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "x"),
        {"Authorization": f"Basic {TOKEN}"},
    ],
    ids=["none", "empty", "shorter", "longer", "another scheme"],
)
def test_what_is_protected_wants_the_token(client, headers):
    response = client.post("/secret", headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert client.request("DELETE", "/things/a", headers=headers).status_code == 401


def test_the_token_opens_and_is_read_again_when_its_file_changes(server, client, token_file):
    assert client.post("/secret", headers=bearer(TOKEN), content=b"ten bytes!").status_code == 200
    assert client.post("/secret", headers=bearer(TOKEN), content=b"x" * 11).status_code == 413
    token_file.write_text("another")
    until = time.monotonic() + 5
    statuses = set()
    while statuses != {200} and time.monotonic() < until:
        answers = ask(server, 8, "/secret", headers=bearer("another"), content=b"", json=None)
        statuses = {one.status_code for one in answers}
    assert statuses == {200}
    assert client.post("/secret", headers=bearer(TOKEN)).status_code == 401
    token_file.write_text(TOKEN)
    time.sleep(2.1)
    assert client.post("/secret", headers=bearer(TOKEN)).status_code == 200
    log = server.log.read_text()
    assert TOKEN not in log
    assert "another" not in log


def test_without_a_token_nothing_protected_is_open(plain):
    response = plain.post("/secret", headers=bearer(TOKEN))
    assert response.status_code == 403
    assert "FBT_ADMIN_TOKEN" in response.json()["detail"]


SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


@pytest.mark.parametrize("path", ["/", "/docs.json", "/readyz", "/no/such", "/recommend"])
def test_every_answer_has_safe_headers(client, path):
    assert client.get(path).headers.items() >= {k.lower(): v for k, v in SAFE.items()}.items()


def test_answers_are_the_same_by_both_ways_to_the_connection(client, plain):
    """With CORS around, an answer goes through ASGI's messages; without, straight out."""
    for method, path, content in (
        ("POST", "/recommend", b'{"items": ["tea"], "k": 2, "variant": "same"}'),
        ("POST", "/recommend", b"[]"),
        ("GET", "/docs.json", b""),
        ("HEAD", "/docs.json", b""),
        ("GET", "/no/such", b""),
    ):
        given = {"X-Request-Id": "same"}
        one, other = (
            c.request(method, path, content=content, headers=given) for c in (client, plain)
        )
        assert one.status_code == other.status_code
        assert set(one.headers) - {"vary"} == set(other.headers)
        assert {"date", "content-length", "x-request-id"} <= set(one.headers)
        for header in set(other.headers) - {"date"}:
            assert one.headers[header] == other.headers[header]
        assert one.content == other.content


def test_a_client_of_http_1_0_is_answered_and_hung_up_on(plain):
    address = plain.base_url
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in answer


def test_the_page_may_load_nothing_from_elsewhere(client):
    policy = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self' 'sha256-" in policy
    assert "http" not in policy
    assert "Content-Security-Policy" not in client.get("/docs.json").headers


def test_pages_of_a_named_origin_may_ask(client):
    wants = {"Origin": SHOP, "Access-Control-Request-Method": "POST"}
    preflight = client.options("/recommend", headers=wants)
    assert preflight.headers["Access-Control-Allow-Origin"] == SHOP
    asked = client.post("/recommend", json={"items": ["tea"]}, headers={"Origin": SHOP})
    assert asked.headers["Access-Control-Allow-Origin"] == SHOP
    assert asked.json()["items"]
    other = client.post("/recommend", json={"items": ["tea"]}, headers={"Origin": "https://x.y"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_pages_of_no_origin_may_ask_by_default(plain):
    answer = plain.post("/recommend", json={"items": ["tea"]}, headers={"Origin": SHOP})
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert plain.options("/recommend", headers={"Origin": SHOP}).status_code == 405
    assert "access_log" not in str(plain.get("/readyz").json())


def test_who_wants_a_websocket_is_answered_in_http(client):
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    assert client.get("/things/socket", headers=upgrade).json()["path"] == {"thing_id": "socket"}
    assert client.post("/recommend", json={"items": ["tea"]}).status_code == 200


def workers_of(server):
    """The worker processes that live."""
    family = psutil.Process(server.process.pid).children(recursive=True)
    living = [one for one in family if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in living if "_bentoml_impl.worker.service" in one.cmdline()]


def test_a_killed_worker_costs_no_wrong_answer_and_is_replaced(server):
    workers = workers_of(server)
    assert len(workers) == 2
    stop, wrong, right, lost = threading.Event(), [], [], []

    def shopper(i):
        one, other = PAIRS[i % len(PAIRS)]
        while not stop.is_set():
            try:
                answer = httpx.post(
                    f"{server.url}/recommend", json={"items": [one], "k": 1}, timeout=5
                )
            except httpx.HTTPError:
                lost.append(time.monotonic())
                continue
            found = [item["product_id"] for item in answer.json()["items"]]
            (right if found == [other] else wrong).append(time.monotonic())

    with ThreadPoolExecutor(4) as pool:
        shoppers = [pool.submit(shopper, i) for i in range(4)]
        time.sleep(0.5)
        killed = time.monotonic()
        workers[0].kill()
        time.sleep(4)
        stop.set()
        for one in shoppers:
            one.result()
    assert not wrong
    assert len(right) > 20
    assert all(at < killed + 3 for at in lost), "it took longer than 3 s to recover"
    until = time.monotonic() + 10
    while len(now := workers_of(server)) < 2:
        assert time.monotonic() < until, "no other worker was started"
        time.sleep(0.1)
    assert workers[0] not in now


def test_spans_of_our_paths_reach_a_collector_when_tracing_is_on(bundle):
    pytest.importorskip("opentelemetry.exporter.zipkin.json")
    spans = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            spans.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_):
            pass

    port = find_free_port()
    tracing = {
        "exporter_type": "zipkin", "sample_rate": 1.0,
        "zipkin": {"endpoint": f"http://127.0.0.1:{port}/api/v2/spans"},
    }  # fmt: skip
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        overrides = {"services": {"fbt": {"workers": 1, "tracing": tracing}}, "tracing": tracing}
        with served(bundle, tracing=1, overrides=overrides) as server:
            parent = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
            for path in ("/recommend", "/readyz"):
                httpx.post(f"{server.url}{path}", json={"items": ["tea"]}, headers=parent)
            until = time.monotonic() + 15
            while not spans and time.monotonic() < until:
                time.sleep(0.1)
        collector.shutdown()
    assert any("/recommend" in span["name"] for span in spans), spans
    assert {span["traceId"] for span in spans} == {"a" * 32}
    assert not any("readyz" in span["name"] for span in spans)
