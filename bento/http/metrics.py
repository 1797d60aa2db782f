"""Prometheus metrics of the service.

Requests only append to lists and add to integers: a counter shared between workers costs a
microsecond, a histogram several. These buffers are flushed every few milliseconds, and before this
worker answers `/metrics`.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bento.http.constants import LATENCY_BUCKETS_S
from bento.http.private_parts import BentomlMetrics, observe_many
from bento.schemas import SOURCES

LENGTH_BUCKETS = [0, 1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 100]

ENDPOINTS = ("recommend", "similar")
"""Endpoints whose answers are counted by source."""

RULE_ACTIONS = ("pin", "block", "boost", "bury")

OVERLOAD_REASONS = ("lag", "connections")

ERROR_STATUSES = (400, 401, 403, 404, 405, 408, 413, 429, 500, 503, 504)


class BufferedCounter:
    def __init__(self, *counters: Any) -> None:
        self.n = 0
        self._counters = counters

    def flush(self) -> None:
        if self.n:
            n, self.n = self.n, 0
            for counter in self._counters:
                counter.inc(n)


class BufferedHistogram:
    """Values for some histograms, whose number goes to some counters."""

    def __init__(self, histograms: Sequence[Any], counters: Sequence[Any] = ()) -> None:
        self._values: list[float] = []
        self.observe = self._values.append
        self._histograms = histograms
        self._counters = counters

    def flush(self) -> int:
        """The number of values since the last flush."""
        if not (n := len(self._values)):
            return 0
        values = self._values.copy()
        self._values.clear()
        for histogram in self._histograms:
            observe_many(histogram, values)
        for counter in self._counters:
            counter.inc(n)
        return n


class FactoryDict(dict[Any, Any]):
    """A `defaultdict` whose factory gets the key."""

    def __init__(self, create: Callable[[Any], Any]) -> None:
        super().__init__()
        self._create = create

    def __missing__(self, key: Any) -> Any:
        value = self[key] = self._create(key)
        return value


class ServiceMetrics:
    """The service's own metrics, labelled with model version and variant."""

    def __init__(self, model_version: str, variant: str) -> None:
        # Imported in workers only: at its import, the library decides whether it counts across
        # processes.
        import prometheus_client

        self._client = prometheus_client
        self._own = {"model_version": model_version, "variant": variant}
        self._counters: list[BufferedCounter] = []
        self._stale: Any = None
        self._requests = self._counter("requests", "Requests.", "endpoint", "status")
        self._seconds = self._histogram(
            "request_duration_seconds", "Seconds to answer.", LATENCY_BUCKETS_S, "endpoint"
        )
        lengths = self._histogram("list_length", "Products in an answer.", LENGTH_BUCKETS)
        self._lengths = BufferedHistogram([lengths.labels(**self._own)])
        self._refused = self._buffered("refused", "Answers that are problems.", "status")
        self._overload = self._buffered("shed", "Requests refused under overload.", "reason")
        self._rules = self._buffered("rules_applied", "Products that rules moved.", "action")
        self._create_answer_counters()
        create_series(self._refused, ERROR_STATUSES)
        create_series(self._overload, OVERLOAD_REASONS)
        create_series(self._rules, RULE_ACTIONS)

    def count_answer(self, endpoint: str, source: str, n_items: int, n_unknown: int = 0) -> None:
        """Count an answer of `recommend` or `similar`; each answer of a batch is one."""
        self._answers[endpoint, source].n += 1
        self._lengths.observe(n_items)
        if n_unknown:
            self._unknown[endpoint].n += n_unknown

    def count_rules(self, action: str, n: int) -> None:
        self._rules[action].n += n

    def count_overload(self, reason: str) -> None:
        """`lag` of the event loop, or number of `connections`."""
        self._overload[reason].n += 1

    def count_refusal(self, status: int) -> None:
        self._refused[status].n += 1

    def set_bundle_created(self, created_at: str) -> None:
        """`created_at` is ISO 8601."""
        gauge = self._gauge(
            "bundle_created_timestamp_seconds", "When the bundle that serves was made.", "max"
        )
        gauge.set(datetime.fromisoformat(created_at).timestamp())

    def set_staleness(self, seconds: float) -> None:
        """Seconds without contact to the database."""
        if self._stale is None:
            self._stale = self._gauge(
                "database_stale_seconds",
                "Seconds since rules and catalogue changes could last be read; 0 while they can.",
                "livemax",
            )
        self._stale.set(seconds)

    def get_route_metrics(self, endpoint: str, status: int) -> tuple[Any, Any]:
        """Counter and histogram of an endpoint and a status."""
        counter = self._requests.labels(endpoint=endpoint, status=str(status), **self._own)
        return counter, self._seconds.labels(endpoint=endpoint, **self._own)

    def flush(self) -> None:
        for counter in self._counters:
            counter.flush()
        self._lengths.flush()

    def _create_answer_counters(self) -> None:
        """Counters with a variant, beside the older ones without that canaries and alerts query."""
        answers = self._counter("answers", "Answers, by their source.", "endpoint", "source")
        unknown = self._counter("unknown_items", "Products that nobody knows.", "endpoint")
        version = self._own["model_version"]
        by_source = {
            "recommend": self._client.Counter(
                "fbt_recommend_requests_total",
                "Recommendations answered, by where they came from.",
                ["source", "model_version"],
            ),
            "similar": self._client.Counter(
                "fbt_similar_requests_total",
                "Questions for substitutes answered, by where the answers came from.",
                ["source", "model_version"],
            ),
        }
        unknown_recommend = self._client.Counter(
            "fbt_recommend_unknown_items_total",
            "Products asked for that the model does not know.",
            ["model_version"],
        ).labels(version)

        def create_answers(key: tuple[str, str]) -> BufferedCounter:
            endpoint, source = key
            return self._buffer(
                answers.labels(endpoint=endpoint, source=source, **self._own),
                by_source[endpoint].labels(source, version),
            )

        def create_unknown(endpoint: str) -> BufferedCounter:
            others = [unknown_recommend] if endpoint == "recommend" else []
            return self._buffer(unknown.labels(endpoint=endpoint, **self._own), *others)

        self._answers = FactoryDict(create_answers)
        self._unknown = FactoryDict(create_unknown)
        create_series(self._answers, itertools.product(ENDPOINTS, SOURCES))
        create_series(self._unknown, ENDPOINTS)

    def _buffered(self, name: str, description: str, label: str) -> FactoryDict:
        """Buffered counters by the value of one label."""
        counter = self._counter(name, description, label)
        return FactoryDict(
            lambda value: self._buffer(counter.labels(**{label: str(value)}, **self._own))
        )

    def _buffer(self, *counters: Any) -> BufferedCounter:
        self._counters.append(buffered := BufferedCounter(*counters))
        return buffered

    def _counter(self, name: str, description: str, *labels: str) -> Any:
        return self._client.Counter(f"fbt_{name}_total", description, [*labels, *self._own])

    def _gauge(self, name: str, description: str, multiprocess_mode: Any) -> Any:
        gauge = self._client.Gauge(
            f"fbt_{name}", description, list(self._own), multiprocess_mode=multiprocess_mode
        )
        return gauge.labels(**self._own)

    def _histogram(
        self, name: str, description: str, buckets: Sequence[float], *labels: str
    ) -> Any:
        return self._client.Histogram(
            f"fbt_{name}", description, [*labels, *self._own], buckets=buckets
        )


