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
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from bento.http.connections import WIRE
from bento.http.limits import AdminToken, Clients, Heart, RateLimit
from bento.http.metrics import RouteMeters, Sparing, log_json
from bento.http.request_context import ClientGone, Exchange, Message, Receive, Scope, Send
from bento.http.routing import (
    Refused,
    Request,
    Response,
    Route,
    Router,
    Shed,
    failed,
    not_allowed,
    not_found,
    overloaded,
    too_slow,
)
from bento.settings import Settings

UNKNOWN_PATH = "unknown"
"""What metrics call paths that nobody knows: as they came they would be a series each."""

_NOTHING: dict[str, str] = {}
_log = logging.getLogger("fbt")


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
        self._shed = Sparing("shed", logging.WARNING)
        self._unable = Sparing("request_refused", logging.ERROR)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever happens."""
        if scope["type"] != "http":
            return await self._other(scope, receive, send)
        route, values = self._exact.get((scope["method"], scope["path"])), _NOTHING
        if route is None:
            if scope["path"] in self._inner:
                return await self._pass_on(scope, receive, send)
            route, values = self._found(scope)
        await self._answer(route, values, Exchange(scope, receive, send))

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.pop(WIRE, None)
        self._enter()  # It may be the metrics that are asked for.
        await self.app(scope, receive, send)

    async def crowded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As a call, for a connection too many: only what always must be answered is."""
        if scope["type"] == "http" and scope["path"] not in self._inner:
            route = self._exact.get((scope["method"], scope["path"]))
            if route is None or not route.always:
                self._turn_away("connections")
                refused = overloaded().response
                closing = refused._replace(headers=[*refused.headers, (b"connection", b"close")])
                return await Exchange(scope, receive, send).answer(closing)
        await self(scope, receive, send)

    async def _answer(self, route: Route, values: dict[str, str], exchange: Exchange) -> None:
        began = time.perf_counter()
        meters, endpoint = self.route_meters, route.path
        meters.began(endpoint)
        try:
            response = await self._respond(route, values, exchange)
        except ClientGone:
            return
        except Refused as refused:
            response = self._refused(refused, exchange, endpoint)
        except Exception:
            _log.exception("request_failed", extra=said(exchange.request_id, endpoint))
            self.service.meters.refused(500)
            response = failed(exchange.request_id).response
        finally:
            meters.ended(endpoint)
        await exchange.answer(response)
        seconds = time.perf_counter() - began
        meters.answered(endpoint, response.status, seconds)
        if self.settings.access_log:
            about: dict[str, Any] = {"status": response.status, "ms": round(seconds * 1000, 3)}
            _log.info("request", extra={**said(exchange.request_id, endpoint), **about})

    async def _respond(self, route: Route, values: dict[str, str], exchange: Exchange) -> Response:
        """The handler's answer. Raises Refused, ClientGone and what the handler raises."""
        headers = exchange.headers
        client = self._clients.address(exchange.peer, headers.get(b"x-forwarded-for"))
        if not route.always:
            if self.heart.overloaded:
                self._turn_away("lag")
                raise overloaded()
            if self._rate is not None:
                self._rate.check(client)
        if route.protected:
            self._token.check(headers)
        body, query = await exchange.body(route.max_body), exchange.scope["query_string"]
        request = Request(body, exchange.request_id, headers, values, query, client)
        if route.waits:
            return await in_time(route.handler(self.service, request), route.timeout_s)
        response: Response = route.handler(self.service, request)
        return response

    def _found(self, scope: Scope) -> tuple[Route, dict[str, str]]:
        """The route of a path with names in it, or one that refuses."""
        path, method = scope["path"], scope["method"]
        found = self._router.find(path, scope.get("raw_path") or path.encode())
        if found is None:
            return refusing(method, UNKNOWN_PATH, not_found), {}
        by_method, values = found
        if (route := by_method.get(method)) is None:
            some = next(iter(by_method.values()))
            refusal = functools.partial(not_allowed, method, by_method)
            return refusing("other", some.pattern, refusal), {}
        return route, values

    def _refused(self, refused: Refused, exchange: Exchange, endpoint: str) -> Response:
        response = refused.response
        self.service.meters.refused(response.status)
        if response.status >= 500 and not isinstance(refused, Shed):
            about = {"status": response.status, "detail": refused.problem.detail}
            self._unable.say(**said(exchange.request_id, endpoint), **about)
        return response

    def _turn_away(self, reason: str) -> None:
        self.service.meters.shed(reason)
        self._shed.say(reason=reason)

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


def refusing(method: str, pattern: str, refusal: Callable[[], Refused]) -> Route:
    """A route of which every request is refused."""

    def refuse(_service: Any, _request: Request) -> Response:
        raise refusal()

    return Route(method, pattern, refuse)


async def in_time(answer: Awaitable[Response], seconds: float) -> Response:
    """What a handler answers that waits. Raises Refused (504) when it waits for too long."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await answer
    except TimeoutError:
        if not limit.expired():  # a timeout of its own
            raise
        raise too_slow(seconds) from None


def said(request_id: str, endpoint: str) -> dict[str, str]:
    """What a line of log says of a request."""
    return {"request_id": request_id, "endpoint": endpoint}
