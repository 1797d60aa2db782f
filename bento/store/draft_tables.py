"""The table of changes of rules that are not published yet."""

from sqlalchemy import JSON, BigInteger, Column, Integer, Table, Text, UniqueConstraint

from bento.store.tables import METADATA, UtcDateTime

RULE_DRAFTS = Table(
    "fbt_rule_drafts",
    METADATA,
    Column("draft_id", Text, primary_key=True),
    Column("rule_id", Text, nullable=False),
    Column("body", JSON),
    Column("base_revision", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("version", Integer, nullable=False),
    UniqueConstraint("rule_id", "created_by", name="fbt_rule_drafts_one_each"),
)
"""`body` is null for a deletion. `base_revision` is the rule's last change that its author has
seen, 0 for none; `version` counts the author's own changes."""
