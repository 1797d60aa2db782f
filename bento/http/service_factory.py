"""A BentoML service whose endpoints are outside of everything that BentoML puts around them."""

import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from _bentoml_sdk.service.factory import Service  # type: ignore[import-untyped]

from bento.settings import Settings, read_settings

if TYPE_CHECKING:
    from bento.http.application import Endpoints

Inner = TypeVar("Inner")

_log = logging.getLogger("fbt")


class ServiceFactory(Service[Inner], Generic[Inner]):  # type: ignore[misc]
    """Given as `service_class` to `bentoml.service`, which is made for that.

    BentoML's own seam, `add_asgi_middleware`, lies inside of its metrics, tracing and timeout;
    they cost half of the throughput, by themselves and by the timer that every request leaves
    behind. `to_asgi` is what BentoML's server asks a service for: what it returns is served.
    """

    def to_asgi(self, is_main: bool = True) -> Any:
        """BentoML's application with ours around it, and limits on the connections to both."""
        # Here, as the process that only starts workers has no use for it.
        from bento.endpoints import ROUTES
        from bento.http.application import Endpoints

        settings = read_settings()
        raise_file_limit()
        endpoints = Endpoints(super().to_asgi(is_main), ROUTES, settings)
        app, overload_app = (wrap_app(one, settings) for one in (endpoints, endpoints.overload_app))
        guard_connections(endpoints, app, overload_app)
        return app


def wrap_app(app: Any, settings: Settings) -> Any:
    """The application with what is off by default: CORS, and OpenTelemetry outside of all."""
    if settings.cors_origins:
        from starlette.middleware.cors import CORSMiddleware

        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "PUT", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "X-Request-Id"),
            expose_headers=("X-Request-Id", "Retry-After"),
        )
    return add_tracing(app) if settings.tracing else app


def add_tracing(app: Any) -> Any:
    """The application with a span around every request, as BentoML's configuration says.

    BentoML's own spans are switched off in the service: of most requests they would see nothing.
    """
    from bentoml._internal.configuration.containers import BentoMLContainer
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    provider = BentoMLContainer.tracer_provider.get()
    return OpenTelemetryMiddleware(
        app, excluded_urls="livez,readyz,healthz,metrics", tracer_provider=provider
    )


def guard_connections(endpoints: "Endpoints", app: Any, overload_app: Any) -> None:
    """Let this process's server make connections with limits.

    BentoML builds uvicorn's configuration itself, and says nothing there of the protocol: it is
    the one that uvicorn calls `auto`.
    """
    from uvicorn.config import HTTP_PROTOCOLS

    from bento.http.connections import ConnectionGuard

    def refused(status: int) -> None:
        endpoints.service.metrics.refused(status)

    settings = endpoints.settings
    limits = settings.max_connections, settings.read_timeout_s
    guard = ConnectionGuard(endpoints, app, overload_app, *limits, refused)
    endpoints.sweep = guard.sweep
    HTTP_PROTOCOLS["auto"] = guard.protocol()  # type: ignore[assignment]


def raise_file_limit() -> None:
    """Let the process open as many files as the system would grant it; a connection is one."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        _log.warning("file_limit", extra={"files": soft})
