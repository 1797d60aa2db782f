"""The parts of uvicorn, BentoML and prometheus_client that `bento/http/private_parts.py` relies on.

A failure after an update names the part that changed; that file is the only one to adapt.
"""

import asyncio

import bentoml
import prometheus_client
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from uvicorn.config import HTTP_PROTOCOLS, Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bento.http.private_parts import (
    MAX_PIPELINED,
    RESERVED_CONNECTIONS,
    TRANSPORT,
    Connection,
    ConnectionGuard,
    ServiceFactory,
    add_tracing,
    find_bentoml_home,
    find_bentoml_metrics,
    observe_many,
)


class FakeTransport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.sent, self.unsent, self.ended = b"", 0, ""

    def write(self, data):
        self.sent += data

    def get_write_buffer_size(self):
        return self.unsent

    def is_closing(self):
        return bool(self.ended)

    def close(self):
        self.ended = self.ended or "closed"

    def abort(self):
        self.ended = "aborted"

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


async def echo(scope, receive, send):
    """Answers with the body, directly where the connection is at hand."""
    head = {"content-type": "text/plain", "x-method": scope["method"]}
    connection, cycle = scope.pop(TRANSPORT, (None, None))
    if connection and (body := connection.read_buffered_body(cycle)) is not None:
        lines = [f"{name}: {value}\r\n" for name, value in head.items()]
        start = "".join(["HTTP/1.1 200 OK\r\n", *lines, f"content-length: {len(body)}\r\n"])
        if connection.write_response(cycle, start.encode(), body):
            return
    message, body = {"more_body": True}, b""
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    headers = [(name.encode(), value.encode()) for name, value in head.items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def make_guard(app=echo, timeout_s=1, **more):
    refused = []
    guard = ConnectionGuard(app, app, 10, timeout_s, refused.append, **more)
    guard.refused = refused
    return guard


def connect(protocol, app=echo, state=None):
    state = state or ServerState()
    state.default_headers = [(b"date", b"today"), (b"server", b"uvicorn")]
    connection = protocol(Config(app), state, {}, asyncio.get_running_loop())
    connection.connection_made(FakeTransport())
    return connection


def guarded(guard):
    return type("Guarded", (Connection,), {"guard": guard})


async def exchange(protocol, *requests):
    """What a connection answers to requests that follow each other, and how it ends."""
    connection = connect(protocol)
    for request in requests:
        connection.data_received(request)
        for _ in range(5):
            await asyncio.sleep(0)
    return connection.transport.sent, connection.transport.ended, connection.cycle.response_complete


def lines_of(sent):
    """Answers with their headers in any order."""
    parts = [part.split(b"\r\n") for part in sent.split(b"\r\n\r\n")]
    return [sorted(part) for part in parts]


POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
CLOSING = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
HEAD = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: x\r\n\r\n"
REQUESTS = [(POST,), (POST, POST), (POST + POST,), (CLOSING,), (HEAD,), (OLD,)]


@pytest.mark.parametrize("requests", REQUESTS, ids=str)
def test_the_short_way_sends_what_uvicorn_sends(requests):
    async def both():
        plain = await exchange(HttpToolsProtocol, *requests)
        return plain, await exchange(guarded(make_guard()), *requests)

    (plain, *plain_end), (short, *short_end) = asyncio.run(both())
    assert plain.startswith(b"HTTP/1.1 200 OK\r\n")
    assert lines_of(short) == lines_of(plain)
    assert short_end == plain_end


def test_middleware_that_sees_every_message_keeps_the_connection_out_of_the_scope():
    async def app(scope, _receive, _send):
        scopes.append(dict(scope))

    scopes = []
    for writes_directly in (True, False):
        guard = make_guard(app, writes_directly=writes_directly)
        asyncio.run(exchange(guarded(guard), POST))
    assert [TRANSPORT in scope for scope in scopes] == [True, False]


def test_slow_clients_are_told_or_closed():
    async def look(received, unsent=0):
        guard = make_guard()
        connection = connect(guarded(guard))
        if received:
            connection.data_received(received)
        await asyncio.sleep(0)
        connection.transport.unsent = unsent
        now = asyncio.get_running_loop().time()
        guard.sweep(now)
        assert not connection.transport.ended
        guard.sweep(now + 2)
        return connection.transport, guard.refused

    silent, refused = asyncio.run(look(b""))
    assert (silent.sent, silent.ended, refused) == (b"", "closed", [])
    for cut in (POST[:10], POST[:-1]):
        transport, refused = asyncio.run(look(cut))
        assert transport.sent.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"connection: close\r\n" in transport.sent
        assert (transport.ended, refused) == ("closed", [408])
    assert asyncio.run(look(POST, unsent=9))[0].ended == "aborted"


def test_connections_above_the_limit_are_refused_and_pipelines_have_an_end():
    async def open_many():
        guard, state = make_guard(), ServerState()
        protocol = guarded(guard)
        opened = [connect(protocol, state=state) for _ in range(10 + RESERVED_CONNECTIONS + 1)]
        opened[0].data_received(HEAD * (MAX_PIPELINED + 2))
        return opened, guard.refused

    opened, refused = asyncio.run(open_many())
    assert opened[0].transport.ended == "aborted"
    assert [one.transport.ended for one in opened[1:-1]] == [""] * (len(opened) - 2)
    assert opened[-1].transport.sent.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert refused == [503]


def test_uvicorn_takes_the_installed_protocol(monkeypatch):
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])
    guard = make_guard()
    guard.install()
    config = Config(echo, http="auto")
    config.load()
    assert issubclass(config.http_protocol_class, Connection)
    assert config.http_protocol_class.guard is guard


def test_bentoml_serves_what_a_service_class_returns():
    @bentoml.service(service_class=ServiceFactory)
    class Nothing:
        pass

    assert isinstance(Nothing, ServiceFactory)
    assert isinstance(super(ServiceFactory, Nothing).to_asgi(), Starlette)


def test_bentoml_has_a_home_and_a_tracer(tmp_path):
    assert find_bentoml_home().name
    assert add_tracing(echo)


def test_bentoml_counts_requests_in_a_middleware():
    from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware

    app = Starlette(middleware=[Middleware(RunnerTrafficMetricsMiddleware, namespace="test")])
    app.middleware_stack = app.build_middleware_stack()
    layer = app.middleware_stack
    while not isinstance(layer, RunnerTrafficMetricsMiddleware):
        layer = layer.app
    layer._setup()
    metrics = find_bentoml_metrics(app)
    labels = dict.fromkeys(("service_name", "service_version", "runner_name"), "x")
    metrics.last_request.labels(**labels).set(1)
    metrics.in_progress.labels(endpoint="/", **labels).set(1)
    labels |= {"endpoint": "/", "http_response_code": 200}
    metrics.total.labels(**labels).inc()
    metrics.duration.labels(**labels).observe(1)


def test_many_observations_are_those_of_one_each():
    registry = prometheus_client.CollectorRegistry()
    buckets = [0.1, 0.5, 1]
    one, many = (
        prometheus_client.Histogram(name, "", buckets=buckets, registry=registry)
        for name in ("one", "many")
    )
    values = [0.0, 0.1, 0.11, 0.5, 3.0, 3.0]
    for value in values:
        one.observe(value)
    observe_many(many, values)

    def samples(histogram):
        (metric,) = histogram.collect()
        return [
            (sample.name.partition("_")[2], sample.labels, sample.value)
            for sample in metric.samples
            if not sample.name.endswith("_created")
        ]

    assert samples(many) == samples(one)
