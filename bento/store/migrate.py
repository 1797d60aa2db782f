"""Bring the database to the schema of this release, whoever else tries so at the same time."""

import logging
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, select, text

from bento.store.database import Database
from bento.store.tables import METADATA, VERSION_TABLE

HEAD = "0001"
"""The newest version in `migrations/versions`: known here so that Alembic, which takes longer to
load than all the rest, is loaded only where there is something to migrate."""

VERSIONS = Path(__file__).with_name("migrations")

ADVISORY_LOCK = 0x666274
"""Of PostgreSQL: whoever migrates holds it. The letters are "fbt"."""

_log = logging.getLogger("bentoml.fbt")
_version = Table(VERSION_TABLE, MetaData(), Column("version_num", Text))
_one_thread = threading.Lock()


def migrate(database: Database, target: str = HEAD) -> None:
    """Bring the schema to `target`, `base` for none at all; does nothing where it is there already.

    A schema newer than this release is left as it is. Raises StoreUnavailable.
    """
    database.make_folder()
    database.enable_wal()
    with database.reading() as connection:
        if read_schema_version(connection) == target:
            return
    # Alembic keeps the migration that runs in global variables.
    with _one_thread, database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(text("set local lock_timeout = '30s'"))
            connection.execute(text(f"select pg_advisory_xact_lock({ADVISORY_LOCK})"))
        if read_schema_version(connection) != target:
            _run(connection, target)


def read_schema_version(connection: Connection) -> str | None:
    """The version of the schema; None where there is none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(_version.c.version_num)).scalar()


def _run(connection: Connection, target: str) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(VERSIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    here = read_schema_version(connection)
    if here is not None and here not in {one.revision for one in script.walk_revisions()}:
        _log.warning("database schema %s is newer than this release's %s; left as is", here, HEAD)
        return

    def steps(current: Any, _context: Any) -> Any:
        downwards = target == "base"
        return (script._downgrade_revs if downwards else script._upgrade_revs)(target, current)

    with EnvironmentContext(config, script, fn=steps, destination_rev=target) as environment:
        environment.configure(
            connection=connection, target_metadata=METADATA, version_table=VERSION_TABLE
        )
        with environment.begin_transaction():
            environment.run_migrations()
