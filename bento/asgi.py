"""The ASGI application in front of BentoML's: answers our paths, passes BentoML's own ones on.

BentoML's way from bytes to a method and back, with its metrics, tracing and timeout around, costs
several times what a recommendation does, and knows no problem JSON. The APIs are declared on the
service, so that documentation, probes and clients stay BentoML's; only the paths of the routes are
answered here.
"""

import asyncio
import functools
import logging
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from bento.connections import WIRE
from bento.observe import RouteMeters, log_json
from bento.protection import AdminToken, Clients, Heart, RateLimit
from bento.routing import (
    Headers,
    Refused,
    Request,
    Response,
    Route,
    Router,
    failed,
    not_allowed,
    not_found,
    overloaded,
    too_large,
    too_slow,
)
from bento.settings import Settings

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

EVERY_ANSWER: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)

UNKNOWN_PATH = "unknown"
"""What metrics call paths that nobody knows: as they came they would be a series each."""

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_NOTHING: dict[str, str] = {}
_log = logging.getLogger("fbt")


class ClientGone(Exception):
    """The client hung up before its request was complete."""


class Endpoints:
    """Answers the paths of `routes` for the running service.

    `app` is BentoML's application; what it knows is passed on, as said by `inner_paths`.
    """

    def __init__(self, app: Any, routes: Iterable[Route], settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.heart = Heart(settings.max_lag_ms / 1000, self._each_beat, self._each_second)
        self.sweep: Callable[[float], None] | None = None
        """Called once a second with the event loop's time."""
        self._router = Router(routes)
        self._exact = self._router.exact
        self._inner = inner_paths(app) - self._router.paths
        self._token = AdminToken(settings)
        self._rate = RateLimit(settings.rate_limit) if settings.rate_limit else None
        self._clients = Clients(settings.trusted_proxies)
        self._last_said = -1.0
        self._shed_since = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever happens."""
        if scope["type"] != "http":
            return await self._other(scope, receive, send)
        wire = scope.pop(WIRE, None)
        route, values = self._exact.get((scope["method"], scope["path"])), _NOTHING
        if route is None:
            if scope["path"] in self._inner:
                return await self._pass_on(scope, receive, send)
            route, values = self._found(scope)
        await self._answer(route, values, scope, receive, send, wire)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._enter()  # it may be the metrics that are asked for
        await self.app(scope, receive, send)

    async def crowded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As a call, for a connection too many: only what always must be answered is."""
        if scope["type"] == "http" and scope["path"] not in self._inner:
            route = self._exact.get((scope["method"], scope["path"]))
            if route is None or not route.always:
                self._say_shed("connections")
                refused = overloaded().response
                closing = refused._replace(headers=[*refused.headers, (b"connection", b"close")])
                return await send_whole(send, closing, request_id_of(dict(scope["headers"])))
        await self(scope, receive, send)

    async def _answer(
        self,
        route: Route,
        values: dict[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
        wire: Any,
    ) -> None:
        began = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = request_id_of(headers)
        meters, endpoint = self.route_meters, route.pattern
        meters.began(endpoint)
        try:
            response = await self._respond(route, values, scope, headers, request_id, receive, wire)
        except ClientGone:
            return
        except Refused as refused:
            response = self._refused(refused, request_id)
        except Exception:
            _log.exception("request_failed", extra=said(request_id, endpoint))
            response = self._refused(failed(request_id), request_id)
        finally:
            meters.ended(endpoint)
        if not (wire and not response.headers and written(wire, response, request_id)):
            await send_whole(send, response, request_id)
        seconds = time.perf_counter() - began
        meters.answered(endpoint, response.status, seconds)
        if self.settings.access_log:
            line = {**said(request_id, endpoint), "status": response.status, "method": route.method}
            _log.info("request", extra={**line, "ms": round(seconds * 1000, 3)})

    async def _respond(
        self,
        route: Route,
        values: dict[str, str],
        scope: Scope,
        headers: dict[bytes, bytes],
        request_id: str,
        receive: Receive,
        wire: Any,
    ) -> Response:
        """The handler's answer. Raises Refused, ClientGone and what the handler raises."""
        client = self._client(scope, headers)
        if not route.always:
            if self.heart.overloaded:
                self._say_shed("lag")
                raise overloaded()
            if self._rate is not None:
                self._rate.check(client)
        if route.protected:
            self._token.check(headers)
        body = wire[0].whole_body(wire[1]) if wire else None
        if body is None or len(body) > route.max_body:
            body = await body_of(headers, receive, route.max_body)
        query = scope["query_string"]
        request = Request(body, request_id, headers, values, query, client)
        if not route.waits:
            answer: Response = route.handler(self.service, request)
            return answer
        try:
            async with asyncio.timeout(route.timeout_s) as limit:
                answer = await route.handler(self.service, request)
                return answer
        except TimeoutError:
            if not limit.expired():
                raise
            raise too_slow(route.timeout_s) from None

    def _client(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        peer = scope["client"]
        return self._clients.address(peer[0] if peer else "", headers.get(b"x-forwarded-for"))

    def _found(self, scope: Scope) -> tuple[Route, dict[str, str]]:
        """The route of a path with names in it, or one that refuses."""
        path, method = scope["path"], scope["method"]
        found = self._router.find(path, scope.get("raw_path") or path.encode())
        if found is None:
            return refusing(method, UNKNOWN_PATH, not_found()), {}
        by_method, values = found
        if (route := by_method.get(method)) is None:
            some = next(iter(by_method.values()))
            return refusing("other", some.pattern, not_allowed(method, by_method)), {}
        return route, values

    def _refused(self, refused: Refused, request_id: str) -> Response:
        self.service.meters.refused(refused.problem.status)
        return refused.response

    def _say_shed(self, reason: str) -> None:
        """Count what was turned away, and say so once a second."""
        self.service.meters.shed(reason)
        self._shed_since += 1
        if (now := time.monotonic()) - self._last_said >= 1:
            _log.warning("shed", extra={"reason": reason, "requests": self._shed_since})
            self._last_said, self._shed_since = now, 0

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            return await send({"type": "websocket.close"})

        async def send_on(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._start()
            elif message["type"] == "lifespan.shutdown.complete":
                self.heart.stop()
                self._enter()
            await send(message)

        await self.app(scope, receive, send_on)

    def _start(self) -> None:
        """Take what BentoML has made while it started: the service, and its metrics."""
        import bentoml

        log_json()
        self.service = bentoml.get_current_service()
        self.route_meters = RouteMeters(
            metrics_middleware(self.app), self.service.meters, bentoml.server_context
        )
        self.heart.start()
        about = {"model_version": self.service.model_version, "settings": self.settings.shown()}
        _log.info("ready", extra={**about, "pid": os.getpid()})

    def _each_beat(self) -> None:
        self._enter()

    def _each_second(self) -> None:
        self._token.refresh()
        if self.sweep is not None:
            self.sweep(asyncio.get_running_loop().time())

    def _enter(self) -> None:
        self.route_meters.enter()
        self.service.meters.enter()


def inner_paths(app: Any) -> frozenset[str]:
    """The paths that BentoML's application answers itself, with every file of its documentation.

    Nothing else is passed on: BentoML has a series of metrics for every path it is ever asked for.
    """
    paths = set()
    for route in app.routes:
        if directory := getattr(getattr(route, "app", None), "directory", None):
            paths |= {f"{route.path}/{file.name}" for file in Path(directory).iterdir()}
        elif "{" not in route.path:
            paths.add(route.path)
    return frozenset(paths)


def metrics_middleware(app: Any) -> Any:
    """BentoML's middleware that counts requests, of an application that has started."""
    from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware

    layer = app.middleware_stack
    while not isinstance(layer, RunnerTrafficMetricsMiddleware):
        layer = layer.app
    return layer


def refusing(method: str, pattern: str, refused: Refused) -> Route:
    """A route of which every request is refused."""

    def refuse(_service: Any, _request: Request) -> Response:
        raise refused

    return Route(method, pattern, refuse)


def said(request_id: str, endpoint: str) -> dict[str, str]:
    """What a line of log says of a request."""
    return {"request_id": request_id, "endpoint": endpoint}


def request_id_of(headers: dict[bytes, bytes]) -> str:
    """The client's X-Request-Id where it is short and plain, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _SANE_ID.fullmatch(given):
        return given.decode()
    return f"{random.getrandbits(128):032x}"


async def body_of(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The request's body. Raises Refused (413) as soon as it is known to be too large."""
    length = headers.get(b"content-length")
    if length is not None:
        if length.isdigit() and int(length) > limit:
            raise too_large(length.decode(), limit)
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
        raise too_large(f"more than {limit}", limit)
    return body


def written(wire: Any, response: Response, request_id: str) -> bool:
    """Write a response to its connection, if that is possible; without headers of its own."""
    connection, cycle = wire
    ends = b"content-length: %d\r\nx-request-id: %b\r\n"
    ends %= len(response.content), request_id.encode()
    whole: bool = connection.write_whole(
        cycle, usual_head(response.status, response.kind) + ends, response.content
    )
    return whole


@functools.cache
def usual_head(status: int, kind: bytes) -> bytes:
    """Status line and headers that do not depend on the request, as they go over the wire."""
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%b: %b" % pair for pair in ((b"content-type", kind), *EVERY_ANSWER)]
    return b"".join(line + b"\r\n" for line in lines)


async def send_whole(send: Send, response: Response, request_id: str) -> None:
    """Send one response that has a length and comes in one piece."""
    headers = [
        (b"content-type", response.kind),
        (b"content-length", b"%d" % len(response.content)),
        (b"x-request-id", request_id.encode()),
        *EVERY_ANSWER,
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
