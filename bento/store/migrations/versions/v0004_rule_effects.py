"""How often rules moved something."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fbt_rule_effects",
        sa.Column("rule_id", sa.Text(), primary_key=True),
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("model_version", sa.Text(), primary_key=True),
        sa.Column("n_applied", sa.BigInteger(), nullable=False),
        sa.Column("n_moved", sa.BigInteger(), nullable=False),
    )
