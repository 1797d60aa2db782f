"""The ASGI application in front of BentoML's: answers our routes, passes BentoML's own paths on.

BentoML's request handling costs several times as much as a recommendation.
"""

import asyncio
import logging
import os
import resource
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from starlette.responses import Response
from starlette.routing import compile_path

from bento.http.errors import HttpError, Overloaded, to_json
from bento.http.limits import AdminToken, ClientAddresses, EventLoopMonitor, RateLimit
from bento.http.logs import ThrottledLog, configure_logging
from bento.http.metrics import RouteMetrics
from bento.http.private_parts import (
    TRANSPORT,
    ConnectionGuard,
    add_tracing,
    find_bentoml_metrics,
)
from bento.http.request_context import (
    ClientGone,
    Message,
    Receive,
    RequestContext,
    Scope,
    Send,
)
from bento.http.routing import Route, group_by_pattern
from bento.schemas.problems import FieldError
from bento.settings import Settings, read_settings

EVENT_HEADERS = ("Content-Type", "Content-Encoding", "X-Fbt-Key")

_log = logging.getLogger("fbt")


def build_app(bentoml_app: Any) -> Any:
    """BentoML's application behind our endpoints, and limits on connections."""
    from bento.endpoints import ROUTES

    settings = read_settings()
    raise_file_limit()
    endpoints = Endpoints(bentoml_app, ROUTES, settings, lambda: take_over_service(bentoml_app))
    return guard_connections(endpoints, settings).app


def guard_connections(endpoints: "Endpoints", settings: Settings) -> ConnectionGuard:
    """Of this process, with the limits and the middleware that the settings name."""
    app, overload_app = (
        add_middleware(one, settings) for one in (endpoints, endpoints.overload_app)
    )
    guard = ConnectionGuard(
        app,
        overload_app,
        settings.max_connections,
        settings.read_timeout_s,
        lambda status: endpoints.service.metrics.count_refusal(status),
        writes_directly=app is endpoints,
    )
    endpoints.sweep = guard.sweep
    guard.install()
    return guard


def take_over_service(bentoml_app: Any) -> tuple[Any, RouteMetrics]:
    """The service and the metrics that BentoML made at its start."""
    import bentoml

    context = bentoml.server_context
    labels: dict[str, Any] = {
        "service_name": context.bento_name,
        "service_version": context.bento_version,
        "runner_name": context.service_name,
    }
    service = bentoml.get_current_service()
    return service, RouteMetrics(service.metrics, find_bentoml_metrics(bentoml_app), labels)


def add_middleware(app: Any, settings: Settings) -> Any:
    if settings.cors_origins:
        from starlette.middleware.cors import CORSMiddleware

        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "PUT", "DELETE"),
            allow_headers=("Authorization", *EVENT_HEADERS, "X-Request-Id"),
            expose_headers=("X-Request-Id", "Retry-After"),
        )
    return add_tracing(app) if settings.tracing else app


