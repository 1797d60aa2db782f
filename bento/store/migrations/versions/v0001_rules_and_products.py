"""Rules, their audit trail, catalogue changes, and the revision that tells of both."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    counter = op.create_table(
        "fbt_revision",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("rules", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(counter, [{"id": 1, "epoch": uuid.uuid4().hex, "value": 0, "rules": 0}])
    op.create_table(
        "fbt_rules",
        sa.Column("rule_id", sa.Text(), primary_key=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("updated_at", moment, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
    )
    op.create_table(
        "fbt_product_changes",
        sa.Column("product_id", sa.Text(), primary_key=True),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False, index=True),
        sa.Column("updated_at", moment, nullable=False),
    )
    op.create_table(
        "fbt_rule_changes",
        sa.Column("revision", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("changed_at", moment, nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("rule_id", sa.Text(), nullable=False, index=True),
        sa.Column("before", sa.JSON()),
        sa.Column("after", sa.JSON()),
    )
