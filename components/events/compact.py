"""Compaction: move a sink's records to Parquet by day; erase and remove there."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from components.contracts import EVENTS, RECOMMENDATIONS
from components.events.archive import Archive, DayFile, NewFile, find_day
from components.events.event import Event
from components.events.recommendation import Recommendation
from components.events.sink import Sink
from components.events.tables import build_events, build_recommendations, split_days

N_RECORDS = 500_000
"""Of one step: about 1 GB of memory."""
SMALL_BYTES = 32 << 20
MERGED_BYTES = 256 << 20
"""Read by one merge."""
N_SMALL = 8
"""So many small files of a past day are merged; of a day that gets no more events, any two."""
WAIT_S = 600
"""Of an erasure for a compaction, which may write what the sink has just erased."""
LATE_DAYS = 3
"""Events that are older are refused (FBT_EVENTS_MAX_AGE_H)."""


class Compaction(NamedTuple):
    events: int
    recommendations: int
    repeated: int
    """Left out: they came before."""
    unusable: int
    """Left out: no table holds their values."""
    merged: int
    """Files that larger ones replaced."""


class Chunk(NamedTuple):
    events: dict[str, Event]
    recommendations: dict[str, Recommendation]
    position: str
    is_last: bool
    may_repeat: bool
    n_repeated: int


def compact(sink: Sink, archive: Archive, today: date | None = None) -> Compaction:
    """Whenever it is killed, the next one neither loses nor doubles a record. Raises
    SinkUnavailable, ArchiveBusy and OSError."""
    total = Compaction(0, 0, 0, 0, 0)
    with archive.writing():
        is_last = False
        while not is_last:
            chunk = _read_chunk(sink, archive.position)
            total = add_counts(total, _store(chunk, archive))
            is_last = chunk.is_last
        return total._replace(merged=merge_small(archive, today))


def _read_chunk(sink: Sink, position: str) -> Chunk:
    events: dict[str, Event] = {}
    recommendations: dict[str, Recommendation] = {}
    n_read, may_repeat = 0, False
    while True:
        batch = sink.read(position)
        n_read += len(batch.events) + len(batch.recommendations)
        may_repeat |= batch.may_repeat
        position = batch.position
        for event in batch.events:
            events.setdefault(event.event_id, event)
        for record in batch.recommendations:
            recommendations.setdefault(record.request_id, record)
        n_kept = len(events) + len(recommendations)
        if batch.is_last or n_kept >= N_RECORDS:
            return Chunk(
                events, recommendations, position, batch.is_last, may_repeat, n_read - n_kept
            )


def _store(chunk: Chunk, archive: Archive) -> Compaction:
    new, counts = build_files(chunk, archive)
    if new or chunk.position != archive.position:
        archive.change(new, [], chunk.position)
    return counts


def build_files(chunk: Chunk, archive: Archive) -> tuple[list[NewFile], Compaction]:
    """A file for each day and table."""
    events, n_bad_events = split_days(chunk.events.values(), build_events)
    records, n_bad_records = split_days(chunk.recommendations.values(), build_recommendations)
    n_found = len(chunk.events) + len(chunk.recommendations)
    if chunk.may_repeat:
        events = _drop_known(events, archive, EVENTS)
        records = _drop_known(records, archive, RECOMMENDATIONS)
    new = [
        NewFile(day, table, schema)
        for tables, schema in ((events, EVENTS), (records, RECOMMENDATIONS))
        for day, table in tables.items()
        if table.num_rows
    ]
    n_events = sum(_count_distinct(table, "event_id") for table in events.values())
    n_records = sum(table.num_rows for table in records.values())
    n_unusable = n_bad_events + n_bad_records
    n_repeated = chunk.n_repeated + n_found - n_unusable - n_events - n_records
    return new, Compaction(n_events, n_records, n_repeated, n_unusable, 0)


def _count_distinct(table: pa.Table, column: str) -> int:
    return int(pc.count_distinct(table.column(column)).as_py())


def _drop_known(
    tables: dict[date, pa.Table], archive: Archive, schema: pa.Schema
) -> dict[date, pa.Table]:
    """Without what the archive holds, of these days and their neighbours: an event that is sent
    again may be corrected by another clock."""
    key = schema.names[0]
    near = {day + timedelta(days=n) for day in tables for n in (-1, 0, 1)}
    known = [
        archive.read(file.path, schema, [key]).column(key)
        for file in archive.files(schema)
        if file.day in near
    ]
    if not known:
        return tables
    ids = pc.unique(pa.chunked_array([chunk for column in known for chunk in column.chunks]))
    return {
        day: table.filter(pc.invert(pc.is_in(table.column(key), ids)))
        for day, table in tables.items()
    }


def add_counts(one: Compaction, other: Compaction) -> Compaction:
    return Compaction(*map(sum, zip(one, other, strict=True)))


def merge_small(archive: Archive, today: date | None = None) -> int:
    """Number of files that were replaced."""
    today, n_merged = today or datetime.now(UTC).date(), 0
    for schema in (EVENTS, RECOMMENDATIONS):
        small = [one for one in archive.files(schema) if one.n_bytes < SMALL_BYTES]
        for day, files in groupby(small, key=lambda one: one.day):
            n_needed = 2 if day < today - timedelta(days=LATE_DAYS) else N_SMALL
            for part in _split_sizes(list(files)):
                if day < today and len(part) >= n_needed:
                    tables = [archive.read(one.path, schema) for one in part]
                    merged = pa.concat_tables(tables, promote_options="default").sort_by("ts")
                    new = NewFile(day, merged, schema)
                    archive.change([new], [one.path for one in part], archive.position)
                    n_merged += len(part)
    return n_merged


def _split_sizes(files: Sequence[DayFile]) -> Iterable[list[DayFile]]:
    part: list[DayFile] = []
    for file in files:
        if part and sum(one.n_bytes for one in part) + file.n_bytes > MERGED_BYTES:
            yield part
            part = []
        part.append(file)
    yield part


def erase_session(archive: Archive, session_id: str) -> int:
    """Write every file anew that holds the session; the number of rows that are gone."""
    n_erased = 0
    with archive.writing(WAIT_S):
        for schema in (EVENTS, RECOMMENDATIONS):
            for file in archive.files(schema):
                sessions = archive.read(file.path, schema, ["session_id"]).column("session_id")
                is_other = pc.invert(pc.fill_null(pc.equal(sessions, session_id), False))
                n_erased += _keep_rows(archive, file, schema, is_other)
    return n_erased


def remove_before(archive: Archive, ts_us: int) -> int:
    """The number of rows that are gone: those that happened before."""
    n_removed, day = 0, find_day(ts_us)
    with archive.writing(WAIT_S):
        for schema in (EVENTS, RECOMMENDATIONS):
            for file in archive.files(schema):
                if file.day <= day:
                    ts = archive.read(file.path, schema, ["ts"]).column("ts")
                    is_new = pc.greater_equal(ts, pa.scalar(ts_us, ts.type))
                    n_removed += _keep_rows(archive, file, schema, is_new)
    return n_removed


def _keep_rows(archive: Archive, file: DayFile, schema: pa.Schema, keep: pa.ChunkedArray) -> int:
    n_removed = len(keep) - (pc.sum(keep).as_py() or 0)
    if n_removed:
        table = archive.read(file.path, schema).filter(keep)
        new = [NewFile(file.day, table, schema)] if table.num_rows else []
        archive.change(new, [file.path], archive.position)
    return int(n_removed)
