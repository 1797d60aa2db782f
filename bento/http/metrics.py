"""What the service tells of itself: metrics for Prometheus, and a log of JSON lines.

A request only notes what happened, in lists and integers: a counter that is shared between workers
costs a microsecond, a histogram several. The notes are entered every few milliseconds, and before
this worker answers `/metrics`.
"""

import itertools
import json
import logging
import sys
import time
import traceback
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bento.http.latency_buckets import LATENCY_BUCKETS_S
from bento.schemas import SOURCES

_log = logging.getLogger("fbt")

LENGTH_BUCKETS = [0, 1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 100]

ANSWERING = ("recommend", "similar")
"""Endpoints that answer with products, and have metrics from the start."""

RULE_ACTIONS = ("pin", "block", "boost", "bury")

SHED_REASONS = ("lag", "connections")

REFUSALS = (400, 401, 403, 404, 405, 408, 413, 429, 500, 503, 504)


MAX_ERROR = 300
"""Characters of an exception's message in the log."""


class BufferedCounter:
    """Counted here, entered later."""

    def __init__(self, *counters: Any) -> None:
        self.n = 0
        self._counters = counters

    def flush(self) -> None:
        """Add what was counted since the last time to the shared counters."""
        if self.n:
            n, self.n = self.n, 0
            for counter in self._counters:
                counter.inc(n)


class BufferedHistogram:
    """Observed here, entered later; a counter beside the histograms counts the values."""

    def __init__(self, histograms: Sequence[Any], counters: Sequence[Any] = ()) -> None:
        self.values: list[float] = []
        self.note = self.values.append
        self._histograms = histograms
        self._counters = counters

    def flush(self) -> int:
        """Add the values noted since the last time to the shared histograms; how many."""
        if not (n := len(self.values)):
            return 0
        values = self.values.copy()
        self.values.clear()
        for histogram in self._histograms:
            observe_many(histogram, values)
        for counter in self._counters:
            counter.inc(n)
        return n


def observe_many(histogram: Any, values: Iterable[float]) -> None:
    """As `histogram.observe` for each: one write a bucket instead of two for every value."""
    by_bucket: dict[int, int] = {}
    total = 0.0
    for value in values:
        bucket = bisect_left(histogram._upper_bounds, value)
        by_bucket[bucket] = by_bucket.get(bucket, 0) + 1
        total += value
    histogram._sum.inc(total)
    for bucket, n in by_bucket.items():
        histogram._buckets[bucket].inc(n)