def raise_file_limit() -> None:
    """Connections are files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        _log.warning("file_limit", extra={"files": soft})


class Endpoints:
    def __init__(
        self,
        app: Any,
        routes: Iterable[Route],
        settings: Settings,
        start: Callable[[], tuple[Any, RouteMetrics]],
    ) -> None:
        """`app` answers its own paths; `start` is called once it has started."""
        self.app = app
        self._start_service = start
        self.settings = settings
        self.sweep: Callable[[float], None] = lambda _now: None
        self._monitor = EventLoopMonitor(settings.max_lag_ms / 1000, self._flush, self._on_second)
        by_pattern = group_by_pattern(routes)
        self._exact = {
            (method, pattern): route
            for pattern, by_method in by_pattern.items()
            for method, route in by_method.items()
            if "{" not in pattern
        }
        self._patterns = [
            (compile_path(pattern)[0], by_method) for pattern, by_method in by_pattern.items()
        ]
        self._inner = find_inner_paths(app) - by_pattern.keys()
        self._token = AdminToken(settings)
        self._rate = RateLimit(settings.rate_limit) if settings.rate_limit else None
        self._clients = ClientAddresses(settings.trusted_proxies)
        self._overload_log = ThrottledLog("shed", logging.WARNING)
        self._error_log = ThrottledLog("request_refused", logging.ERROR)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._handle_lifespan(scope, receive, send)
        route = self._exact.get((scope["method"], scope["path"]))
        if route is None:
            if scope["path"] in self._inner:
                scope.pop(TRANSPORT, None)
                self._flush()  # the path may be /metrics
                await self.app(scope, receive, send)
                return
            route = self._find_route(scope)
        await self._answer(route, RequestContext(scope, receive, send))

    async def overload_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """For connections above the limit: only probes, metrics and documentation."""
        if scope["type"] == "http" and scope["path"] not in self._inner:
            route = self._exact.get((scope["method"], scope["path"]))
            if route is None or not route.always:
                response = self._count_overload("connections").to_response()
                response.headers["connection"] = "close"
                await RequestContext(scope, receive, send).answer(response)
                return
        await self(scope, receive, send)

    async def _answer(self, route: Route, request: RequestContext) -> None:
        began = time.perf_counter()
        metrics, endpoint = self._route_metrics, route.path
        metrics.start_request(endpoint)
        content: bytes | Response
        try:
            content = await self._respond(route, request)
        except ClientGone:
            return
        except HttpError as error:
            content = self._to_problem(error, request, endpoint)
        except Exception:
            _log.exception("request_failed", extra=log_fields(request, endpoint))
            self.service.metrics.count_refusal(500)
            detail = f"The service failed; its log has the reason under id {request.request_id}"
            content = HttpError(500, detail=detail).to_response()
        finally:
            metrics.end_request(endpoint)
        status = await request.answer(content, route.status)
        seconds = time.perf_counter() - began
        metrics.record_answer(endpoint, status, seconds)
        if self.settings.access_log:
            fields = log_fields(request, endpoint, status=status, ms=round(seconds * 1000, 3))
            _log.info("request", extra=fields)

    async def _respond(self, route: Route, request: RequestContext) -> bytes | Response:
        headers = request.headers
        request.client = self._clients.find(request.peer, headers.get(b"x-forwarded-for"))
        if not route.always:
            if self._monitor.overloaded:
                raise self._count_overload("lag")
            if self._rate is not None:
                self._rate.check(request.client)
        if route.protected:
            self._token.check(headers)
        if route.admit is not None:
            route.admit(self.service, request)
        await request.load(route)
        content = route.handler(self.service, request)
        if route.is_async:
            content = await run_with_timeout(content, route.timeout_s)
        return content if isinstance(content, (bytes, Response)) else to_json(content)

    def _find_route(self, scope: Scope) -> Route:
        """The route of a path with parameters, or one that refuses."""
        method = scope["method"]
        path = scope["raw_path"].decode()  # still encoded: a product's id may contain a slash
        for pattern, by_method in self._patterns:
            if found := pattern.match(path):
                if (route := by_method.get(method)) is None:
                    return build_method_error_route(method, by_method)
                scope["path_params"] = found.groupdict()
                return route
        return UNKNOWN_ROUTE

    def _to_problem(self, error: HttpError, request: RequestContext, endpoint: str) -> Response:
        status = error.problem.status
        self.service.metrics.count_refusal(status)
        if status >= 500 and not isinstance(error, Overloaded):
            detail = error.problem.detail
            self._error_log.log(**log_fields(request, endpoint, status=status, detail=detail))
        return error.to_response()

    def _count_overload(self, reason: str) -> Overloaded:
        self.service.metrics.count_overload(reason)
        self._overload_log.log(reason=reason)
        return Overloaded()

    async def _handle_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            return await send({"type": "websocket.close"})

        async def send_on(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._start()
            elif message["type"] == "lifespan.shutdown.complete":
                self._monitor.stop()
                self._flush()
            await send(message)

        await self.app(scope, receive, send_on)

    def _start(self) -> None:
        configure_logging()
        self.service, self._route_metrics = self._start_service()
        self._monitor.start()
        fields = {
            "model_version": self.service.model_version,
            "settings": self.settings.dump_changed(),
            "pid": os.getpid(),
        }
        _log.info("ready", extra=fields)

    def _on_second(self) -> None:
        self._token.refresh()
        self.sweep(asyncio.get_running_loop().time())

    def _flush(self) -> None:
        self._route_metrics.flush()
        self.service.metrics.flush()


def find_inner_paths(app: Any) -> frozenset[str]:
    """BentoML's own paths; of every other one it would make a series of metrics."""
    paths = set()
    for route in app.routes:
        if directory := getattr(getattr(route, "app", None), "directory", None):
            paths |= {f"{route.path}/{file.name}" for file in Path(directory).iterdir()}
        elif "{" not in route.path:
            paths.add(route.path)
    return frozenset(paths)


def refuse_path(_service: Any, _request: RequestContext) -> NoReturn:
    raise HttpError(404, detail="No such path; GET /docs.json lists all paths")


UNKNOWN_ROUTE = Route("", "unknown", refuse_path)
"""One endpoint in the metrics for all unknown paths, which would make a series each."""


def build_method_error_route(method: str, by_method: dict[str, Route]) -> Route:
    allow = ", ".join(sorted(by_method))

    def refuse_method(_service: Any, _request: RequestContext) -> NoReturn:
        error = FieldError(field="method", found=method, expected=f"one of {allow}")
        raise HttpError(405, error, headers={"allow": allow})

    return Route("", next(iter(by_method.values())).pattern, refuse_method)


async def run_with_timeout(answer: Awaitable[Any], seconds: float) -> Any:
    """Raises HttpError (504) on expiry."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await answer
    except TimeoutError:
        if not limit.expired():  # the handler's own
            raise
        raise HttpError(504, detail=f"No answer within {seconds:g} s") from None


def log_fields(request: RequestContext, endpoint: str, **more: Any) -> dict[str, Any]:
    return {"request_id": request.request_id, "endpoint": endpoint, **more}
