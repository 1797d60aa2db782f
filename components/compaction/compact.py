"""Compaction as a step: a sink by its URL, Parquet in a folder or an object store."""

import time
from contextlib import closing

from components.events.archive import Archive
from components.events.compact import Compaction, compact
from components.events.kafka_to_parquet import compact_kafka, require_kafka
from components.events.open import open_sink
from components.sources.object_store import open_store
from components.spark import spark_mapper, spark_session

US_PER_DAY = 86_400_000_000
TIMEOUT_S = 60.0


def open_archive(to: str) -> Archive:
    """A folder or s3://BUCKET/PREFIX."""
    if not to.startswith("s3://"):
        return Archive(to)
    root = to.removeprefix("s3://")
    return Archive(root, open_store(root.partition("/")[0]))


def compact_events(url: str, archive: Archive, keep_days: float, spark: bool) -> Compaction:
    """Afterwards the sink forgets what it received more than `keep_days` ago. Raises ValueError for
    less than a day: what is being written now may not be in Parquet yet."""
    if not keep_days >= 1:
        raise ValueError(f"keep_days: found {keep_days:g}, expected at least 1")
    started_us = time.time_ns() // 1000
    with closing(open_sink(url, TIMEOUT_S)) as sink:
        if spark:
            require_kafka(sink)
            with spark_session("events") as session:
                found = compact_kafka(url, archive, spark_mapper(session), TIMEOUT_S)
        else:
            found = compact(sink, archive)
        sink.remove_before(started_us - round(keep_days * US_PER_DAY))
    return found
