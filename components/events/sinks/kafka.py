"""Events in Kafka: three topics, an idempotent producer, readers with offsets of their own.

Kafka keeps what it has until the topic's retention. An erased session is named, by its hash, in
PREFIX.erasures: readers leave out what came before, though it stays in the log until then.
"""

import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from components.events.event import Event
from components.events.recommendation import Recommendation
from components.events.sink import Batch, Outcome, SinkUnavailable
from components.events.sinks.blocks import read_block
from components.events.sinks.keys import Distinct, hash_id

LOG = logging.getLogger(__name__)

N_PARTITIONS = 8
MAX_MESSAGE_BYTES = 8 << 20
"""Blocks of recommendations are larger than the usual 1 MB."""
N_RECENT = 200_000
"""Event ids that a reader knows again: what is sent twice comes soon after. Compaction looks into
Parquet for all others."""
N_FETCHED = 500

Offsets = dict[str, dict[str, int]]
"""By topic (`events`, `recommendations`) and partition: the next offset to read."""


class Part(NamedTuple):
    """Messages of a partition from `start` to before `end`."""

    topic: str
    partition: int
    start: int
    end: int


class KafkaSink:
    def __init__(self, brokers: str, prefix: str, timeout_s: float = 5.0) -> None:
        """Makes the topics that are missing. `prefix` may be followed by options of librdkafka, as
        in `shop?security.protocol=SASL_SSL&sasl.username=fbt&…`. Raises SinkUnavailable.
        """
        prefix, _, options = prefix.partition("?")
        self.name, self._timeout_s = f"kafka://{brokers}/{prefix}", timeout_s
        self._options: dict[str, Any] = {
            "bootstrap.servers": brokers,
            "client.id": "fbt",
            "log_level": 2,  # errors are raised
            **dict(parse_qsl(options)),
        }
        self._events, self._recommendations = f"{prefix}.events", f"{prefix}.recommendations"
        self._erasures = f"{prefix}.erasures"
        self._producer: Any = None
        self._reader = _Reader(self._consume_options(), self._admin, timeout_s)
        self._erasure_reader = _Reader(self._consume_options(), self._admin, timeout_s)
        self._erased_us: dict[str, int] = {}
        self._recent: dict[str, None] = {}
        with self._translate_errors():
            self._make_topics()
            self._store = self._await_topics()

    def _consume_options(self) -> dict[str, Any]:
        return {
            **self._options,
            "group.id": "fbt-reader",  # librdkafka asks for one; nothing is committed to it
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }

    def write_events(self, events: Sequence[Event]) -> list[Outcome]:
        distinct = Distinct(events)
        self._produce(
            self._events,
            (
                (e.session_id or e.event_id, e.to_json(), e.received_us)
                for e in distinct.first.values()
            ),
        )
        return distinct.tell_outcomes({})

    def write_recommendations(self, block: bytes, n: int) -> None:
        self._produce(self._recommendations, [(None, block, time.time_ns() // 1000)])

    def _produce(self, topic: str, messages: Iterable[tuple[str | None, str | bytes, int]]) -> None:
        """Returns when the brokers have all; raises SinkUnavailable."""
        failed: list[Any] = []
        with self._translate_errors():
            producer = self._open_producer()

            def report(error: Any, _message: Any) -> None:
                if error is not None:
                    failed.append(error)

            for key, value, ts_us in messages:
                name = None if key is None else key.encode("utf-8", "surrogatepass")
                more = {"timestamp": ts_us // 1000, "on_delivery": report}
                _produce_one(producer, topic, value, name, more)
            n_left = producer.flush(self._timeout_s + 1)
        if failed or n_left:
            if n_left or any(one.fatal() for one in failed):
                self._producer = None
            reason = failed[0].str() if failed else f"no answer in {self._timeout_s:g} s"
            raise SinkUnavailable(f"{self.name}: {reason}")

    def _open_producer(self) -> Any:
        from confluent_kafka import Producer

        if self._producer is None:
            limit_ms = round(self._timeout_s * 1000)
            self._producer = Producer(
                {
                    **self._options,
                    "enable.idempotence": True,
                    "acks": "all",
                    "linger.ms": 0,
                    "compression.type": "lz4",
                    "message.max.bytes": MAX_MESSAGE_BYTES,
                    "message.timeout.ms": limit_ms,
                    "request.timeout.ms": limit_ms,
                }
            )
        return self._producer

    def read(self, position: str = "", limit: int = 10_000) -> Batch:
        """Sorted by the time they were received, within the batch. Raises SinkUnavailable."""
        with self._translate_errors():
            self._read_erasures()
            start = self._parse_position(position)
            if start != self._reader.offsets:
                self._recent.clear()
            events: list[Event] = []
            recommendations: list[Recommendation] = []
            is_last = False
            for message in self._reader.read(start):
                self._keep(message, events, recommendations)
                if max(len(events), len(recommendations)) >= limit:
                    break
            else:
                is_last = True
        return self._make_batch(events, recommendations, self._reader.offsets, is_last)

    def _keep(
        self, message: Any, events: list[Event], recommendations: list[Recommendation]
    ) -> None:
        if message.topic() == self._events:
            events += self._keep_events(message.value())
        else:
            recommendations += self._keep_recommendations(message.value())

    def _make_batch(
        self,
        events: list[Event],
        recommendations: list[Recommendation],
        offsets: Offsets,
        is_last: bool,
    ) -> Batch:
        events.sort(key=lambda event: event.received_us)
        end = json.dumps({"store": self._store, "offsets": offsets})
        return Batch(events, recommendations, end, is_last, may_repeat=True)

    def plan(self, position: str, n: int) -> tuple[list[Part], str]:
        """Parts of at most `n` messages that several processes may read, and the position after
        all of them. Raises SinkUnavailable."""
        offsets: Offsets = {self._events: {}, self._recommendations: {}}
        parts = []
        with self._translate_errors():
            for part in self._reader.plan(self._parse_position(position)):
                part = part._replace(end=min(part.end, part.start + n))
                offsets[part.topic][str(part.partition)] = part.end
                parts += [part] if part.end > part.start else []
        return parts, json.dumps({"store": self._store, "offsets": offsets})

    def read_part(self, part: Part) -> Batch:
        """Raises SinkUnavailable."""
        events: list[Event] = []
        recommendations: list[Recommendation] = []
        with self._translate_errors():
            self._read_erasures()
            self._recent.clear()
            for message in self._reader.read_part(part):
                self._keep(message, events, recommendations)
        return self._make_batch(events, recommendations, {}, True)

    def _parse_position(self, position: str) -> Offsets:
        """The beginning for a position in other topics, such as ones that were made anew."""
        found = json.loads(position) if position else {}
        if found.get("store") == self._store:
            offsets: Offsets = found["offsets"]
            return offsets
        return {self._events: {}, self._recommendations: {}}

    def _keep_events(self, value: bytes) -> list[Event]:
        event = _try(Event.from_json, value)
        if event is None or event.event_id in self._recent:
            return []
        self._recent[event.event_id] = None
        if len(self._recent) > N_RECENT:
            for oldest in list(islice(self._recent, N_RECENT // 2)):
                del self._recent[oldest]
        is_erased = self._is_erased(event.session_id, event.received_us)
        return [] if is_erased else [event]

    def _keep_recommendations(self, value: bytes) -> list[Recommendation]:
        records = _try(read_block, value) or []
        return [one for one in records if not self._is_erased(one.session_id, one.ts_us)]

    def _is_erased(self, session_id: str | None, ts_us: int) -> bool:
        if not self._erased_us or session_id is None:
            return False
        return ts_us <= self._erased_us.get(hash_id(session_id).hex(), -1)

    def _read_erasures(self) -> None:
        start = self._erasure_reader.offsets or {self._erasures: {}}
        for message in self._erasure_reader.read(start):
            session, erased_us = json.loads(message.value())
            self._erased_us[session] = max(erased_us, self._erased_us.get(session, 0))

    def erase_session(self, session_id: str) -> int:
        """0, as nothing is removed yet: see above."""
        now_us = time.time_ns() // 1000
        key = hash_id(session_id).hex()
        self._produce(self._erasures, [(key, json.dumps([key, now_us]), now_us)])
        return 0

    def remove_before(self, ts_us: int) -> int:
        """The number of messages, each an event or a block of recommendations."""
        with self._translate_errors():
            topics = (self._events, self._recommendations)
            n_removed, wanted = self._reader.find_times(topics, ts_us // 1000)
            if wanted:
                futures = self._admin.delete_records(wanted, request_timeout=self._timeout_s)
                for future in futures.values():
                    future.result()
        return n_removed

    def close(self) -> None:
        self._reader.close()
        self._erasure_reader.close()
        self._producer = None

    @cached_property
    def _admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        return AdminClient(self._options)

    def _make_topics(self) -> None:
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.cimpl import NewTopic

        found = self._admin.list_topics(timeout=self._timeout_s).topics
        large = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
        wanted = [
            NewTopic(self._events, N_PARTITIONS, -1, config=large),
            NewTopic(self._recommendations, N_PARTITIONS, -1, config=large),
            NewTopic(self._erasures, 1, -1, config={"retention.ms": "-1"}),
        ]
        missing = [topic for topic in wanted if topic.topic not in found]
        if not missing:
            return
        limits = {"operation_timeout": self._timeout_s, "request_timeout": self._timeout_s}
        for future in self._admin.create_topics(missing, **limits).values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def _await_topics(self) -> str:
        """Ids of the topics, once every partition has a leader: new ones take a moment."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                self._reader.check_partitions((self._events, self._recommendations))
                self._erasure_reader.check_partitions([self._erasures])
                return self._read_topic_ids()
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _read_topic_ids(self) -> str:
        from confluent_kafka import TopicCollection

        names = TopicCollection([self._events, self._recommendations])
        futures = self._admin.describe_topics(names, request_timeout=self._timeout_s)
        return " ".join(str(futures[name].result().topic_id) for name in sorted(futures))

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        from confluent_kafka import KafkaException

        try:
            yield
        except KafkaException as error:
            reason = error.args[0].str() if error.args else type(error).__name__
            raise SinkUnavailable(f"{self.name}: {reason}") from None


class _Reader:
    """Goes on from offsets to the ends that the topics have when it is asked."""

    def __init__(self, options: dict[str, Any], admin: Any, timeout_s: float) -> None:
        self.offsets: Offsets = {}
        """The next ones, after what `read` has yielded."""
        self._options, self._admin, self._timeout_s = options, admin, timeout_s
        self._consumer: Any = None
        self._fetched: deque[Any] = deque()

    def read(self, start: Offsets) -> Iterator[Any]:
        """Messages. Raises KafkaException; the next call connects anew then."""
        yield from self._follow(lambda: self._go_to(start))

    def read_part(self, part: Part) -> Iterator[Any]:
        """Raises KafkaException."""

        def go() -> list[tuple[str, str, int]]:
            self._assign({part.topic: {str(part.partition): part.start}})
            return [(part.topic, str(part.partition), part.end)]

        yield from self._follow(go)

    def _follow(self, go: Callable[[], list[tuple[str, str, int]]]) -> Iterator[Any]:
        """Up to the end of each topic and partition."""
        from confluent_kafka import KafkaException

        try:
            ends = go()
            while any(self.offsets[topic][p] < end for topic, p, end in ends):
                if not self._fetched:
                    self._fetch()
                message = self._fetched.popleft()
                if message.error():
                    raise KafkaException(message.error())
                self.offsets[message.topic()][str(message.partition())] = message.offset() + 1
                yield message
        except KafkaException:
            self.close()
            raise

    def _go_to(self, start: Offsets) -> list[tuple[str, str, int]]:
        """Topic, partition and end of each."""
        parts = self.plan(start)
        wanted: Offsets = {topic: {} for topic in start}
        for part in parts:
            wanted[part.topic][str(part.partition)] = part.start
        if wanted != self.offsets:
            self._assign(wanted)
        return [(part.topic, str(part.partition), part.end) for part in parts]

    def plan(self, start: Offsets) -> list[Part]:
        """Messages after the offsets; an empty part where it is nothing."""
        parts = []
        for (topic, p), (low, high) in self._read_bounds(self._list_partitions(start)).items():
            offset = start[topic].get(str(p), low)
            if not low <= offset <= high:
                text = "%s[%d]: offset %d is not in the log any more (%d to %d): messages are lost"
                LOG.warning(text, topic, p, offset, low, high)
            # Before the first: the retention was faster. After the last: the log was cut.
            offset = offset if low <= offset <= high else low
            parts.append(Part(topic, p, offset, high))
        return parts

    def _assign(self, offsets: Offsets) -> None:
        from confluent_kafka import TopicPartition

        self.offsets = offsets
        self._fetched.clear()
        self._open().assign(
            [TopicPartition(t, int(p), n) for t, found in offsets.items() for p, n in found.items()]
        )

    def _fetch(self) -> None:
        from confluent_kafka import KafkaError, KafkaException

        # `consume` alone waits for all of N_FETCHED.
        first = self._open().poll(self._timeout_s)
        if first is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        self._fetched.extend([first, *self._open().consume(N_FETCHED, 0)])

    def find_times(self, topics: Iterable[str], ts_ms: int) -> tuple[int, list[Any]]:
        """The number of messages before a time, and each partition's first offset after them."""
        from confluent_kafka import TopicPartition

        bounds = self._read_bounds(self._list_partitions(topics))
        asked = [TopicPartition(topic, p, ts_ms) for topic, p in bounds]
        n_before, wanted = 0, []
        for found in self._open().offsets_for_times(asked, timeout=self._timeout_s):
            low, high = bounds[found.topic, found.partition]
            offset = found.offset if found.offset >= 0 else high
            if offset > low:
                n_before += offset - low
                wanted.append(TopicPartition(found.topic, found.partition, offset))
        return n_before, wanted

    def check_partitions(self, topics: Iterable[str]) -> None:
        """Raises KafkaException where one has no leader."""
        self._read_bounds(self._list_partitions(topics))

    def _list_partitions(self, topics: Iterable[str]) -> list[tuple[str, int]]:
        from confluent_kafka import KafkaException

        found = []
        for name in topics:
            topic = self._admin.list_topics(name, timeout=self._timeout_s).topics[name]
            if topic.error is not None:
                raise KafkaException(topic.error)
            found += [(name, partition) for partition in topic.partitions]
        return sorted(found)

    def _read_bounds(
        self, partitions: Sequence[tuple[str, int]]
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """First and next offset. Not of the consumer, whose waits for messages they would share."""
        import confluent_kafka.admin
        from confluent_kafka import TopicPartition

        specs: Any = confluent_kafka.admin.OffsetSpec  # type: ignore[attr-defined]
        asked = {one: TopicPartition(*one) for one in partitions}
        low, high = (
            self._admin.list_offsets(
                dict.fromkeys(asked.values(), spec), request_timeout=self._timeout_s
            )
            for spec in (specs.earliest(), specs.latest())
        )
        return {
            one: (low[where].result().offset, high[where].result().offset)
            for one, where in asked.items()
        }

    def _open(self) -> Any:
        from confluent_kafka import Consumer

        if self._consumer is None:
            self._consumer = Consumer(self._options)
        return self._consumer

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
        self._consumer, self.offsets = None, {}
        self._fetched.clear()


def _produce_one(
    producer: Any, topic: str, value: str | bytes, key: bytes | None, more: dict[str, Any]
) -> None:
    while True:
        try:
            producer.produce(topic, value, key, **more)
            return
        except BufferError:
            producer.poll(0.05)


def _try(parse: Callable[[bytes], Any], value: bytes) -> Any:
    """None for a message that is not ours: others may write into the topic, too."""
    with contextlib.suppress(ValueError, TypeError):
        return parse(value)
    return None
