"""Events in PostgreSQL: COPY, partitions by the day they were received, ids apart from them."""

import contextlib
import io
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from datetime import date
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from components.events.event import Event
from components.events.recommendation import Recommendation
from components.events.sink import Batch, Outcome, SinkUnavailable
from components.events.sinks.blocks import find_text, read_block, remove_session
from components.events.sinks.keys import Distinct, hash_id

US_PER_DAY = 86_400_000_000
CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 60.0
DELETE_TIMEOUT_S = 3600.0
"""Erasing reads all that is stored."""

LOCK = 0x66627465
"""Of pg_advisory_xact_lock. Writers share it; a reader that has it alone for an instant knows that
every `seq` so far is committed or never will be, so that it skips nothing. Other ways are worse:
a lock on the table stands in the way of autovacuum, and with the oldest running transaction
(`pg_snapshot_xmin`) a forgotten one in any database stops the reading."""
SCHEMA_LOCK = LOCK + 1

SCHEMA = """
create table if not exists fbt_event_store (id text not null);
insert into fbt_event_store select md5(random()::text || clock_timestamp())
where not exists (select 1 from fbt_event_store);
create table if not exists fbt_event_ids (
    id bytea primary key, digest bytea not null, received_us bigint not null
);
create index if not exists fbt_event_ids_received on fbt_event_ids using brin (received_us);
create sequence if not exists fbt_event_seq;
create table if not exists fbt_events (
    seq bigint not null default nextval('fbt_event_seq'), received_us bigint not null,
    session bytea, body text not null
) partition by range (received_us);
create index if not exists fbt_events_seq on fbt_events (seq);
create table if not exists fbt_recommendation_blocks (
    seq bigint not null default nextval('fbt_event_seq'), received_us bigint not null,
    n integer not null, body text not null
) partition by range (received_us);
create index if not exists fbt_recommendation_blocks_seq on fbt_recommendation_blocks (seq);
"""
EVENTS, BLOCKS = "fbt_events", "fbt_recommendation_blocks"

BEGIN_WRITE = f"""
select set_config('synchronous_commit', 'on', true)
where current_setting('synchronous_commit') = 'off';
create temporary table if not exists fbt_staged (
    n integer, id bytea, digest bytea, received_us bigint, session bytea, body text
) on commit delete rows;
select pg_advisory_xact_lock_shared({LOCK})
"""
INSERT = """
with fresh as (
    insert into fbt_event_ids select id, digest, received_us from fbt_staged order by id
    on conflict do nothing returning id
), stored as (
    insert into fbt_events (received_us, session, body)
    select received_us, session, body from fbt_staged join fresh using (id) order by n
)
select id from fresh
"""
"""Ids in order, so that two writers of the same ones do not wait for each other in a circle."""


