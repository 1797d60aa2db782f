"""uvicorn's connections, with limits of number and of time.

uvicorn itself lets a client be as slow as it likes with a request, and BentoML passes none of the
limits that it has. One look a second over all connections costs a request nothing, where a timer
each would.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bento.http.routing import PROBLEM_JSON, HttpError, overloaded, request_timeout

RESERVED_CONNECTIONS = 64
"""Connections above the limit that are still heard, for probes must get through."""


MAX_PIPELINED = 1000
"""Requests that a client may send before it has the first answer; uvicorn queues any number."""


TRANSPORT = "fbt.wire"
"""Key in a scope of the connection and its request-response cycle."""


class ConnectionGuard:
    """What the connections of a worker have in common.

    `app` answers, `overload_app` answers what comes by connections above the limit, and `refused` is
    told the status of what was refused before there was a request. Where `app` is `endpoints`, with
    nothing around that wants to see every message, those get at the connection itself.
    """

    def __init__(
        self,
        endpoints: Any,
        app: Any,
        overload_app: Any,
        max_connections: int,
        timeout_s: float,
        refused: Callable[[int], None],
    ) -> None:
        self.endpoints = endpoints
        self.app = app
        self.overload_app = overload_app
        self.max_connections = max_connections
        self.timeout_s = timeout_s
        self.refused = refused
        self.connections: set[Any] = set()
        self.timeout_response = render_raw(request_timeout(timeout_s))
        self.overload_response = render_raw(overloaded())
        self._defaults: Any = None
        self._default_lines = b""

    def protocol(self) -> type["Connection"]:
        """The class of this worker's connections."""
        return type("Connection", (Connection,), {"guard": self})

    def render_default_headers(self, connection: HttpToolsProtocol) -> bytes:
        """What uvicorn adds to every answer: the date, as lines."""
        # A new list every second.
        if (defaults := connection.server_state.default_headers) is not self._defaults:
            self._defaults = defaults
            self._default_lines = b"".join(b"%b: %b\r\n" % pair for pair in defaults)
        return self._default_lines

    def sweep(self, now: float) -> None:
        """End the connections that are too slow; `now` by the event loop's clock."""
        for connection in list(self.connections):
            if isinstance(connection, Connection):
                connection.check(now)


class Connection(HttpToolsProtocol):
    """A connection that remembers since when it waits for its client."""

    guard: ClassVar[ConnectionGuard]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Not the one that uvicorn wraps to believe X-Forwarded-For of whoever is near: see Clients.
        self.app = self.guard.app
        self.guard.connections = self.connections
        self.access_log = False
        # Nothing here speaks WebSocket: who wants it is answered in HTTP.
        self.ws_protocol_class = None
        self._in_head = False
        self._unsent = 0
        self._stuck_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._since = self.loop.time()
        beyond = len(self.connections) - self.guard.max_connections
        if beyond > 0:
            self.app = self.guard.overload_app
        if beyond > RESERVED_CONNECTIONS:
            self.guard.refused(503)
            self.transport.write(self.guard.overload_response)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._since = self.loop.time()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.abort()
        if self.app is self.guard.endpoints:
            self.scope[TRANSPORT] = self, self.cycle  # type: ignore[literal-required]

    def _unsupported_upgrade_warning(self) -> None:
        """Strangers may not fill the log."""

    def read_buffered_body(self, cycle: Any) -> bytes | None:
        """The request's body where all of it is there already, which `receive` takes longer for."""
        return None if cycle.more_body or cycle.disconnected else bytes(cycle.body)

    def write_response(self, cycle: Any, head: bytes, content: bytes) -> bool:
        """Write a whole answer at once, as `send` would in two messages; False where only it can.

        `head` is the status line and the headers, each with its end of line.
        """
        if self.flow.write_paused or cycle.disconnected or cycle.scope["method"] == "HEAD":
            return False
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        self.transport.write(
            b"".join((head, self.guard.render_default_headers(self), close, b"\r\n", content))
        )
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def check(self, now: float) -> None:
        """End the connection if its client takes longer than it may."""
        if self._is_stuck(now):
            self.transport.abort()
        elif not self.transport.is_closing() and now - self._since > self.guard.timeout_s:
            self._end_if_waiting()

    def _is_stuck(self, now: float) -> bool:
        """Whether the client has taken nothing of what was written to it for too long."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._stuck_since = unsent, now
        return unsent > 0 and now - self._stuck_since > self.guard.timeout_s

    def _end_if_waiting(self) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not self._in_head:
            if not cycle.more_body or cycle.response_started or self.pipeline:
                return  # it waits for us
            self._send_timeout()
        elif self._in_head:
            self._send_timeout()
        elif self.timeout_keep_alive_task is None:
            # It never asked for anything, or sends a body that was refused long ago.
            self.transport.close()

    def _send_timeout(self) -> None:
        self.guard.refused(408)
        self.transport.write(self.guard.timeout_response)
        self.transport.close()


def render_raw(refused: HttpError) -> bytes:
    """A refusal as it goes over the wire, where there is no request to answer."""
    content, _, status, headers = refused.response
    head = [f"HTTP/1.1 {status} {refused.problem.title}".encode()]
    head += [name + b": " + value for name, value in headers]
    head += [b"content-type: " + PROBLEM_JSON, b"content-length: %d" % len(content)]
    return b"\r\n".join([*head, b"connection: close", b"", content])
