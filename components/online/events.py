"""Events and the recommendation log, cleaned and joined, in a scratch database of DuckDB.

    with open_events(root, OnlineSettings()) as online:
        measure(online, by=["model_version", "position"])
        build_sessions(online, "spring", Path("sessions.parquet"))

`root` holds `events/day=…/*.parquet` (EVENTS) and `recommendations/day=…/*.parquet`.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from components.contracts import EVENTS, ORDER_LINES, PRODUCTS, RECOMMENDATIONS, open_table
from components.online.settings import OnlineSettings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SQL = Path(__file__).parent / "sql"
ORDER_SESSIONS = pa.schema(
    [
        pa.field("order_id", pa.string(), nullable=False),
        pa.field("session_id", pa.string(), nullable=False),
    ],
    metadata={"name": "order_sessions"},
)
FIRST, LAST = -(2**62), 2**62
SECOND = 1_000_000
"""In microseconds."""

DROPPED = (
    "repeated", "other_event", "future", "bad_value", "fast_clicks", "fast_events",
    "blind_clicks", "repeated_order",
)  # fmt: skip
UNCREDITED = (
    "unknown_request", "other_session", "not_in_list", "before_list", "unseen_click", "no_list",
    "no_touch",
)  # fmt: skip
ORDERS = ("nightly_orders", "orders_without_session", "lines_without_event")
COUNTS = (
    "rows", "kept", *DROPPED, *UNCREDITED, "unpriced", "lists", "repeated_lists", "seen_lists",
    "impressions", "robot_sessions", *ORDERS,
)  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """Optional tables beside events and log."""

    products: Path | None = None
    """PRODUCTS: categories, and the size of the catalogue."""
    order_lines: Path | None = None
    """ORDER_LINES whose `order_id` is the purchase event's: products, quantities and prices of an
    order come from here, its session and time from the event."""
    order_sessions: Path | None = None
    """ORDER_SESSIONS, for orders whose purchase event was lost."""


@dataclass(frozen=True)
class OnlineEvents:
    """The scratch database. Its tables: `lists` (one row a logged answer), `impressions` (one row
    a product that was seen in a list, with what it earned), `orders`; see `sql/attribute.sql`."""

    db: "DuckDBPyConnection"
    root: Path
    settings: OnlineSettings
    sources: Sources
    counts: dict[str, int]
    """See `count_cleaned`."""


@contextmanager
def open_events(
    root: str | Path, settings: OnlineSettings | None = None, sources: Sources | None = None
) -> Iterator[OnlineEvents]:
    """Raises ContractError for absent or other tables."""
    root, settings, sources = Path(root), settings or OnlineSettings(), sources or Sources()
    with (
        tempfile.TemporaryDirectory(prefix="fbt-online-", dir=settings.scratch) as scratch,
        _connect(Path(scratch), settings) as db,
    ):
        _set_variables(db, settings)
        db.begin()
        _open_files(db, root, sources)
        for name in ("stage", "clean", "acts"):
            _run(db, name)
        orders = _take_order_lines(db) if sources.order_lines else {}
        _run(db, "attribute")
        found = dict(db.execute((SQL / "counts.sql").read_text()).fetchall()) | orders
        db.commit()
        counts = {name: int(found.get(name, 0)) for name in COUNTS}
        yield OnlineEvents(db, root, settings, sources, counts)


def count_cleaned(online: OnlineEvents) -> dict[str, int]:
    """Rows of events (one for each product) by what became of them: `rows` read, `kept`, DROPPED by
    rule; of those kept UNCREDITED, as they count for no list; `unpriced` bought products; `lists`
    and those seen; `robot_sessions`; ORDERS of the nightly lines."""
    return dict(online.counts)


def _connect(scratch: Path, settings: OnlineSettings) -> "DuckDBPyConnection":
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{settings.memory_mb}MB",
        "temp_directory": str(scratch / "spill"),
        "preserve_insertion_order": "false",
    }
    if settings.threads:
        config["threads"] = settings.threads
    return duckdb.connect(str(scratch / "online.duckdb"), config=config)


def _set_variables(db: "DuckDBPyConnection", settings: OnlineSettings) -> None:
    window = timedelta(hours=settings.window_h)
    history = timedelta(days=settings.history_days)
    since, until = settings.since, settings.until
    values = {
        "first_ts": _to_us(since) if since else FIRST,
        "last_ts": _to_us(until) - 1 if until else LAST,
        "first_read": _to_us(since - history) if since else FIRST,
        "last_read": _to_us(until + window) - 1 if until else LAST,
        "touch_window": round(settings.window_h * 3600 * SECOND),
        "list_window": round(settings.list_window_h * 3600 * SECOND),
        "skew": round(settings.clock_skew_s * SECOND),
        "max_clicks_h": settings.max_clicks_h,
        "max_events_min": settings.max_events_min,
        "max_blind_clicks": settings.max_blind_clicks,
    }
    for name, value in values.items():
        db.execute(f"set variable {name} = {value}::bigint")
    db.execute(f"set variable touch = '{settings.touch}'")


def _to_us(moment: datetime) -> int:
    return round(moment.timestamp() * SECOND)


def _open_files(db: "DuckDBPyConnection", root: Path, sources: Sources) -> None:
    found = {
        "event_files": (root / "events", EVENTS),
        "recommendation_files": (root / "recommendations", RECOMMENDATIONS),
        "product_files": (sources.products, PRODUCTS),
        "order_line_files": (sources.order_lines, ORDER_LINES),
        "order_session_files": (sources.order_sessions, ORDER_SESSIONS),
    }
    for name, (path, schema) in found.items():
        if path is not None:
            parts = open_table(path, schema).files
            _open_parts(db, name, parts, schema)
        else:
            db.register(name, schema.empty_table())


def _open_parts(db: "DuckDBPyConnection", name: str, parts: list[str], schema: pa.Schema) -> None:
    relation = db.read_parquet(parts, union_by_name=True)
    if not set(schema.names) <= set(relation.columns):
        # Only files of earlier releases, which lack fields of LATER.
        db.register("empty", schema.empty_table())
        db.execute(f"create table no_{name} as from empty")
        relation.create_view(f"found_{name}")
        relation = db.sql(f"from found_{name} union all by name from no_{name}")
    relation.create_view(name)


def _run(db: "DuckDBPyConnection", name: str) -> None:
    db.execute((SQL / f"{name}.sql").read_text())


def _take_order_lines(db: "DuckDBPyConnection") -> dict[str, int]:
    _run(db, "order_lines")
    found = db.execute(
        "select count(distinct order_key), count(distinct order_key) filter (order_key not in "
        "(select order_key from nightly_acts)), (select count(*) from nightly_acts where is_new) "
        "from nightly"
    ).fetchone()
    assert found is not None
    return dict(zip(ORDERS, found, strict=True))
