"""Events without recommendations, as a process of its own: `python -m bento.ingest`.

Events must be public, and recommendations often are not. Handlers, settings and limits are those of
the service.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from uvicorn import Config, Server

from bento.http.limits import AdminToken
from bento.settings import Settings, SettingsError, read_settings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

GRACE_S = 10
"""For requests that run when the process is told to end."""

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"


class IngestService:
    """As much of a service as the endpoints need."""

    model_version = ""

    def __init__(self, settings: Settings) -> None:
        from bento.events.collector import EventCollector
        from bento.http.metrics import HttpMetrics

        self.variant = settings.variant
        self.metrics = HttpMetrics({})
        self.events = EventCollector(settings)
        self.metrics.add(self.events.metrics)
        self.details: dict[str, Callable[[], Any]] = {"events": self.events.status}


class IngestConfig(Config):
    """Builds the application in the process that serves it, before uvicorn picks its protocol."""

    def load(self) -> None:
        self.app = build_app(read_settings())
        super().load()


def build_app(settings: Settings) -> Any:
    from bento.endpoints import READY
    from bento.events.routes import EVENT_ROUTES
    from bento.http.application import Endpoints, guard_connections
    from bento.http.metrics import RouteMetrics

    service = IngestService(settings)
    endpoints = Endpoints(
        build_inner_app(service),
        [*EVENT_ROUTES, READY],
        settings,
        lambda: (service, RouteMetrics(service.metrics)),
    )
    return guard_connections(endpoints, settings).app


def build_inner_app(service: IngestService) -> Any:
    """Probes and metrics; its end stores what is queued."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    @asynccontextmanager
    async def stop_events(_app: Any) -> AsyncIterator[None]:
        yield
        service.events.stop()

    routes = [Route("/metrics", render_metrics)]
    routes += [Route(path, answer_probe) for path in ("/livez", "/healthz")]
    return Starlette(routes=routes, lifespan=stop_events)


def answer_probe(_request: "Request") -> "Response":
    from starlette.responses import PlainTextResponse

    return PlainTextResponse("")


def render_metrics(_request: "Request") -> "Response":
    """Of all workers."""
    import prometheus_client
    from prometheus_client.multiprocess import MultiProcessCollector
    from starlette.responses import Response

    registry = prometheus_client.CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    content = prometheus_client.generate_latest(registry)
    return Response(content, media_type=prometheus_client.CONTENT_TYPE_LATEST)


def run(host: str, port: int, workers: int) -> None:
    """Until SIGTERM, which lets requests in flight end and stores what is queued.

    Raises SettingsError.
    """
    from bento.events.location import verify_events_url

    settings = read_settings()
    AdminToken(settings)
    verify_events_url(settings)
    with tempfile.TemporaryDirectory(prefix="fbt-ingest-") as folder:
        os.environ.setdefault(MULTIPROCESS_DIR, folder)
        config = IngestConfig(
            "",
            host=host,
            port=port,
            workers=workers,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=GRACE_S,
        )
        serve(config)


def serve(config: Config) -> None:
    if config.workers == 1:
        Server(config).run()
        return
    from uvicorn.supervisors import Multiprocess

    Multiprocess(config, sockets=[config.bind_socket()]).run()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bento.ingest", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3001)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    given = parser.parse_args(arguments)
    # uvicorn raises the signal again once it has ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        run(given.host, given.port, given.workers)
    except SettingsError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
