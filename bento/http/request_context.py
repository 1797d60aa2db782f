"""One request and its answer.

Reading and writing directly at uvicorn's connection, past ASGI's messages, is worth a seventh of
the throughput.
"""

import functools
import random
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from bento.http.errors import HttpError, body_size_error
from bento.http.private_parts import TRANSPORT
from bento.http.routing import Route
from bento.schemas.problems import MAX_FIELD_ERRORS, FieldError, field_errors, shorten

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

COMMON_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class ClientGone(Exception):
    """Its request is not complete."""


class RequestContext:
    __slots__ = (
        "_receive", "_send", "_transport", "body", "client", "data", "headers", "request_id",
        "scope",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        # Removed: the cycle holds the scope, and reference cycles are the collector's work.
        self._transport = scope.pop(TRANSPORT, None)
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        """By lower-case name; the last of a repeated one."""
        self.request_id = choose_request_id(self.headers)
        self.client = ""
        self.body = b""
        self.data: Any = None

    @property
    def peer(self) -> str:
        client = self.scope["client"]
        return client[0] if client else ""

    @property
    def path(self) -> dict[str, str]:
        """Parameters of the path, decoded."""
        values = self.scope.get("path_params", {})
        return {name: urllib.parse.unquote(value) for name, value in values.items()}

    @property
    def query(self) -> dict[str, list[str]]:
        text = self.scope["query_string"].decode("latin-1")
        return urllib.parse.parse_qs(text, keep_blank_values=True)

    async def load(self, route: Route) -> None:
        """Raises HttpError (400, 413) and ClientGone."""
        self.body = await self._read_body(route.max_body)
        if route.body is not None and route.parses_body:
            self.data = parse_body(self.body, route.body)
        elif route.query is not None:
            self.data = parse_query(self.query, route.query)

    async def answer(self, content: bytes | Response, status: int = 200) -> int:
        """Send JSON, or a response of a status of its own; returns the status."""
        if isinstance(content, bytes):
            if self._write_directly(content, status):
                return status
            content = Response(content, status, media_type="application/json")
        content.raw_headers += (b"x-request-id", self.request_id.encode()), *COMMON_HEADERS
        await content(self.scope, self._receive, self._send)
        return content.status_code

    def _write_directly(self, content: bytes, status: int) -> bool:
        if self._transport is None:
            return False
        connection, cycle = self._transport
        head = b"%bcontent-length: %d\r\nx-request-id: %b\r\n"
        head %= render_json_head(status), len(content), self.request_id.encode()
        is_written: bool = connection.write_response(cycle, head, content)
        return is_written

    async def _read_body(self, limit: int) -> bytes:
        if self._transport is not None:
            connection, cycle = self._transport
            whole: bytes | None = connection.read_buffered_body(cycle)
            if whole is not None and len(whole) <= limit:
                return whole
        return await read_body(self.headers, self._receive, limit)


def choose_request_id(headers: Mapping[bytes, bytes]) -> str:
    """The client's X-Request-Id where it is short and plain, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _SANE_ID.fullmatch(given):
        return given.decode()
    return f"{random.getrandbits(128):032x}"


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Raises HttpError (413) as soon as the body is known to be too large."""
    length = headers.get(b"content-length")
    if length is not None:
        if length.isdigit() and int(length) > limit:
            raise body_size_error(length.decode(), limit)
    elif b"transfer-encoding" not in headers:
        return b""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False) and len(body) <= limit:
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGone
    if len(body) > limit:
        raise body_size_error(f"more than {limit}", limit)
    return body


def parse_body(body: bytes, model: type[BaseModel]) -> BaseModel:
    """Raises HttpError (400)."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise HttpError(400, *field_errors(error, model)) from None


def parse_query(query: Mapping[str, list[str]], model: type[BaseModel]) -> BaseModel:
    """Raises HttpError (400)."""
    repeated = [
        FieldError(field=shorten(name), found=f"{len(values)} of it", expected="one")
        for name, values in query.items()
        if len(values) > 1
    ]
    if repeated:
        raise HttpError(400, *repeated[:MAX_FIELD_ERRORS])
    try:
        return model.model_validate({name: value for name, (value,) in query.items()})
    except ValidationError as error:
        raise HttpError(400, *field_errors(error, model)) from None


@functools.cache
def render_json_head(status: int) -> bytes:
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"content-type: application/json", *(b"%b: %b" % pair for pair in COMMON_HEADERS)]
    return b"".join(line + b"\r\n" for line in lines)
