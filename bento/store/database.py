"""Transactions on SQLite or PostgreSQL; their errors hold no password."""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from bento.store.errors import StoreUnavailable

DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg2",
    "postgresql": "postgresql+psycopg2",
}

CONNECT_TIMEOUT_S = 3

WRITES = "fbt_writes"


class Database:
    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        """Raises StoreUnavailable for another kind of URL.

        `timeout_s` limits the wait of a write for other writes.
        """
        self._url, self._timeout_s = parse_url(url), timeout_s
        self.engine = (_sqlite if self.is_sqlite else _postgresql)(self._url, timeout_s)

    @property
    def is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @property
    def name(self) -> str:
        return self._url.set(username=None, password=None, query={}).render_as_string()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction. Raises StoreUnavailable."""
        with self._translate_errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, rolled back if the block raises. Raises StoreUnavailable."""
        with self._translate_errors(), self.engine.connect() as connection:
            connection = connection.execution_options(**{WRITES: True})
            with connection.begin():
                if not self.is_sqlite:
                    # Connection poolers do not keep a plain SET or connection options.
                    limits = f"set local lock_timeout = {round(self._timeout_s * 1000)}; "
                    connection.execute(text(limits + "set local statement_timeout = '30s'"))
                yield connection

    def prepare_file(self) -> None:
        """Make the folder of an SQLite file, and let its readers pass writers (WAL).

        Raises StoreUnavailable.
        """
        if not self.is_sqlite or not self._url.database:
            return
        try:
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"database {self.name}: {error.strerror}") from None
        with (
            self._translate_errors(),
            # If the file is locked, another process does the same or the next start will. The first
            # query reports permanent errors.
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(self.engine.raw_connection()) as raw,
        ):
            raw.cursor().execute("PRAGMA journal_mode = WAL")

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            words = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
            reason = hide_secrets(" ".join(words.split()), self._url)
            raise StoreUnavailable(f"database {self.name}: {reason}") from None


def parse_url(url: str) -> URL:
    """With our driver. Raises StoreUnavailable without the URL, which may hold a password."""
    expected = "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME"
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreUnavailable(f"FBT_DATABASE_URL: no URL of a database; {expected}") from None
    backend = found.get_backend_name()
    if backend not in DRIVERS or (backend == "sqlite" and found.database in ("", ":memory:", None)):
        raise StoreUnavailable(f"FBT_DATABASE_URL: found {backend}://…; {expected}")
    return found.set(drivername=DRIVERS[backend])


def hide_secrets(message: str, url: URL) -> str:
    """The message with *** for the URL's passwords, plain or encoded."""
    query = [v for name, v in url.query.items() if "pass" in name and isinstance(v, str)]
    secrets = {str(url.password), *query} if url.password else set(query)
    forms = {form(one) for one in secrets for form in (str, repr, quote, quote_plus)}
    for form in sorted(forms, key=len, reverse=True):
        message = message.replace(form, "***")
    return message


def _sqlite(url: URL, timeout_s: float) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": timeout_s},
        # A replaced file is noticed within a minute.
        pool_recycle=60,
        pool_timeout=timeout_s,
        **_OPTIONS,
    )

    @event.listens_for(engine, "connect")
    def disable_driver_transactions(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads before it writes fails if another one wrote in between.
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL, timeout_s: float) -> Engine:
    return create_engine(
        url,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "client_encoding": "utf8",
            # A network that drops packets must not block a reader for hours.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 5000,
            **({"application_name": "fbt"} if "application_name" not in url.query else {}),
        },
        pool_pre_ping=True,
        # One by one, ten thousand rows are ten thousand round trips.
        executemany_mode="values_plus_batch",
        executemany_batch_page_size=500,
        pool_timeout=timeout_s,
        **_OPTIONS,
    )


def _identity(json_text: Any) -> Any:
    return json_text


_OPTIONS: dict[str, Any] = {
    "hide_parameters": True,
    # JSON columns hold text, parsed row by row: a row broken by hand must not hide all others.
    "json_serializer": _identity,
    "json_deserializer": _identity,
}
