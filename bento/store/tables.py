"""The tables of rules and catalogue changes, prefixed as the database may be shared."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

VERSION_TABLE = "fbt_schema"
"""Alembic's version table; its default name is MLflow's."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite stores it without its time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return value and (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


METADATA = MetaData()

REVISION = Table(
    "fbt_revision",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Text, nullable=False),
    Column("value", BigInteger, nullable=False),
    Column("rules", BigInteger, nullable=False),
)
"""One row; see `store`. `rules` is the last revision that changed a rule, `epoch` tells databases
apart."""

RULES = Table(
    "fbt_rules",
    METADATA,
    Column("rule_id", Text, primary_key=True),
    Column("body", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("created_by", Text, nullable=False),
)

PRODUCT_CHANGES = Table(
    "fbt_product_changes",
    METADATA,
    Column("product_id", Text, primary_key=True),
    Column("card", JSON, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False, index=True),
    Column("updated_at", UtcDateTime, nullable=False),
)

RULE_CHANGES = Table(
    "fbt_rule_changes",
    METADATA,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("rule_id", Text, nullable=False, index=True),
    Column("before", JSON),
    Column("after", JSON),
    Column("undoes", BigInteger),
)
"""The audit trail, append-only. `action` is add, replace or delete; `undoes` is the revision that
an undo takes back."""
