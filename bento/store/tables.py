"""The tables of rules and catalogue changes, prefixed: others may use the same database."""

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
"""Where Alembic keeps the version of the schema; its own default is MLflow's already."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite, which knows no time zones, keeps it without one."""

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
"""One row. Every write increases `value` first: its lock makes writers wait for each other, so that
revisions become visible in their order. `rules` is the revision that changed a rule last. A new
`epoch` says that the database is another one, whose revisions start anew."""

RULES = Table(
    "fbt_rules",
    METADATA,
    Column("rule_id", Text, primary_key=True),
    Column("body", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("created_by", Text, nullable=False),
)
"""`body` is a RuleRequest."""

PRODUCT_CHANGES = Table(
    "fbt_product_changes",
    METADATA,
    Column("product_id", Text, primary_key=True),
    Column("card", JSON, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False, index=True),
    Column("updated_at", UtcDateTime, nullable=False),
)
"""All patches of a product in one: `card` has the fields that were ever given."""

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
)
"""The audit trail: only ever appended to. `action` is add, replace or delete."""
