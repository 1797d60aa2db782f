"""One request and its answer, at the end of the ASGI application where the network is.

Where uvicorn's connection is at hand (see `TRANSPORT`), it is used directly: a body that is there
already is taken, and an answer is written in one piece, instead of by ASGI's messages. That is
worth a seventh of the throughput.
"""

import functools
import random
import re
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from bento.http.connections import TRANSPORT
from bento.http.routing import Headers, Response, body_size_error

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COMMON_HEADERS: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class ClientGone(Exception):
    """The client hung up before its request was complete."""


class RequestContext:
    """A request of which the head has arrived, to be answered once."""

    __slots__ = ("_receive", "_send", "_transport", "headers", "request_id", "scope")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        # Taken out: the cycle holds the scope, and in a circle they would be the collector's work.
        self._transport = scope.pop(TRANSPORT, None)
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = choose_request_id(self.headers)

    @property
    def peer(self) -> str:
        """The address at the other end of the connection."""
        client = self.scope["client"]
        return client[0] if client else ""

    async def body(self, limit: int) -> bytes:
        """The request's body. Raises Refused (413) as soon as it is known to be too large."""
        if self._transport is not None:
            connection, cycle = self._transport
            whole: bytes | None = connection.read_buffered_body(cycle)
            if whole is not None and len(whole) <= limit:
                return whole
        return await read_body(self.headers, self._receive, limit)

    async def answer(self, response: Response) -> None:
        """Send the response: it has a length and comes in one piece."""
        if self._transport is None or response.headers or not self._write_directly(response):
            await self._send_messages(response)

    def _write_directly(self, response: Response) -> bool:
        connection, cycle = self._transport
        ends = b"content-length: %d\r\nx-request-id: %b\r\n"
        ends %= len(response.content), self.request_id.encode()
        head = render_head(response.status, response.kind) + ends
        done: bool = connection.write_response(cycle, head, response.content)
        return done

    async def _send_messages(self, response: Response) -> None:
        headers = [
            (b"content-type", response.kind),
            (b"content-length", b"%d" % len(response.content)),
            (b"x-request-id", self.request_id.encode()),
            *COMMON_HEADERS,
            *response.headers,
        ]
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": response.content})


def choose_request_id(headers: dict[bytes, bytes]) -> str:
    """The client's X-Request-Id where it is short and plain, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _SANE_ID.fullmatch(given):
        return given.decode()
    return f"{random.getrandbits(128):032x}"


async def read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The request's body. Raises Refused (413) as soon as it is known to be too large."""
    length = headers.get(b"content-length")
    if length is not None:
        if length.isdigit() and int(length) > limit:
            raise body_size_error(length.decode(), limit)
    elif b"transfer-encoding" not in headers:
        return b""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        if len(body) > limit:
            break
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGone
    if len(body) > limit:
        raise body_size_error(f"more than {limit}", limit)
    return body


@functools.cache
def render_head(status: int, kind: bytes) -> bytes:
    """Status line and headers that do not depend on the request, as they go over the wire."""
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%b: %b" % pair for pair in ((b"content-type", kind), *COMMON_HEADERS)]
    return b"".join(line + b"\r\n" for line in lines)
