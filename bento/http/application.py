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

from bento.http.connections import TRANSPORT
from bento.http.limits import AdminToken, ClientAddresses, EventLoopMonitor, RateLimit
from bento.http.metrics import RouteMetrics, ThrottledLog, configure_logging
from bento.http.request_context import ClientGone, Message, Receive, RequestContext, Scope, Send
from bento.http.routing import (
    HttpError,
    Overloaded,
    Request,
    Response,
    Route,
    Router,
    handler_timeout,
    internal_error,
    method_error,
    overloaded,
    path_error,
)
from bento.settings import Settings

UNKNOWN_PATH = "unknown"
"""What metrics call paths that nobody knows: as they came they would be a series each."""

_NOTHING: dict[str, str] = {}
_log = logging.getLogger("fbt")


class Endpoints:
    """Answers the paths of `routes` for the running service.

    `app` is BentoML's application; what it knows is passed on, as said by `find_inner_paths`.
    """

    def __init__(self, app: Any, routes: Iterable[Route], settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.monitor = EventLoopMonitor(settings.max_lag_ms / 1000, self._on_tick, self._on_second)
        self.sweep: Callable[[float], None] | None = None
        """Called once a second with the event loop's time."""
        self._router = Router(routes)
        self._exact = self._router.exact
        self._inner = find_inner_paths(app) - self._router.paths
        self._token = AdminToken(settings)
        self._rate = RateLimit(settings.rate_limit) if settings.rate_limit else None
        self._clients = ClientAddresses(settings.trusted_proxies)
        self._shed = ThrottledLog("shed", logging.WARNING)
        self._unable = ThrottledLog("request_refused", logging.ERROR)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever happens."""
        if scope["type"] != "http":
            return await self._handle_lifespan(scope, receive, send)
        route, values = self._exact.get((scope["method"], scope["path"])), _NOTHING
        if route is None:
            if scope["path"] in self._inner:
                return await self._pass_on(scope, receive, send)
            route, values = self._find_route(scope)
        await self._answer(route, values, RequestContext(scope, receive, send))

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.pop(TRANSPORT, None)
        self._flush()  # It may be the metrics that are asked for.
        await self.app(scope, receive, send)

    async def overload_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As a call, for a connection too many: only what always must be answered is."""
        if scope["type"] == "http" and scope["path"] not in self._inner:
            route = self._exact.get((scope["method"], scope["path"]))
            if route is None or not route.always:
                self._count_overload("connections")
                refused = overloaded().response
                closing = refused._replace(headers=[*refused.headers, (b"connection", b"close")])
                return await RequestContext(scope, receive, send).answer(closing)
        await self(scope, receive, send)

    async def _answer(self, route: Route, values: dict[str, str], context: RequestContext) -> None:
        began = time.perf_counter()
        metrics, endpoint = self.route_metrics, route.path
        metrics.began(endpoint)
        try:
            response = await self._respond(route, values, context)
        except ClientGone:
            return
        except HttpError as refused:
            response = self._to_problem(refused, context, endpoint)
        except Exception:
            _log.exception("request_failed", extra=log_fields(context.request_id, endpoint))
            self.service.metrics.refused(500)
            response = internal_error(context.request_id).response
        finally:
            metrics.ended(endpoint)
        await context.answer(response)
        seconds = time.perf_counter() - began
        metrics.record_answer(endpoint, response.status, seconds)
        if self.settings.access_log:
            about: dict[str, Any] = {"status": response.status, "ms": round(seconds * 1000, 3)}
            _log.info("request", extra={**log_fields(context.request_id, endpoint), **about})

    async def _respond(
        self, route: Route, values: dict[str, str], context: RequestContext
    ) -> Response:
        """The handler's answer. Raises Refused, ClientGone and what the handler raises."""
        headers = context.headers
        client = self._clients.address(context.peer, headers.get(b"x-forwarded-for"))
        if not route.always:
            if self.monitor.overloaded:
                self._count_overload("lag")
                raise overloaded()
            if self._rate is not None:
                self._rate.check(client)
        if route.protected:
            self._token.check(headers)
        body, query = await context.body(route.max_body), context.scope["query_string"]
        request = Request(body, context.request_id, headers, values, query, client)
        if route.waits:
            return await run_with_timeout(route.handler(self.service, request), route.timeout_s)
        response: Response = route.handler(self.service, request)
        return response

    def _find_route(self, scope: Scope) -> tuple[Route, dict[str, str]]:
        """The route of a path with names in it, or one that refuses."""
        path, method = scope["path"], scope["method"]
        found = self._router.find(path, scope.get("raw_path") or path.encode())
        if found is None:
            return build_refusing_route(method, UNKNOWN_PATH, path_error), {}
        by_method, values = found
        if (route := by_method.get(method)) is None:
            some = next(iter(by_method.values()))
            refusal = functools.partial(method_error, method, by_method)
            return build_refusing_route("other", some.pattern, refusal), {}
        return route, values

    def _to_problem(self, refused: HttpError, context: RequestContext, endpoint: str) -> Response:
        response = refused.response
        self.service.metrics.refused(response.status)
        if response.status >= 500 and not isinstance(refused, Overloaded):
            about = {"status": response.status, "detail": refused.problem.detail}
            self._unable.log(**log_fields(context.request_id, endpoint), **about)
        return response

    def _count_overload(self, reason: str) -> None:
        self.service.metrics.shed(reason)
        self._shed.log(reason=reason)

    async def _handle_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            return await send({"type": "websocket.close"})

        async def send_on(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._start()
            elif message["type"] == "lifespan.shutdown.complete":
                self.monitor.stop()
                self._flush()
            await send(message)

        await self.app(scope, receive, send_on)

    def _start(self) -> None:
        """Take what BentoML has made while it started: the service, and its metrics."""
        import bentoml

        configure_logging()
        self.service = bentoml.get_current_service()
        self.route_metrics = RouteMetrics(
            find_metrics_middleware(self.app), self.service.metrics, bentoml.server_context
        )
        self.monitor.start()
        about = {"model_version": self.service.model_version, "settings": self.settings.shown()}
        _log.info("ready", extra={**about, "pid": os.getpid()})

    def _on_tick(self) -> None:
        self._flush()

    def _on_second(self) -> None:
        self._token.refresh()
        if self.sweep is not None:
            self.sweep(asyncio.get_running_loop().time())

    def _flush(self) -> None:
        self.route_metrics.flush()
        self.service.metrics.flush()


def find_inner_paths(app: Any) -> frozenset[str]:
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


def find_metrics_middleware(app: Any) -> Any:
    """BentoML's middleware that counts requests, of an application that has started."""
    from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware

    layer = app.middleware_stack
    while not isinstance(layer, RunnerTrafficMetricsMiddleware):
        layer = layer.app
    return layer


def build_refusing_route(method: str, pattern: str, refusal: Callable[[], HttpError]) -> Route:
    """A route of which every request is refused."""

    def refuse(_service: Any, _request: Request) -> Response:
        raise refusal()

    return Route(method, pattern, refuse)


async def run_with_timeout(answer: Awaitable[Response], seconds: float) -> Response:
    """What a handler answers that waits. Raises Refused (504) when it waits for too long."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await answer
    except TimeoutError:
        if not limit.expired():  # a timeout of its own
            raise
        raise handler_timeout(seconds) from None


def log_fields(request_id: str, endpoint: str) -> dict[str, str]:
    """What a line of log says of a request."""
    return {"request_id": request_id, "endpoint": endpoint}
