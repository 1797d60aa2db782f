"""Prometheus metrics of the service.

Requests only add to integers and lists: a counter shared between workers costs a microsecond, a
histogram several. Buffers are flushed every few milliseconds, and before `/metrics` is answered.
"""

import functools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from bento.http.constants import LATENCY_BUCKETS_S
from bento.http.private_parts import BentomlMetrics, observe_many
from bento.schemas.responses import ITEM_SOURCES, SOURCES

if TYPE_CHECKING:
    from bento.answering.answer import Answer, AnswerItem

LENGTH_BUCKETS = [0, 1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 100]

SOURCE = 2
"""Place of an AnswerItem's source."""

ENDPOINTS = ("recommend", "similar")
"""Endpoints whose answers are counted by source."""

ERROR_STATUSES = (400, 401, 403, 404, 405, 408, 413, 415, 429, 500, 503, 504)


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
    def __init__(self, histograms: Sequence[Any], counters: Sequence[Any] = ()) -> None:
        self._values: list[float] = []
        self.observe = self._values.append
        self._histograms = histograms
        self._counters = counters

    def flush(self) -> int:
        """The number of values since the last flush."""
        if n := len(self._values):
            values = self._values.copy()
            self._values.clear()
            for histogram in self._histograms:
                observe_many(histogram, values)
            for counter in self._counters:
                counter.inc(n)
        return n


class BufferedProducts:
    """Counts the products of answers by their source when flushed: a seventh of the cost."""

    def __init__(self, counters: Mapping[str, Any]) -> None:
        self._shown: list[Sequence[AnswerItem]] = []
        self.add = self._shown.append
        self._counters = counters

    def flush(self) -> None:
        if shown := self._shown.copy():
            self._shown.clear()
            sources = map(itemgetter(SOURCE), chain.from_iterable(shown))
            for source, n in Counter(sources).items():
                self._counters[source].inc(n)


class Flushable(Protocol):
    def flush(self) -> object: ...


class HttpMetrics:
    """Metrics of requests, with labels that all of them share."""

    def __init__(self, own: Mapping[str, str]) -> None:
        # Not imported in the process that starts workers: at its import, the library decides
        # whether it counts across processes.
        import prometheus_client

        self._client = prometheus_client
        self._own = dict(own)
        self._buffers: list[Flushable] = []
        self._requests = self._counter("requests", "Requests.", "endpoint", "status")
        self._seconds = self._histogram(
            "request_duration_seconds", "Seconds to answer.", LATENCY_BUCKETS_S, "endpoint"
        )
        self._refused = self._create_buffers("refused", "Answers that are problems.", "status")
        self._overload = self._create_buffers("shed", "Requests refused under overload.", "reason")
        for status in ERROR_STATUSES:
            self._refused(status)
        for reason in ("lag", "connections"):
            self._overload(reason)

    def add(self, part: "Flushable") -> None:
        """Flush it with the others."""
        self._buffers.append(part)

    def count_overload(self, reason: str) -> None:
        """`lag` of the event loop, or number of `connections`."""
        self._overload(reason).n += 1

    def count_refusal(self, status: int) -> None:
        self._refused(status).n += 1

    def get_route_metrics(self, endpoint: str, status: int) -> tuple[Any, Any]:
        counter = self._requests.labels(endpoint=endpoint, status=str(status), **self._own)
        return counter, self._seconds.labels(endpoint=endpoint, **self._own)

    def flush(self) -> None:
        for part in self._buffers:
            part.flush()

    def _create_buffers(self, name: str, description: str, label: str) -> Callable[[Any], Any]:
        counter = self._counter(name, description, label)
        return functools.cache(
            lambda value: self._buffer(counter.labels(**{label: str(value)}, **self._own))
        )

    def _buffer(self, *counters: Any) -> BufferedCounter:
        self._buffers.append(buffer := BufferedCounter(*counters))
        return buffer

    def _counter(self, name: str, description: str, *labels: str) -> Any:
        return self._client.Counter(f"fbt_{name}_total", description, [*labels, *self._own])

    def _gauge(self, name: str, description: str, mode: Any) -> Any:
        gauge = self._client.Gauge(
            f"fbt_{name}", description, list(self._own), multiprocess_mode=mode
        )
        return gauge.labels(**self._own)

    def _histogram(self, name: str, description: str, buckets: Any, *labels: str) -> Any:
        names = [*labels, *self._own]
        return self._client.Histogram(f"fbt_{name}", description, names, buckets=buckets)


class AnswerMetrics:
    """Of one model version and variant; each answer of a batch is one."""

    def __init__(
        self,
        answers: Callable[[str, str], BufferedCounter],
        unknown: Callable[[str], BufferedCounter],
        rules: Callable[[str], BufferedCounter],
        products: Mapping[str, BufferedProducts],
        lengths: BufferedHistogram,
    ) -> None:
        """All but `lengths` are by endpoint, `recommend` or `similar`; `rules` by action."""
        self._answers, self._unknown, self._rules = answers, unknown, rules
        self._products, self._lengths = products, lengths
        self._create_series()

    def count_answer(self, endpoint: str, answer: "Answer") -> None:
        self._answers(endpoint, answer.source).n += 1
        self._lengths.observe(len(answer.shown))
        if answer.unknown:
            self._unknown(endpoint).n += len(answer.unknown)
        self._products[endpoint].add(answer.shown)
        for action, n in answer.rules.items():
            self._rules(action).n += n

    def flush(self) -> None:
        self._lengths.flush()
        for products in self._products.values():
            products.flush()

    def _create_series(self) -> None:
        """At zero: a rate needs a first value."""
        for endpoint in ENDPOINTS:
            self._unknown(endpoint)
            for source in SOURCES:
                self._answers(endpoint, source)
        for action in ("pin", "block", "boost", "bury", "exempt"):
            self._rules(action)


