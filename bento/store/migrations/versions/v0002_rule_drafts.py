"""Drafts of changes of rules, and which change an undo takes back."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fbt_rule_drafts",
        sa.Column("draft_id", sa.Text(), primary_key=True),
        sa.Column("rule_id", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON()),
        sa.Column("base_revision", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.UniqueConstraint("rule_id", "created_by", name="fbt_rule_drafts_one_each"),
    )
    op.add_column("fbt_rule_changes", sa.Column("undoes", sa.BigInteger()))
