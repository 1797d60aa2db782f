"""Judges' cases, lists and judgements."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)

    def key(name: str) -> "sa.Column[str]":
        return sa.Column(name, sa.Text(), primary_key=True)

    op.create_table(
        "fbt_judging_cases",
        key("case_id"),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("guidelines", sa.Text(), nullable=False),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("pages", sa.JSON(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", moment, nullable=False),
    )
    op.create_table(
        "fbt_judged_lists",
        *(key(name) for name in ("case_id", "page", "content")),
        sa.Column("products", sa.JSON(), nullable=False),
    )
    op.create_table(
        "fbt_judged_shown",
        *(key(name) for name in ("case_id", "page", "system")),
        sa.Column("content", sa.Text(), nullable=False),
    )
    op.create_table(
        "fbt_judgements",
        *(key(name) for name in ("case_id", "page", "content", "judge")),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("grade", sa.Integer()),
        sa.Column("reason", sa.Text()),
        sa.Column("judged_at", moment, nullable=False),
    )
    op.create_index("fbt_judgements_of_judge", "fbt_judgements", ["case_id", "judge"])
    op.create_table(
        "fbt_judged_preferences",
        *(key(name) for name in ("case_id", "page", "first", "second", "judge")),
        sa.Column("preferred", sa.Text(), nullable=False),
        sa.Column("judged_at", moment, nullable=False),
    )