class ServiceMetrics(HttpMetrics):
    """The service's own metrics, labelled with model version and variant."""

    def __init__(self, model_version: str, variant: str) -> None:
        super().__init__({"model_version": model_version, "variant": variant})
        self._lengths = self._histogram("list_length", "Products in an answer.", LENGTH_BUCKETS)
        self._answers = self._counter("answers", "Answers, by their source.", "endpoint", "source")
        self._unknown = self._counter("unknown_items", "Products that nobody knows.", "endpoint")
        self._rules = self._counter("rules_applied", "Products that rules moved.", "action")
        self._products = self._counter(
            "recommended_products", "Products in answers, by their source.", "endpoint", "source"
        )
        self._judged = self._create_judged_counters()

    def create_answer_metrics(
        self, model_version: str, variant: str, is_judged: bool = True
    ) -> AnswerMetrics:
        """If `is_judged`, in the counters without variant, too, which canaries and alerts query."""
        own = {"model_version": model_version, "variant": variant}
        judged = self._judged if is_judged else {}

        @functools.cache
        def get_answers(endpoint: str, source: str) -> BufferedCounter:
            counter = self._answers.labels(endpoint=endpoint, source=source, **own)
            older = [judged[endpoint].labels(source, model_version)] if is_judged else []
            return self._buffer(counter, *older)

        @functools.cache
        def get_unknown(endpoint: str) -> BufferedCounter:
            older = [judged["unknown"].labels(model_version)] if is_judged else []
            older = older if endpoint == "recommend" else []
            return self._buffer(self._unknown.labels(endpoint=endpoint, **own), *older)

        @functools.cache
        def get_rules(action: str) -> BufferedCounter:
            return self._buffer(self._rules.labels(action=action, **own))

        lengths = BufferedHistogram([self._lengths.labels(**own)])
        made = AnswerMetrics(
            get_answers, get_unknown, get_rules, self._create_product_counters(own), lengths
        )
        self.add(made)
        return made

    def set_bundle_created(self, created_at: str) -> None:
        """`created_at` is ISO 8601."""
        gauge = self._gauge(
            "bundle_created_timestamp_seconds", "When the bundle that serves was made.", "max"
        )
        gauge.set(datetime.fromisoformat(created_at).timestamp())

    def set_staleness(self, seconds: float) -> None:
        self._staleness.set(seconds)

    @functools.cached_property
    def _staleness(self) -> Any:
        return self._gauge(
            "database_stale_seconds",
            "Seconds since rules and catalogue changes could last be read; 0 while they can.",
            "livemax",
        )

    def _create_judged_counters(self) -> dict[str, Any]:
        """By endpoint, and of unknown products; without variant."""
        counters = {
            endpoint: self._client.Counter(
                f"fbt_{endpoint}_requests_total", text, ["source", "model_version"]
            )
            for endpoint, text in (
                ("recommend", "Recommendations answered, by where they came from."),
                ("similar", "Questions for substitutes answered, by where the answers came from."),
            )
        }
        unknown = self._client.Counter(
            "fbt_recommend_unknown_items_total",
            "Products asked for that the model does not know.",
            ["model_version"],
        )
        return {**counters, "unknown": unknown}

    def _create_product_counters(self, own: Mapping[str, str]) -> dict[str, BufferedProducts]:
        return {
            endpoint: BufferedProducts(
                {
                    source: self._products.labels(endpoint=endpoint, source=source, **own)
                    for source in ITEM_SOURCES
                }
            )
            for endpoint in ENDPOINTS
        }


class RouteMetrics:
    """Requests by endpoint and status, in BentoML's metrics and in ours."""

    def __init__(
        self,
        metrics: HttpMetrics,
        bentoml: BentomlMetrics | None = None,
        labels: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """`labels` are those of all of BentoML's metrics."""
        self._bentoml, self._metrics, self._labels = bentoml, metrics, labels
        self._buffers: list[BufferedHistogram] = []
        self._buffer = functools.cache(self._create_buffer)
        self._running: dict[str, int] = {}
        self._shown: dict[str, int] = {}
        self._last_request = bentoml.last_request.labels(**labels) if bentoml else None

    def start_request(self, endpoint: str) -> None:
        self._running[endpoint] = self._running.get(endpoint, 0) + 1

    def end_request(self, endpoint: str) -> None:
        self._running[endpoint] -= 1

    def record_answer(self, endpoint: str, status: int, seconds: float) -> None:
        self._buffer(endpoint, status).observe(seconds)

    def flush(self) -> None:
        n_answers = sum(buffer.flush() for buffer in self._buffers)
        if self._bentoml is None or self._last_request is None:
            return
        if n_answers:
            self._last_request.set(time.time())
        for endpoint, n in self._running.items():
            if self._shown.get(endpoint) != n:
                self._shown[endpoint] = n
                self._bentoml.in_progress.labels(endpoint=endpoint, **self._labels).set(n)

    def _create_buffer(self, endpoint: str, status: int) -> BufferedHistogram:
        labels = {"endpoint": endpoint, "http_response_code": status, **self._labels}
        counter, seconds = self._metrics.get_route_metrics(endpoint, status)
        histograms, counters = [seconds], [counter]
        if self._bentoml is not None:
            histograms.append(self._bentoml.duration.labels(**labels))
            counters.append(self._bentoml.total.labels(**labels))
        buffer = BufferedHistogram(histograms, counters)
        self._buffers.append(buffer)
        return buffer
