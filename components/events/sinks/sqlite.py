"""Events in an SQLite file: one transaction a call, on disk when it returns."""

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.events.event import Event
from components.events.recommendation import Recommendation
from components.events.sink import Batch, Outcome, SinkUnavailable
from components.events.sinks.blocks import find_text, read_block, remove_session
from components.events.sinks.keys import Distinct, hash_id

SCHEMA = """
create table if not exists store (id text not null);
create table if not exists events (
    seq integer primary key autoincrement, id blob not null unique, session blob,
    received_us integer not null, body text not null
);
create table if not exists blocks (
    seq integer primary key autoincrement, received_us integer not null, n integer not null,
    body blob not null
);
"""
N_DELETED = 5_000
"""Rows that one transaction deletes, so that writers wait for milliseconds."""


class SqliteSink:
    """`seq` grows in the order of commits, as there is one writer at a time."""

    def __init__(self, path: Path, timeout_s: float = 5.0) -> None:
        """Makes file and tables. Raises SinkUnavailable."""
        self.name = f"sqlite:///{path}"
        self._path, self._timeout_s = path, timeout_s
        with self._translate_errors():
            self._open()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(
            self._path, self._timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare()
            self._inode = self._path.stat().st_ino
        except BaseException:
            self._file.close()
            raise

    def _reopen_replaced(self) -> None:
        """A deleted file would take events that nobody ever sees."""
        if not self._path.exists() or self._path.stat().st_ino != self._inode:
            self._file.close()
            self._inode = 0
            self._open()

    def _prepare(self) -> None:
        _set_wal(self._file)
        self._file.execute("pragma synchronous = full")
        self._file.execute("pragma secure_delete = on")
        if not self._has_tables():
            with self._transaction("begin immediate") as file:
                for statement in SCHEMA.strip().split(";\n"):
                    file.execute(statement)
                sql = "insert into store select ? where not exists (select 1 from store)"
                file.execute(sql, [uuid.uuid4().hex])
        (self._store,) = self._file.execute("select id from store").fetchone()

    def _has_tables(self) -> bool:
        sql = "select count(*) from sqlite_master where name in ('store', 'events', 'blocks')"
        return bool(self._file.execute(sql).fetchone()[0] == 3)

    def write_events(self, events: Sequence[Event]) -> list[Outcome]:
        distinct = Distinct(events)
        with self._translate_errors(), self._writing() as file:
            before = _read_digests(file, distinct.first)
            fresh = (pair for pair in distinct.first.items() if pair[0] not in before)
            file.executemany(
                "insert into events (id, session, received_us, body) values (?, ?, ?, ?)",
                ((key, _hash_session(e), e.received_us, e.to_json()) for key, e in fresh),
            )
        return distinct.tell_outcomes(before)

    def write_recommendations(self, block: bytes, n: int) -> None:
        with self._translate_errors(), self._writing() as file:
            sql = "insert into blocks (received_us, n, body) values (?, ?, ?)"
            file.execute(sql, [time.time_ns() // 1000, n, block])

    def read(self, position: str = "", limit: int = 10_000) -> Batch:
        start = self._parse_position(position)
        with self._translate_errors(), self._reading() as file:
            sql = "select seq, body from events where seq > ? order by seq limit ?"
            rows = file.execute(sql, [start["events"], limit]).fetchall()
            blocks = list(_read_blocks(file, start["blocks"], limit))
            end = {
                "store": self._store,
                "events": rows[-1][0] if rows else start["events"],
                "blocks": blocks[-1][0] if blocks else start["blocks"],
            }
            is_last = len(rows) < limit and not _has_blocks(file, end["blocks"])
        events = [Event.from_json(body) for _, body in rows]
        recommendations = [one for _, records in blocks for one in records]
        is_restarted = bool(position) and start == self._parse_position("")
        return Batch(events, recommendations, json.dumps(end), is_last, is_restarted)

    def _parse_position(self, position: str) -> dict[str, Any]:
        """The beginning for a position in another file, such as one that was made anew."""
        found = json.loads(position) if position else {}
        is_ours = found.get("store") == self._store
        return found if is_ours else {"store": self._store, "events": 0, "blocks": 0}

    def erase_session(self, session_id: str) -> int:
        with self._translate_errors():
            sql = "select seq from events where session = ?"
            n = self._delete("events", self._file.execute(sql, [hash_id(session_id)]).fetchall())
            n += self._erase_in_blocks(session_id)
            # What was deleted is zeroed in the file, and leaves the log with this.
            self._file.execute("pragma wal_checkpoint(truncate)")
        return n

    def _erase_in_blocks(self, session_id: str) -> int:
        sql = "select seq from blocks where instr(body, ?) > 0"
        found = self._file.execute(sql, [find_text(session_id).encode()]).fetchall()
        return sum(self._erase_in_block(seq, session_id) for (seq,) in found)

    def _erase_in_block(self, seq: int, session_id: str) -> int:
        with self._writing() as file:
            row = file.execute("select body from blocks where seq = ?", [seq]).fetchone()
            if row is None:
                return 0
            block, n_kept, n_removed = remove_session(row[0], session_id)
            if not n_kept:
                file.execute("delete from blocks where seq = ?", [seq])
            elif n_removed:
                sql = "update blocks set body = ?, n = ? where seq = ?"
                file.execute(sql, [block, n_kept, seq])
        return n_removed

    def remove_before(self, ts_us: int) -> int:
        with self._translate_errors():
            sql = "select seq from events where received_us < ?"
            n = self._delete("events", self._file.execute(sql, [ts_us]).fetchall())
            rows = self._file.execute(
                "select seq, n from blocks where received_us < ?", [ts_us]
            ).fetchall()
            self._delete("blocks", [(seq,) for seq, _ in rows])
        return n + sum(int(records) for _, records in rows)

    def _delete(self, table: str, rows: Sequence[tuple[int]]) -> int:
        for start in range(0, len(rows), N_DELETED):
            with self._writing() as file:
                file.executemany(
                    f"delete from {table} where seq = ?", rows[start : start + N_DELETED]
                )
        return len(rows)

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._reopen_replaced()
        with self._transaction("begin immediate") as file:
            yield file

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        self._reopen_replaced()
        with self._transaction("begin") as file:
            yield file

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        self._file.execute(begin)
        try:
            yield self._file
            self._file.execute("commit")
        except BaseException:
            # A full disk may have rolled back already.
            if self._file.in_transaction:
                self._file.execute("rollback")
            raise

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise SinkUnavailable(f"{self.name}: {error}") from None


def _set_wal(file: sqlite3.Connection) -> None:
    """The busy timeout does not hold for this statement where another process opens the file."""
    for attempt in range(100):
        try:
            file.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError:
            if attempt == 99:
                raise
            time.sleep(0.05)


def _hash_session(event: Event) -> bytes | None:
    return None if event.session_id is None else hash_id(event.session_id)


def _read_digests(file: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, bytes]:
    """Of the events that are stored under these keys."""
    wanted = list(keys)
    found: dict[bytes, bytes] = {}
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        marks = ",".join("?" * len(part))
        rows = file.execute(f"select id, body from events where id in ({marks})", part)
        found |= {key: Event.from_json(body).digest for key, body in rows}
    return found


def _read_blocks(
    file: sqlite3.Connection, start: int, limit: int
) -> Iterator[tuple[int, list[Recommendation]]]:
    n = 0
    for seq, body in file.execute(
        "select seq, body from blocks where seq > ? order by seq", [start]
    ):
        records = read_block(body)
        yield seq, records
        n += len(records)
        if n >= limit:
            return


def _has_blocks(file: sqlite3.Connection, start: int) -> bool:
    return (
        file.execute("select 1 from blocks where seq > ? limit 1", [start]).fetchone() is not None
    )
