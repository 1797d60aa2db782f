"""The only file that relies on private parts of uvicorn, BentoML and prometheus_client.

`tests/unit/test_private_parts.py` names the part that a new release of them changed.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from _bentoml_sdk.service.factory import Service  # type: ignore[import-untyped]
from bentoml._internal.configuration.containers import BentoMLContainer
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bento.http.errors import HttpError, Overloaded

Inner = TypeVar("Inner")

TRANSPORT = "fbt.transport"
"""Key in an ASGI scope of uvicorn's connection and its request-response cycle."""

RESERVED_CONNECTIONS = 64
"""Connections above the limit that are still read, so that probes get through."""

MAX_PIPELINED = 1000
"""Requests that a client may send before its first answer; uvicorn queues any number."""


class ServiceFactory(Service[Inner], Generic[Inner]):  # type: ignore[misc]
    """A `service_class` for endpoints outside BentoML's metrics, tracing and timeout.

    They cost half of the throughput, and BentoML's hook `add_asgi_middleware` lies inside of them.
    """

    def to_asgi(self, is_main: bool = True) -> Any:
        """BentoML's server serves the result."""
        # The process that only starts workers needs none of it.
        from bento.http.application import build_app

        return build_app(super().to_asgi(is_main))


def find_bentoml_home() -> Path:
    return Path(BentoMLContainer.bentoml_home.get())


def add_tracing(app: Any) -> Any:
    """Spans of our endpoints, exported as BentoML's configuration says."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    return OpenTelemetryMiddleware(
        app,
        excluded_urls="livez,readyz,healthz,metrics",
        tracer_provider=BentoMLContainer.tracer_provider.get(),
    )


class BentomlMetrics(NamedTuple):
    duration: Any
    total: Any
    in_progress: Any
    last_request: Any


def find_bentoml_metrics(app: Any) -> BentomlMetrics:
    """Metrics of BentoML's application, once it has started."""
    from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware

    layer = app.middleware_stack
    while not isinstance(layer, RunnerTrafficMetricsMiddleware):
        layer = layer.app
    return BentomlMetrics(
        layer.metrics_request_duration,
        layer.metrics_request_total,
        layer.metrics_request_in_progress,
        layer.metrics_last_request_timestamp,
    )


def observe_many(histogram: Any, values: Iterable[float]) -> None:
    """As `histogram.observe` of each, with fewer writes to shared memory."""
    values = list(values)
    histogram._sum.inc(sum(values))
    buckets = Counter(bisect_left(histogram._upper_bounds, value) for value in values)
    for bucket, n in buckets.items():
        histogram._buckets[bucket].inc(n)


@dataclass
class ConnectionGuard:
    """Limits on the number and slowness of a worker's connections, which BentoML does not set."""

    app: Any
    overload_app: Any
    """Answers connections above the limit."""
    max_connections: int
    timeout_s: float
    on_refusal: Callable[[int], None]
    """Called with the status of a refusal before there was a request."""
    writes_directly: bool = True
    """Put the connection into the scope of `app`: not where middleware must see all messages."""

    def __post_init__(self) -> None:
        detail = f"The request was not complete within {self.timeout_s:g} s"
        self.timeout_response = render_raw(HttpError(408, detail=detail))
        self.overload_response = render_raw(Overloaded())
        self.connections: set[Any] = set()
        self._defaults: Any = None
        self._default_lines = b""

    def install(self) -> None:
        """Guard this process's connections: BentoML leaves uvicorn's protocol at `auto`."""
        protocol = type("Connection", (Connection,), {"guard": self})
        HTTP_PROTOCOLS["auto"] = protocol  # type: ignore[assignment]

    def render_default_headers(self, connection: HttpToolsProtocol) -> bytes:
        """uvicorn's headers of every answer: the date, in a new list every second."""
        if (defaults := connection.server_state.default_headers) is not self._defaults:
            self._defaults = defaults
            self._default_lines = b"".join(b"%b: %b\r\n" % pair for pair in defaults)
        return self._default_lines

    def sweep(self, now: float) -> None:
        """Close slow connections, all at once: a timer for each would cost every request."""
        for connection in list(self.connections):
            if isinstance(connection, Connection):
                connection.check(now)


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with limits and a short way for whole bodies and answers."""

    guard: ClassVar[ConnectionGuard]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn's own wrapper believes X-Forwarded-For of any peer: see ClientAddresses.
        self.app = self.guard.app
        self.guard.connections = self.connections
        self.access_log = False
        self.ws_protocol_class = None
        self._in_head = False
        self._unsent = 0
        self._stuck_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._since = self.loop.time()
        excess = len(self.connections) - self.guard.max_connections
        if excess > 0:
            self.app = self.guard.overload_app
        if excess > RESERVED_CONNECTIONS:
            self._refuse(503, self.guard.overload_response)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._since = self.loop.time()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.abort()
        if self.guard.writes_directly and self.app is self.guard.app:
            self.scope[TRANSPORT] = self, self.cycle  # type: ignore[literal-required]

    def _unsupported_upgrade_warning(self) -> None:
        """Clients must not fill the log."""

    def read_buffered_body(self, cycle: Any) -> bytes | None:
        """The body, if all of it has arrived."""
        return None if cycle.more_body or cycle.disconnected else bytes(cycle.body)

    def write_response(self, cycle: Any, head: bytes, content: bytes) -> bool:
        """Write status line and headers (`head`) and content at once; False if only `send` can."""
        if self.flow.write_paused or cycle.disconnected or cycle.scope["method"] == "HEAD":
            return False
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        defaults = self.guard.render_default_headers(self)
        self.transport.write(b"".join((head, defaults, close, b"\r\n", content)))
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def check(self, now: float) -> None:
        if self._is_stuck(now):
            self.transport.abort()
        elif not self.transport.is_closing() and now - self._since > self.guard.timeout_s:
            self._close_if_waiting()

    def _is_stuck(self, now: float) -> bool:
        """Whether the client has read nothing of its answer for too long."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._stuck_since = unsent, now
        return unsent > 0 and now - self._stuck_since > self.guard.timeout_s

    def _close_if_waiting(self) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not self._in_head:
            if not cycle.more_body or cycle.response_started or self.pipeline:
                return  # the client waits for us
            self._refuse(408, self.guard.timeout_response)
        elif self._in_head:
            self._refuse(408, self.guard.timeout_response)
        elif self.timeout_keep_alive_task is None:
            # No request ever came, or the rest of a body that was refused.
            self.transport.close()

    def _refuse(self, status: int, response: bytes) -> None:
        self.guard.on_refusal(status)
        self.transport.write(response)
        self.transport.close()


def render_raw(error: HttpError) -> bytes:
    """A refusal for a connection without a request."""
    response = error.to_response()
    head = [f"HTTP/1.1 {response.status_code} {error.problem.title}".encode()]
    head += [b"%b: %b" % header for header in response.raw_headers]
    return b"\r\n".join([*head, b"connection: close", b"", bytes(response.body)])