class FactoryDict(dict[Any, Any]):
    """A dictionary that makes what it lacks."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: Any) -> Any:
        made = self[key] = self._make(key)
        return made


class ServiceMetrics:
    """The service's own metrics, by model version and variant."""

    def __init__(self, model_version: str, variant: str) -> None:
        # Imported in the worker only: the client library decides at its import whether it counts
        # across workers.
        import prometheus_client

        self._client = prometheus_client
        self._stale: Any = None
        self._version = model_version
        self._own = {"model_version": model_version, "variant": variant}
        self._counts: list[BufferedCounter] = []
        self._values: list[BufferedHistogram] = []
        self._requests = self._counter("requests", "Requests.", "endpoint", "status")
        self._seconds = self._histogram(
            "request_duration_seconds", "Seconds to answer.", LATENCY_BUCKETS_S, "endpoint"
        )
        self._name_refusals()
        self._name_answers()
        self._name_rules()

    def record_answer(self, endpoint: str, source: str, n_items: int, n_unknown: int = 0) -> None:
        """An answer went out: from which source, how long, with how many unknown inputs.

        `endpoint` is `recommend` or `similar`; each answer of a batch is one.
        """
        self._answers[endpoint, source].n += 1
        self._lengths.note(n_items)
        if n_unknown:
            self._unknown[endpoint].n += n_unknown

    def count_rules(self, action: str, n: int = 1) -> None:
        """Rules changed an answer: `pin`, `block`, `boost` or `bury`, at `n` products."""
        self._rules[action].n += n

    def shed(self, reason: str) -> None:
        """A request was turned away for want of time (`lag`) or of connections."""
        self._shed[reason].n += 1

    def refused(self, status: int) -> None:
        """A request was answered with a problem."""
        self._refused[status].n += 1

    def set_bundle_created(self, created_at: str) -> None:
        """Show the time, ISO 8601, at which the bundle that serves was made."""
        created = self._client.Gauge(
            "fbt_bundle_created_timestamp_seconds",
            "When the bundle that serves was made.",
            list(self._own),
            multiprocess_mode="max",
        )
        created.labels(**self._own).set(datetime.fromisoformat(created_at).timestamp())

    def stale(self, seconds: float) -> None:
        """Show for how long the database has not been heard of; 0 while it is."""
        if self._stale is None:
            gauge = self._client.Gauge(
                "fbt_database_stale_seconds",
                "Seconds since rules and catalogue changes could last be read; 0 while they can.",
                list(self._own),
                multiprocess_mode="livemax",
            )
            self._stale = gauge.labels(**self._own)
        self._stale.set(seconds)

    def get_route_metrics(self, endpoint: str, status: int) -> tuple[Any, Any]:
        """Counter and histogram of an endpoint and a status."""
        counter = self._requests.labels(endpoint=endpoint, status=str(status), **self._own)
        return counter, self._seconds.labels(endpoint=endpoint, **self._own)

    def flush(self) -> None:
        """Enter everything that was noted."""
        for count in self._counts:
            count.flush()
        for values in self._values:
            values.flush()

    def _name_refusals(self) -> None:
        refused = self._counter("refused", "Answers that are problems.", "status")
        shed = self._counter("shed", "Turned away under overload, by what was short.", "reason")
        self._refused = FactoryDict(lambda status: self._count(refused, status=str(status)))
        self._shed = FactoryDict(lambda reason: self._count(shed, reason=reason))
        initialize_series(self._refused, REFUSALS)
        initialize_series(self._shed, SHED_REASONS)

    def _name_answers(self) -> None:
        answers = self._counter("answers", "Answers, by their source.", "endpoint", "source")
        unknown = self._counter("unknown_items", "Products that nobody knows.", "endpoint")
        lengths = self._histogram("list_length", "Products in an answer.", LENGTH_BUCKETS)
        sources_of, unknown_of = self._by_version()

        def count(key: tuple[str, str]) -> BufferedCounter:
            endpoint, source = key
            labels = {"source": source, "model_version": self._version}
            others = [one.labels(**labels) for one in sources_of.get(endpoint, [])]
            return self._count(answers, *others, endpoint=endpoint, source=source)

        self._answers = FactoryDict(count)
        self._unknown = FactoryDict(
            lambda endpoint: self._count(unknown, *unknown_of.get(endpoint, []), endpoint=endpoint)
        )
        self._lengths = BufferedHistogram([lengths.labels(**self._own)])
        self._values.append(self._lengths)
        initialize_series(self._answers, itertools.product(ANSWERING, SOURCES))
        initialize_series(self._unknown, ANSWERING)

    def _by_version(self) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """The counters without variant that dashboards, alerts and canaries query, by endpoint.

        Of answers by source, which want their labels yet, and of unknown products.
        """
        recommended = self._client.Counter(
            "fbt_recommend_requests_total",
            "Recommendations answered, by where they came from.",
            ["source", "model_version"],
        )
        similar = self._client.Counter(
            "fbt_similar_requests_total",
            "Questions for substitutes answered, by where the answers came from.",
            ["source", "model_version"],
        )
        unknown = self._client.Counter(
            "fbt_recommend_unknown_items_total",
            "Products asked for that the model does not know.",
            ["model_version"],
        )
        by_source = {"recommend": [recommended], "similar": [similar]}
        return by_source, {"recommend": [unknown.labels(self._version)]}

    def _name_rules(self) -> None:
        rules = self._counter("rules_applied", "Products that rules moved.", "action")
        self._rules = FactoryDict(lambda action: self._count(rules, action=action))
        initialize_series(self._rules, RULE_ACTIONS)

    def _counter(self, name: str, description: str, *labels: str) -> Any:
        return self._client.Counter(f"fbt_{name}_total", description, [*labels, *self._own])

    def _histogram(
        self, name: str, description: str, buckets: Sequence[float], *labels: str
    ) -> Any:
        return self._client.Histogram(
            f"fbt_{name}", description, [*labels, *self._own], buckets=buckets
        )

    def _count(self, counter: Any, *others: Any, **labels: str) -> BufferedCounter:
        count = BufferedCounter(counter.labels(**labels, **self._own), *others)
        self._counts.append(count)
        return count


