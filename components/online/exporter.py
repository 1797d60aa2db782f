"""Actions of shoppers on recommendations, for Prometheus: counted from the sink while it fills.

`fbt_online_lift_lower` and `_upper` bound by how much more one model version earns per list than
another; they hold at all times together, so that a canary may be judged whenever one looks. After a
restart the sink is read anew, and nothing is exported before its end is reached.
"""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from components.events.sink import Sink, SinkUnavailable
from components.online.follow import Follower, Part
from components.online.live import HOUR_US, Live
from components.online.live_lift import OUTCOMES
from components.online.live_settings import LiveSettings, read_settings

if TYPE_CHECKING:
    from prometheus_client import Metric

STUCK_S = 300
"""A loop that does not turn for so long is restarted; reading and counting a batch takes less."""
MAX_PAUSE_S = 60

log = logging.getLogger("fbt.online")


class Exporter:
    """Reads a sink on the thread that calls `run`, and answers Prometheus on others."""

    def __init__(
        self,
        settings: LiveSettings,
        connect: Callable[[], AbstractContextManager[Sink]],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._connect, self._now_s = settings, connect, now_s
        self._start_s = now_s()
        self._read_until_s = self._start_s - settings.window_h * 3600
        self._turned_at = time.monotonic()
        self._stop = threading.Event()
        self._live = Live(settings, count_from_us=int(self._start_s * 1e6))
        self._follower = Follower()
        self._errors = 0
        self._exported: tuple[Metric, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether the end of the sink was reached once."""
        return bool(self._exported)

    @property
    def is_stuck(self) -> bool:
        return time.monotonic() - self._turned_at > STUCK_S

    def stop(self, *_: object) -> None:
        self._stop.set()

    def run(self) -> None:
        """Block until `stop`."""
        pause_s = self._settings.poll_s
        while not self._stop.is_set():
            try:
                with self._connect() as sink:
                    while not self._stop.is_set():
                        self.read_all(sink)
                        pause_s = self._settings.poll_s
                        self._stop.wait(pause_s)
            except SinkUnavailable as error:
                log.warning("sink: %s; trying again in %.0f s", error, pause_s)
                self._errors += 1
                self._turned_at = time.monotonic()
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def read_all(self, sink: Sink) -> None:
        """Up to the end of the sink. Raises SinkUnavailable."""
        is_last = False
        while not (is_last or self._stop.is_set()):
            now_us = int(self._now_s() * 1e6)
            part = self._follower.read(sink, now_us)
            self._add(part, now_us)
            is_last = part.is_last
            self._turned_at = time.monotonic()
        if is_last:
            self._exported = tuple(_export(self._live))

    def _add(self, part: Part, now_us: int) -> None:
        oldest = now_us - int(self._settings.window_h * HOUR_US)
        self._live.add(
            [one for one in part.lists if one.ts_us >= oldest],
            [one for one in part.events if one.received_us >= oldest],
        )
        self._live.settle(part.until_us)
        self._read_until_s = max(self._read_until_s, part.until_us / 1e6)

    def collect(self) -> Iterator["Metric"]:
        """For prometheus_client."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield from self._exported
        behind_s = max(self._now_s() - self._read_until_s, 0.0)
        yield GaugeMetricFamily(
            "fbt_online_behind_seconds", "How far the sink has not been read.", behind_s
        )
        yield CounterMetricFamily(
            "fbt_online_sink_errors", "Times that the sink could not be read.", self._errors
        )


def _export(live: Live) -> Iterator["Metric"]:
    yield from _export_counters(live)
    yield from _export_sessions(live)
    yield from _export_lifts(live)


def _export_counters(live: Live) -> Iterator["Metric"]:
    counter = _open_family("counter")
    arm = ("model_version", "variant")
    yield counter(
        "fbt_impressions", "Recommended products that were seen.", arm, live.impressions.items()
    )
    yield counter(
        "fbt_events",
        "Recommended products that were clicked, added, bought.",
        ("event", *arm),
        (((event, *one), n) for (event, one), n in live.events.items()),
    )
    yield counter(
        "fbt_online_read",
        "Recommended products in events, and events of none, by what became of them; "
        "counted_before: an event of the same kind had counted for the product in this list.",
        ("outcome",),
        (((name,), n) for name, n in live.read.items()),
    )
    dropped = {name: live.dropped[name] for name in ("lists", "sessions", "robots")}
    yield counter(
        "fbt_online_dropped",
        "Lists and sessions that memory or rules left out.",
        ("what",),
        (((name,), n) for name, n in dropped.items()),
    )


def _export_sessions(live: Live) -> Iterator["Metric"]:
    gauge = _open_family("gauge")
    arm = ("model_version", "variant")
    totals = {one: sums.totals() for one, sums in live.sums.items() if sums.n}
    yield gauge(
        "fbt_online_sessions",
        "Sessions of the window whose outcome is known.",
        arm,
        ((one, live.sums[one].n_sessions) for one in totals),
    )
    yield gauge(
        "fbt_online_lists", "Their lists.", arm, ((one, sums[0]) for one, sums in totals.items())
    )
    yield gauge(
        "fbt_online_outcomes",
        "What they did with recommended products.",
        ("event", *arm),
        (
            ((event, *one), n)
            for one, sums in totals.items()
            for event, n in zip(OUTCOMES, sums[1:], strict=True)
        ),
    )
    yield gauge(
        "fbt_online_open_sessions",
        "Sessions whose outcome is not known yet.",
        (),
        [((), live.n_open)],
    )


def _export_lifts(live: Live) -> Iterator["Metric"]:
    lifts = list(live.compare())
    labels = ("event", "model_version", "variant", "against", "against_variant")
    for place, name in enumerate(("lower", "upper")):
        yield _open_family("gauge")(
            f"fbt_online_lift_{name}",
            f"{name.capitalize()} bound of what a version earns more per list, 0.1 for a tenth; "
            "without a variant, of the version with all its arms.",
            labels,
            (((pair.outcome, *pair.arm, *pair.against), two[place]) for pair, two in lifts),
        )


def _open_family(kind: str) -> Callable[..., "Metric"]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    made: Any = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}[kind]

    def make(
        name: str,
        text: str,
        labels: tuple[str, ...],
        samples: Iterable[tuple[tuple[str, ...], float]],
    ) -> "Metric":
        family: Metric = made(name, text, labels=labels)
        for values, value in samples:
            family.add_metric(values, value)  # type: ignore[attr-defined]
        return family

    return make


# ---------------------------------------------------------------- the process


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serve_metrics(exporter: Exporter, host: str, port: int) -> Iterator[int]:
    """`/metrics`, `/livez` and `/readyz` until the end of the block; yields the port."""
    from prometheus_client import CollectorRegistry, make_wsgi_app

    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    metrics = make_wsgi_app(registry)

    def answer(environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        checks = {"/livez": not exporter.is_stuck, "/readyz": exporter.is_ready}
        is_good = checks.get(path)
        status = "404 Not Found" if is_good is None else "503 Service Unavailable"
        start_response("200 OK" if is_good else status, [("Content-Type", "text/plain")])
        return [b"ok\n" if is_good else b"no\n"]

    server = _Server((host, port), _Quiet)
    server.set_app(answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def export(settings: LiveSettings, connect: Callable[[], AbstractContextManager[Sink]]) -> None:
    """Read the sink and answer Prometheus until SIGTERM or SIGINT."""
    exporter = Exporter(settings, connect)
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, exporter.stop)
    with serve_metrics(exporter, settings.host, settings.port) as port:
        log.info("http://%s:%d/metrics", settings.host, port)
        exporter.run()


def main() -> None:
    from components.events.open import open_sink

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = read_settings()
        url = settings.events_url.get_secret_value()
        export(settings, lambda: closing(open_sink(url)))
    except ValueError as error:
        sys.exit(f"exporter: {error}")


if __name__ == "__main__":
    main()
