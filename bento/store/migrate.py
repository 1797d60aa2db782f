"""Migration of the database to this release's schema, safe if several processes start it."""

import logging
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, select, text

# METADATA is to hold all tables.
from bento.store import draft_tables, judging_tables  # noqa: F401
from bento.store.database import Database
from bento.store.errors import StoreUnavailable
from bento.store.tables import METADATA, VERSION_TABLE

HEAD = "0004"
"""The newest version in `migrations/versions`. It is repeated here to save the slow import of
Alembic where there is nothing to migrate."""

VERSIONS = Path(__file__).with_name("migrations")

ADVISORY_LOCK = 0x666274
"""Of PostgreSQL, held while migrating: "fbt"."""

_log = logging.getLogger("bentoml.fbt")
_version = Table(VERSION_TABLE, MetaData(), Column("version_num", Text))
_one_thread = threading.Lock()


def migrate(database: Database) -> None:
    """A newer release's schema stays as it is: migrations only add, so that this one can use it.

    Raises StoreUnavailable.
    """
    database.prepare_file()
    with database.reading() as connection:
        if read_schema_version(connection) == HEAD:
            return
    # Alembic keeps the running migration in global variables.
    with _one_thread, database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(text("set local lock_timeout = '30s'"))
            connection.execute(text(f"select pg_advisory_xact_lock({ADVISORY_LOCK})"))
        if read_schema_version(connection) != HEAD:
            _upgrade(connection)


def read_schema_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(_version.c.version_num)).scalar()


def _upgrade(connection: Connection) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(VERSIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    here = read_schema_version(connection)
    if here is not None and here not in {one.revision for one in script.walk_revisions()}:
        _check_newer(here)
        return

    def steps(current: Any, _context: Any) -> Any:
        return script._upgrade_revs(HEAD, current)

    with EnvironmentContext(config, script, fn=steps, destination_rev=HEAD) as environment:
        environment.configure(
            connection=connection, target_metadata=METADATA, version_table=VERSION_TABLE
        )
        with environment.begin_transaction():
            environment.run_migrations()


def _check_newer(found: str) -> None:
    """Raises StoreUnavailable for what is no version."""
    if not (found.isdecimal() and found > HEAD):
        raise StoreUnavailable(
            f"database: {VERSION_TABLE} holds version {found[:40]!r}, expected 0001 to {HEAD} or a "
            "newer release's number; restore the table from a backup"
        )
    _log.warning(
        "database schema %s is newer than this release's %s: a newer release has upgraded it. "
        "This one goes on with the tables and columns that it knows; upgrade it, too",
        found,
        HEAD,
    )