def initialize_series(made: FactoryDict, keys: Iterable[Any]) -> None:
    """Make series before there is anything to count: a rate needs a first value."""
    for key in keys:
        made[key]


class RouteMetrics:
    """Requests by endpoint and status: BentoML's per-route metrics, and ours.

    BentoML's middleware for them lies inside of what answers here, so that its metric objects are
    taken and filled as it would.
    """

    def __init__(self, middleware: Any, metrics: ServiceMetrics, context: Any) -> None:
        self._bentoml, self._meters = middleware, metrics
        self._labels = {
            "service_name": context.bento_name,
            "service_version": context.bento_version,
            "runner_name": context.service_name,
        }
        self._of = FactoryDict(self._meter)
        self._running: dict[str, int] = {}
        self._shown: dict[str, int] = {}
        in_progress = middleware.metrics_request_in_progress
        self._gauges = FactoryDict(
            lambda endpoint: in_progress.labels(endpoint=endpoint, **self._labels)
        )
        self._last = middleware.metrics_last_request_timestamp.labels(**self._labels)

    def began(self, endpoint: str) -> None:
        """A request is being answered."""
        self._running[endpoint] = self._running.get(endpoint, 0) + 1

    def ended(self, endpoint: str) -> None:
        """It is no longer, whatever became of it."""
        self._running[endpoint] -= 1

    def record_answer(self, endpoint: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._of[endpoint, status].note(seconds)

    def flush(self) -> None:
        """Enter everything that was noted."""
        entered = [values.flush() for values in self._of.values()]
        if any(entered):
            self._last.set(time.time())
        for endpoint, n in self._running.items():
            if self._shown.get(endpoint) != n:
                self._shown[endpoint] = n
                self._gauges[endpoint].set(n)

    def _meter(self, key: tuple[str, int]) -> BufferedHistogram:
        endpoint, status = key
        labels = {"endpoint": endpoint, "http_response_code": status, **self._labels}
        counter, seconds = self._meters.get_route_metrics(endpoint, status)
        return BufferedHistogram(
            [self._bentoml.metrics_request_duration.labels(**labels), seconds],
            [self._bentoml.metrics_request_total.labels(**labels), counter],
        )


class ThrottledLog:
    """Logs an event at most once a second, with how often it came since the last line."""

    def __init__(self, event: str, level: int) -> None:
        self._event, self._level = event, level
        self._next = 0.0
        self._n = 0

    def log(self, **about: Any) -> None:
        """The event came; `about` is what this one line tells of it."""
        self._n += 1
        if (now := time.monotonic()) >= self._next:
            _log.log(self._level, self._event, extra={**about, "requests": self._n})
            self._next, self._n = now + 1, 0


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: ts, level, event, and what the record carries beside."""

    _USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line = {
            "ts": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "pid": record.process,
        }
        line |= {name: value for name, value in vars(record).items() if name not in self._USUAL}
        if record.exc_info and record.exc_info[0]:
            line |= describe_exception(*record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def describe_exception(kind: Any, error: Any, trace: Any) -> Mapping[str, Any]:
    """What a log tells of an exception: its message, cut short as it may quote a request."""
    frames = traceback.extract_tb(trace)
    return {
        "error": f"{kind.__name__}: {error}"[:MAX_ERROR],
        "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def configure_logging() -> None:
    """Let the logger `fbt` write JSON lines to stderr. Not at import: tests and tools log, too."""
    log = logging.getLogger("fbt")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
