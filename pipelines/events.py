"""`fbt events`: compaction, erasure and retention of events and the recommendation log."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path

import pyarrow as pa

from components.compaction.compact import open_archive
from components.contracts import EVENTS, RECOMMENDATIONS
from components.events import compact as compaction
from components.events.archive import Archive
from components.events.compact import Compaction
from components.events.open import open_sink
from components.events.sink import Sink
from pipelines.home import Home
from pipelines.tables import table

US_PER_DAY = 86_400_000_000
TIMEOUT_S = 60.0
MAX_WAITING = 1_000_000
"""Counted by `status`."""


def find_url(url: str, home: Home) -> str:
    """Default: FBT_EVENTS_URL, else events.db in FBT_HOME. Raises ValueError for no file."""
    url = url or os.environ.get("FBT_EVENTS_URL") or f"sqlite:///{home.root / 'events.db'}"
    scheme, _, file = url.partition(":///")
    if scheme.startswith("sqlite") and not Path(file).exists():
        raise ValueError(
            f"events: nothing found at {file}, so no service has kept any; start `fbt serve`, "
            "which warns where a version was packaged before there were events, or name --url"
        )
    return url


@contextmanager
def open_events(url: str, home: Home) -> Iterator[Sink]:
    """As `find_url`. Raises ValueError, SinkUnavailable."""
    with closing(open_sink(find_url(url, home), TIMEOUT_S)) as sink:
        yield sink


def open_parquet(to: str, home: Home) -> Archive:
    """Default: `online` in FBT_HOME."""
    return open_archive(to or str(home.root / "online"))


def format_compaction(found: Compaction) -> str:
    text = f"{found.events:,} events and {found.recommendations:,} recommendations are in Parquet"
    if found.repeated:
        text += f"; {found.repeated:,} that came before were left out"
    if found.unusable:
        text += f"; {found.unusable:,} hold values that no table can, and were left out"
    return text + (f"; {found.merged} small files were merged" if found.merged else "")


def erase_session(sink: Sink, archive: Archive, session_id: str) -> tuple[int, int]:
    """The number of records in the sink, and of rows in Parquet, that are gone."""
    return sink.erase_session(session_id), compaction.erase_session(archive, session_id)


def remove_events(sink: Sink, archive: Archive, days: float) -> tuple[int, int]:
    """As `erase_session`, of what is older than so many days."""
    before_us = time.time_ns() // 1000 - round(days * US_PER_DAY)
    return sink.remove_before(before_us), compaction.remove_before(archive, before_us)


def format_status(sink: Sink, archive: Archive) -> str:
    events, recommendations = (_count_days(archive, one) for one in (EVENTS, RECOMMENDATIONS))
    days = sorted(events.keys() | recommendations.keys())
    rows = [(day.isoformat(), f"{events[day]:,}", f"{recommendations[day]:,}") for day in days]
    lines = [
        f"{sink.name}: {_count_waiting(sink, archive)} records wait for compaction",
        f"{archive.root}: {len(days)} day{'' if len(days) == 1 else 's'}",
    ]
    if rows:
        lines.append(table(("day", "products in events", "recommendations"), rows))
    return "\n".join(lines)


def _count_days(archive: Archive, schema: pa.Schema) -> Counter[date]:
    days: Counter[date] = Counter()
    for file in archive.files(schema):
        days[file.day] += archive.count_rows(file.path)
    return days


def _count_waiting(sink: Sink, archive: Archive) -> str:
    n, position, is_last = 0, archive.position, False
    while not is_last and n < MAX_WAITING:
        batch = sink.read(position)
        n += len(batch.events) + len(batch.recommendations)
        position, is_last = batch.position, batch.is_last
    return f"{n:,}" if is_last else f"more than {n:,}"
