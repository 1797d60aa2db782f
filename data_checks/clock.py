"""The clock on a shop's wall.

By Python's database of zones, which is the one that checks their names; pyarrow and pandas bring
or look for others.
"""

from bisect import bisect_left
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from components.model.arrays import Int64Array

DAY_S = 86_400
EARLIEST_S = int(datetime(1970, 1, 1, tzinfo=UTC).timestamp())
LATEST_S = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())


def to_local_time(instants: Int64Array, timezone: str) -> Int64Array:
    """Microseconds since midnight of 1 January 1970 on the zone's clocks, summer time included.

    `instants` are microseconds since 1970, UTC.
    """
    if not len(instants):
        return instants
    first, last = (int(edge) // 1_000_000 for edge in (instants.min(), instants.max()))
    starts, offsets = _list_offsets(ZoneInfo(timezone), first, last)
    local: Int64Array = instants + offsets[np.searchsorted(starts, instants, side="right")]
    return local


def _list_offsets(zone: ZoneInfo, first_s: int, last_s: int) -> tuple[Int64Array, Int64Array]:
    """When the zone's offset changed, and all its offsets: one more. All in microseconds."""
    first, last = (min(max(edge, EARLIEST_S), LATEST_S) for edge in (first_s, last_s))
    starts, offsets = [], [_offset(zone, first)]
    for day in range(first, last, DAY_S):
        if _offset(zone, day + DAY_S) != offsets[-1]:
            starts.append(_find_change(zone, day))
            offsets.append(_offset(zone, day + DAY_S))
    return np.array(starts, np.int64) * 1_000_000, np.array(offsets, np.int64) * 1_000_000


def _find_change(zone: ZoneInfo, start: int) -> int:
    before = _offset(zone, start)
    seconds = range(start, start + DAY_S)
    return start + bisect_left(seconds, True, key=lambda s: _offset(zone, s) != before)


def _offset(zone: ZoneInfo, moment_s: int) -> int:
    offset = datetime.fromtimestamp(moment_s, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())