class PostgresSink:
    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        """Makes its tables. Raises SinkUnavailable."""
        self._options, self.name = _parse_url(url)
        self._timeout_s = timeout_s
        self._connection: Any = None
        self._partitions: set[str] = set()
        with self._transaction() as cursor:
            cursor.execute(f"select pg_advisory_xact_lock({SCHEMA_LOCK})")
            cursor.execute(
                "select count(*) from pg_class where oid = to_regclass('fbt_event_store')"
            )
            if not cursor.fetchone()[0]:
                cursor.execute(SCHEMA)
            cursor.execute("select id from fbt_event_store")
            self._store = cursor.fetchone()[0]

    def write_events(self, events: Sequence[Event]) -> list[Outcome]:
        if not events:
            return []
        distinct = Distinct(events)
        days = {event.received_us // US_PER_DAY for event in distinct.first.values()}
        rows = "".join(_format_rows(distinct))
        before: dict[bytes, bytes] = {}
        with self._writing(EVENTS, days) as cursor:
            cursor.copy_expert("copy fbt_staged from stdin", io.StringIO(rows))
            cursor.execute(INSERT)
            if cursor.rowcount < len(distinct.first):
                before = _read_digests(cursor, {bytes(row[0]) for row in cursor.fetchall()})
        return distinct.tell_outcomes(before)

    def write_recommendations(self, block: bytes, n: int) -> None:
        now_us = time.time_ns() // 1000
        with self._writing(BLOCKS, {now_us // US_PER_DAY}) as cursor:
            sql = f"insert into {BLOCKS} (received_us, n, body) values (%s, %s, %s)"
            cursor.execute(sql, [now_us, n, block.decode()])

    def read(self, position: str = "", limit: int = 10_000) -> Batch:
        start = self._parse_position(position)
        end = dict(start)
        horizon = self._find_horizon()
        with self._transaction(READ_TIMEOUT_S) as cursor:
            sql = (
                f"select seq, body from {EVENTS} where seq > %s and seq <= %s order by seq limit %s"
            )
            cursor.execute(sql, [start["events"], horizon, limit])
            events = []
            for end["events"], body in cursor:
                events.append(Event.from_json(body))
            recommendations: list[Recommendation] = []
            for end["blocks"], body in _read_blocks(cursor, start["blocks"], horizon, limit):
                recommendations += read_block(body)
        is_last = len(events) < limit and len(recommendations) < limit
        is_restarted = bool(position) and json.loads(position)["store"] != self._store
        return Batch(events, recommendations, json.dumps(end), is_last, is_restarted)

    def _parse_position(self, position: str) -> dict[str, Any]:
        """The beginning for a position in another database, such as one that was made anew."""
        found = json.loads(position) if position else {}
        is_ours = found.get("store") == self._store
        return found if is_ours else {"store": self._store, "events": 0, "blocks": 0}

    def _find_horizon(self) -> int:
        with self._transaction() as cursor:
            cursor.execute(f"select pg_advisory_xact_lock({LOCK})")
            cursor.execute("select last_value from fbt_event_seq")
            return int(cursor.fetchone()[0])

    def erase_session(self, session_id: str) -> int:
        with self._transaction(DELETE_TIMEOUT_S) as cursor:
            sql = f"delete from {EVENTS} where session = %s returning body"
            cursor.execute(sql, [hash_id(session_id)])
            keys = [hash_id(Event.from_json(body).event_id) for (body,) in cursor]
            cursor.execute("delete from fbt_event_ids where id = any(%s)", [keys])
            return len(keys) + _erase_in_blocks(cursor, session_id)

    def remove_before(self, ts_us: int) -> int:
        n = 0
        for table, count in ((EVENTS, "count(*)"), (BLOCKS, "coalesce(sum(n), 0)")):
            with self._transaction(DELETE_TIMEOUT_S) as cursor:
                cursor.execute(f"select {count} from {table} where received_us < %s", [ts_us])
                n += int(cursor.fetchone()[0])
                for partition in _list_partitions(cursor, table):
                    if _find_end(partition) <= ts_us:
                        cursor.execute(f"drop table {partition}")
                cursor.execute(f"delete from {table} where received_us < %s", [ts_us])
        with self._transaction(DELETE_TIMEOUT_S) as cursor:
            cursor.execute("delete from fbt_event_ids where received_us < %s", [ts_us])
        self._partitions.clear()
        return n

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _writing(self, table: str, days: Set[int]) -> Iterator[Any]:
        missing = {_name_partition(table, day): day for day in days}.items()
        if any(name not in self._partitions for name, _ in missing):
            self._add_partitions(table, days)
        try:
            with self._transaction(begin=BEGIN_WRITE) as cursor:
                yield cursor
        except SinkUnavailable:
            # Another process may have removed a day; the next call looks again.
            self._partitions.clear()
            raise

    def _add_partitions(self, table: str, days: Set[int]) -> None:
        """Also the next day's, for it waits for every writer: not at midnight."""
        wanted = {_name_partition(table, one): one for day in days for one in (day, day + 1)}
        with self._transaction() as cursor:
            cursor.execute(f"select pg_advisory_xact_lock({SCHEMA_LOCK})")
            found = set(_list_partitions(cursor, table))
            for name, day in wanted.items():
                if name not in found:
                    cursor.execute(
                        f"create table {name} partition of {table} "
                        f"for values from ({day * US_PER_DAY}) to ({(day + 1) * US_PER_DAY})"
                    )
        self._partitions |= set(wanted)

    @contextmanager
    def _transaction(self, limit_s: float | None = None, begin: str = "") -> Iterator[Any]:
        """Raises SinkUnavailable; the next call connects anew then."""
        import psycopg2

        limit_s = limit_s or self._timeout_s
        try:
            connection = self._connect()
            with _hang_up_after(connection, limit_s + 1), connection.cursor() as cursor:
                # Connection poolers keep no plain SET.
                cursor.execute(
                    f"begin; set local client_min_messages = warning; "
                    f"set local lock_timeout = {round(self._timeout_s * 1000)}; "
                    f"set local statement_timeout = {round(limit_s * 1000)}; {begin}"
                )
                yield cursor
                cursor.execute("commit")
        except psycopg2.Error as error:
            self.close()
            raise SinkUnavailable(f"{self.name}: {self._describe(error)}") from None
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Any:
        import psycopg2

        if self._connection is None or self._connection.closed:
            self._connection = psycopg2.connect(**self._options)
            self._connection.autocommit = True
        return self._connection

    def _describe(self, error: Exception) -> str:
        words = " ".join(str(error).split()) or type(error).__name__
        for name, value in self._options.items():
            if "pass" in name and value:
                for form in (str(value), quote(str(value))):
                    words = words.replace(form, "***")
        return words


def _parse_url(url: str) -> tuple[dict[str, Any], str]:
    """Options of libpq, and a name without the password."""
    parts = urlsplit(url)
    found = {
        "user": parts.username and unquote(parts.username),
        "password": parts.password and unquote(parts.password),
        "host": parts.hostname,
        "port": parts.port,
        "dbname": unquote(parts.path.lstrip("/")),
    }
    options = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "client_encoding": "utf8",
        "application_name": "fbt",
        # A network that drops packets must not block for hours.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 5000,
        **{name: value for name, value in found.items() if value},
        **dict(parse_qsl(parts.query)),
    }
    port = f":{parts.port}" if parts.port else ""
    return options, f"postgresql://{parts.hostname or ''}{port}{parts.path}"


@contextmanager
def _hang_up_after(connection: Any, seconds: float) -> Iterator[None]:
    """A server that is frozen answers packets, but nothing else; no timeout of libpq ends that."""
    handle = os.dup(connection.fileno())
    timer = threading.Timer(seconds, _hang_up, [handle])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        with contextlib.suppress(OSError):
            os.close(handle)


def _hang_up(handle: int) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(handle)) as line:
        line.shutdown(socket.SHUT_RDWR)


def _format_rows(distinct: Distinct) -> Iterator[str]:
    """In the text format of COPY. JSON in ASCII has no tabs or line breaks of its own."""
    for n, (key, event) in enumerate(distinct.first.items()):
        session = r"\N" if event.session_id is None else rf"\\x{hash_id(event.session_id).hex()}"
        body = event.to_json().replace("\\", r"\\")
        ids = rf"\\x{key.hex()}" + "\t" + rf"\\x{event.digest.hex()}"
        yield f"{n}\t{ids}\t{event.received_us}\t{session}\t{body}\n"


def _read_blocks(cursor: Any, start: int, horizon: int, limit: int) -> list[tuple[int, str]]:
    """As many blocks as `limit` records take."""
    sql = f"select seq, n from {BLOCKS} where seq > %s and seq <= %s order by seq limit %s"
    cursor.execute(sql, [start, horizon, limit])
    end, n_records = start, 0
    for seq, n in cursor.fetchall():
        end, n_records = seq, n_records + n
        if n_records >= limit:
            break
    sql = f"select seq, body from {BLOCKS} where seq > %s and seq <= %s order by seq"
    cursor.execute(sql, [start, end])
    found: list[tuple[int, str]] = cursor.fetchall()
    return found


def _read_digests(cursor: Any, fresh: Set[bytes]) -> dict[bytes, bytes]:
    """Of staged events that were stored before."""
    sql = "select id, digest from fbt_event_ids where id in (select id from fbt_staged)"
    cursor.execute(sql)
    found = {bytes(key): bytes(digest) for key, digest in cursor}
    return {key: digest for key, digest in found.items() if key not in fresh}


def _erase_in_blocks(cursor: Any, session_id: str) -> int:
    cursor.execute(
        f"select seq, body from {BLOCKS} where strpos(body, %s) > 0 or %s = '' for update",
        [find_text(session_id)] * 2,
    )
    n_erased = 0
    for seq, body in cursor.fetchall():
        block, n_kept, n_removed = remove_session(body, session_id)
        if not n_kept:
            cursor.execute(f"delete from {BLOCKS} where seq = %s", [seq])
        elif n_removed:
            sql = f"update {BLOCKS} set body = %s, n = %s where seq = %s"
            cursor.execute(sql, [block.decode(), n_kept, seq])
        n_erased += n_removed
    return n_erased


def _list_partitions(cursor: Any, table: str) -> list[str]:
    cursor.execute(
        "select relname from pg_inherits join pg_class on oid = inhrelid "
        "where inhparent = to_regclass(%s)",
        [table],
    )
    return [name for (name,) in cursor.fetchall()]


def _name_partition(table: str, day: int) -> str:
    return f"{table}_{date.fromordinal(EPOCH + day):%Y%m%d}"


def _find_end(partition: str) -> int:
    """Of its day, in microseconds. A partition that is not ours never ends."""
    found = re.search(r"_(\d{4})(\d\d)(\d\d)$", partition)
    if found is None:
        return 2**63
    return (date(*map(int, found.groups())).toordinal() - EPOCH + 1) * US_PER_DAY


EPOCH = date(1970, 1, 1).toordinal()
