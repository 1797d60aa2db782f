"""Sessions whose window is open: what they still put into the cart and buy counts later."""

from datetime import datetime, timedelta
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from components.experiments.experiment import Experiment
from components.online.events import OnlineEvents
from components.report.formatting import count, date

MIN_SESSIONS = 2
"""Of an arm, to be read."""


class OpenWindows(NamedTuple):
    n_sessions: int
    until: datetime
    """When the last one ends."""


def find_open_windows(online: OnlineEvents, now: datetime) -> OpenWindows | None:
    window = timedelta(hours=online.settings.window_h)
    [(n, last)] = online.db.execute(
        "select count(distinct session_no), max(ts) from served where ts > $since",
        {"since": int((now - window).timestamp() * 1e6)},
    ).fetchall()
    if not n:
        return None
    return OpenWindows(n, datetime.fromtimestamp(last / 1e6, now.tzinfo) + window)


def say_open_windows(found: OpenWindows | None, window_h: float) -> str:
    if found is None:
        return ""
    return (
        f"{count(found.n_sessions)} sessions are not over: carts and orders within {window_h:g} "
        f"hours still count for them, until {say_moment(found.until)}. Rates of carts and orders, "
        "and revenue, may still grow."
    )


def take_finished(sessions: pa.Table, now: datetime, window_h: float) -> pa.Table:
    """Rows of SESSIONS whose window is over."""
    last = pa.scalar(now - timedelta(hours=window_h), pa.timestamp("us", "UTC"))
    return sessions.filter(pc.less_equal(sessions["first_ts"], last))


def find_first_reading(
    sessions: pa.Table, experiment: Experiment, window_h: float
) -> datetime | None:
    """When every arm has sessions enough whose window is over; None where one lacks sessions. A
    holdout's sessions count without a list in view."""
    moments: list[datetime] = []
    for arm in experiment.arms:
        chosen = pc.equal(sessions["arm"], arm.name)
        if arm.holdout is None:
            chosen = pc.and_(chosen, sessions["is_seen"])
        first = sorted(sessions["first_ts"].filter(chosen).to_pylist())
        if len(first) < MIN_SESSIONS:
            return None
        moments.append(first[MIN_SESSIONS - 1])
    return max(moments) + timedelta(hours=window_h)


def say_moment(moment: datetime) -> str:
    """The minute after which it is over."""
    shown = moment + timedelta(minutes=1 if moment.second or moment.microsecond else 0)
    return f"{date(shown.isoformat())}, {shown:%H:%M} UTC"
