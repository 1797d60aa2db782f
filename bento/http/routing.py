"""Requests and answers as the endpoints see them, and which endpoint a path belongs to."""

import inspect
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any, NamedTuple

import pydantic_core

from bento.schemas import FieldError, Problem

JSON = b"application/json"
PROBLEM_JSON = b"application/problem+json"
HTML = b"text/html; charset=utf-8"

MAX_BODY_BYTES = 256 * 1024
"""A full cart of the longest ids, every character escaped, is 150 kB."""

Headers = Sequence[tuple[bytes, bytes]]


class Request(NamedTuple):
    """One request, read to its end."""

    body: bytes
    request_id: str
    headers: Mapping[bytes, bytes]
    """Names are lower case; of a header that came several times, the last."""
    path: Mapping[str, str]
    """What the route's pattern names, such as `product_id`; decoded."""
    query_string: bytes
    client: str
    """The client's address; as a trusted proxy says, where there is one."""

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's parameters, decoded, in their order."""
        return urllib.parse.parse_qs(self.query_string.decode("latin-1"), keep_blank_values=True)


class Response(NamedTuple):
    """One answer."""

    content: bytes
    kind: bytes = JSON
    status: int = 200
    headers: Headers = ()
    """Beside those that every answer has."""


class HttpError(Exception):
    """The request is answered with a problem. Handlers raise it; see `refused` for the usual."""

    def __init__(
        self, status: HTTPStatus, errors: list[FieldError], detail: str = "", headers: Headers = ()
    ) -> None:
        super().__init__(status.phrase)
        said = (f"{e.field}: found {e.found}, expected {e.expected}" for e in errors)
        self.problem = Problem(
            title=status.phrase, status=status, detail=detail or "; ".join(said), errors=errors
        )
        self.headers = headers

    @property
    def response(self) -> Response:
        """The problem as an answer."""
        return Response(to_json(self.problem), PROBLEM_JSON, self.problem.status, self.headers)


class Overloaded(HttpError):
    """The request is turned away, unseen, because there is no time or room for it."""


Handler = Callable[[Any, Request], Any]
"""From the running service and a request to a Response, at once or awaited."""


@dataclass(frozen=True)
class Route:
    """An endpoint: what is asked how, who answers, and what it takes."""

    method: str
    pattern: str
    """A path; `{name}` stands for one part of it, `{name:rest}` for all that follows."""
    handler: Handler
    """A plain function runs between two turns of the event loop: for what takes a few
    milliseconds at most. What waits or takes longer is an async function."""
    protected: bool = False
    """Whether it wants the admin token."""
    always: bool = False
    """Whether it is answered under overload, too, and never counted against a rate limit."""
    max_body: int = MAX_BODY_BYTES
    """Bytes."""
    timeout_s: float = 10.0
    """After which a handler that waits is given up, with 504."""

    @cached_property
    def path(self) -> str:
        """The pattern as it is shown: in the documentation, and as the metrics' `endpoint`."""
        return self.pattern.replace(":rest}", "}")

    @cached_property
    def waits(self) -> bool:
        """Whether the handler is an async function."""
        return inspect.iscoroutinefunction(self.handler)


class Router:
    """Finds the route of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.exact: dict[tuple[str, str], Route] = {}
        """By method and path."""
        self._by_path: dict[str, dict[str, Route]] = {}
        self._patterns: dict[str, tuple[re.Pattern[bytes], dict[str, Route]]] = {}
        for route in routes:
            for method in list_methods(route):
                self._add(route, method)

    def _add(self, route: Route, method: str) -> None:
        if "{" in route.pattern:
            empty: dict[str, Route] = {}
            by_method = self._patterns.setdefault(
                route.pattern, (compile_pattern(route.pattern), empty)
            )[1]
        else:
            by_method = self._by_path.setdefault(route.pattern, {})
            self.exact[method, route.pattern] = route
        if method in by_method:
            raise ValueError(f"{method} {route.pattern} is routed twice")
        by_method[method] = route

    @property
    def paths(self) -> frozenset[str]:
        """Of the routes without patterns."""
        return frozenset(self._by_path)

    def find(self, path: str, raw_path: bytes) -> tuple[dict[str, Route], dict[str, str]] | None:
        """The routes of a path by method and what its pattern names; None: no path of ours."""
        if by_method := self._by_path.get(path):
            return by_method, {}
        # Undecoded, for an encoded slash belongs to a product's id.
        for pattern, by_method in self._patterns.values():
            if found := pattern.fullmatch(raw_path):
                values = {name: decode_part(value) for name, value in found.groupdict().items()}
                return by_method, values
        return None


def list_methods(route: Route) -> tuple[str, ...]:
    """What the route answers to: what can be got can be asked about."""
    return ("GET", "HEAD") if route.method == "GET" else (route.method,)


def compile_pattern(pattern: str) -> re.Pattern[bytes]:
    """The regular expression of a route's pattern, for undecoded paths."""
    parts = re.split(r"(\{\w+(?::rest)?\})", pattern)
    for i in range(1, len(parts), 2):
        name, _, rest = parts[i][1:-1].partition(":")
        parts[i] = f"(?P<{name}>{'.+' if rest else '[^/]+'})"
    parts[::2] = [re.escape(part) for part in parts[::2]]
    return re.compile("".join(parts).encode())


def decode_part(part: bytes) -> str:
    """A part of a path as text; what is no UTF-8 is replaced and then found nowhere."""
    return urllib.parse.unquote_to_bytes(part).decode("utf-8", "replace")


def to_json(content: Any) -> bytes:
    """Compact UTF-8. A number that JSON cannot say becomes null."""
    encoded: bytes = pydantic_core.to_json(content, inf_nan_mode="null")
    return encoded


def body_size_error(found: str, limit: int) -> HttpError:
    """The refusal of a body of `found` bytes."""
    error = FieldError(field="body", found=f"{found} bytes", expected=f"at most {limit} bytes")
    return HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, [error])


def method_error(method: str, allowed: Iterable[str]) -> HttpError:
    """The refusal of a method that a path of ours does not have."""
    allow = ", ".join(sorted(allowed))
    error = FieldError(field="method", found=method, expected=f"one of {allow}")
    return HttpError(HTTPStatus.METHOD_NOT_ALLOWED, [error], headers=[(b"allow", allow.encode())])


def path_error() -> HttpError:
    """The refusal of a path that nobody knows."""
    return HttpError(HTTPStatus.NOT_FOUND, [], detail="No such path; GET /docs.json lists them all")


def internal_error(request_id: str) -> HttpError:
    """What the client is told of a failure that is not its own."""
    detail = f"The service failed; its log says why under request id {request_id}"
    return HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, [], detail=detail)


def handler_timeout(seconds: float) -> HttpError:
    """What the client is told when a handler was given up."""
    detail = f"No answer could be had within {seconds:g} s"
    return HttpError(HTTPStatus.GATEWAY_TIMEOUT, [], detail=detail)


def overloaded() -> Overloaded:
    """What a client is told at once when there is no time for it."""
    detail = "The service has more to do than it can; ask again after what Retry-After says"
    return Overloaded(HTTPStatus.SERVICE_UNAVAILABLE, [], detail, [(b"retry-after", b"1")])


def request_timeout(seconds: float) -> HttpError:
    """What a client is told whose request did not arrive in time."""
    detail = f"The request was not complete within {seconds:g} s"
    return HttpError(HTTPStatus.REQUEST_TIMEOUT, [], detail)