def create_series(counters: FactoryDict, keys: Iterable[Any]) -> None:
    """Create series at zero: a rate needs a first value."""
    for key in keys:
        counters[key]


class RouteMetrics:
    """Requests by endpoint and status, in BentoML's metrics and in ours."""

    def __init__(
        self, bentoml: BentomlMetrics, metrics: ServiceMetrics, labels: Mapping[str, str]
    ) -> None:
        """`labels` are those that all of BentoML's metrics have."""
        self._bentoml, self._metrics, self._labels = bentoml, metrics, labels
        self._histograms = FactoryDict(self._create_histogram)
        self._running: dict[str, int] = {}
        self._shown: dict[str, int] = {}
        self._gauges = FactoryDict(
            lambda endpoint: bentoml.in_progress.labels(endpoint=endpoint, **labels)
        )
        self._last_request = bentoml.last_request.labels(**labels)

    def start_request(self, endpoint: str) -> None:
        self._running[endpoint] = self._running.get(endpoint, 0) + 1

    def end_request(self, endpoint: str) -> None:
        self._running[endpoint] -= 1

    def record_answer(self, endpoint: str, status: int, seconds: float) -> None:
        self._histograms[endpoint, status].observe(seconds)

    def flush(self) -> None:
        flushed = [histogram.flush() for histogram in self._histograms.values()]
        if any(flushed):
            self._last_request.set(time.time())
        for endpoint, n in self._running.items():
            if self._shown.get(endpoint) != n:
                self._shown[endpoint] = n
                self._gauges[endpoint].set(n)

    def _create_histogram(self, key: tuple[str, int]) -> BufferedHistogram:
        endpoint, status = key
        labels = {"endpoint": endpoint, "http_response_code": status, **self._labels}
        counter, seconds = self._metrics.get_route_metrics(endpoint, status)
        return BufferedHistogram(
            [self._bentoml.duration.labels(**labels), seconds],
            [self._bentoml.total.labels(**labels), counter],
        )
