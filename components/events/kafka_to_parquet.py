"""Compaction of Kafka by many processes: each takes partitions, one publishes what all have staged.

The result is that of `compact`, which one process does for some 10,000 events a second.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from components.events.archive import Archive, StagedFile
from components.events.compact import (
    N_RECORDS,
    Chunk,
    Compaction,
    add_counts,
    build_files,
    merge_small,
)
from components.events.event import Event
from components.events.open import open_sink
from components.events.recommendation import Recommendation
from components.events.sink import Sink
from components.events.sinks.kafka import KafkaSink, Part

Mapper = Callable[[Callable[[Any, range], Any], Any, Sequence[range]], Iterable[Any]]
"""As `components.spark` has them: calls `work(shared, part)` for every part."""


class Job(NamedTuple):
    """The orders for every process."""

    url: str
    root: str
    filesystem: Any
    parts: list[Part]
    timeout_s: float


def compact_kafka(url: str, archive: Archive, mapper: Mapper, timeout_s: float = 60) -> Compaction:
    """All processes must see the broker and the archive. Raises ValueError for the URL of another
    sink, SinkUnavailable, ArchiveBusy and OSError."""
    with closing(open_sink(url, timeout_s)) as opened:
        sink = require_kafka(opened)
        total = Compaction(0, 0, 0, 0, 0)
        with archive.writing():
            while parts_and_position := _plan(sink, archive):
                parts, position = parts_and_position
                job = Job(url, archive.root, archive.filesystem, parts, timeout_s)
                staged: list[StagedFile] = []
                ranges = [range(n, n + 1) for n in range(len(parts))]
                for files, counts in mapper(_stage_parts, job, ranges):
                    staged += files
                    total = add_counts(total, counts)
                archive.publish(staged, [], position)
            return total._replace(merged=merge_small(archive))


def require_kafka(sink: Sink) -> KafkaSink:
    """Raises ValueError."""
    if not isinstance(sink, KafkaSink):
        raise ValueError(f"{sink.name}: no Kafka, which alone is compacted by many processes")
    return sink


def _plan(sink: KafkaSink, archive: Archive) -> tuple[list[Part], str] | None:
    parts, position = sink.plan(archive.position, N_RECORDS)
    return (parts, position) if parts else None


def _stage_parts(job: Job, numbers: range) -> tuple[list[StagedFile], Compaction]:
    """Leaves out records of Parquet; an id has one partition, so that no other process meets it."""
    archive = Archive(job.root, job.filesystem)
    staged: list[StagedFile] = []
    total = Compaction(0, 0, 0, 0, 0)
    with closing(open_sink(job.url, job.timeout_s)) as sink:
        for n in numbers:
            files, counts = build_files(_read_chunk(require_kafka(sink), job.parts[n]), archive)
            staged += [archive.stage(file) for file in files]
            total = add_counts(total, counts)
    return staged, total


def _read_chunk(sink: KafkaSink, part: Part) -> Chunk:
    batch = sink.read_part(part)
    events: dict[str, Event] = {}
    recommendations: dict[str, Recommendation] = {}
    for event in batch.events:
        events.setdefault(event.event_id, event)
    for record in batch.recommendations:
        recommendations.setdefault(record.request_id, record)
    n_read = len(batch.events) + len(batch.recommendations)
    n_repeated = n_read - len(events) - len(recommendations)
    return Chunk(events, recommendations, "", True, True, n_repeated)
