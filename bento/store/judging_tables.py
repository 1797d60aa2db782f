"""The tables of people's judgements. A *system* is a version's number, or another system's name."""

from sqlalchemy import JSON, Column, Index, Integer, Table, Text

from bento.store.tables import METADATA, UtcDateTime

CASES = Table(
    "fbt_judging_cases",
    METADATA,
    Column("case_id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("guidelines", Text, nullable=False),
    Column("k", Integer, nullable=False),
    Column("pages", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
"""`pages` are product ids, in the order in which they are judged."""

LISTS = Table(
    "fbt_judged_lists",
    METADATA,
    Column("case_id", Text, primary_key=True),
    Column("page", Text, primary_key=True),
    Column("content", Text, primary_key=True),
    Column("products", JSON, nullable=False),
)
"""`content` is a hash of `products`: equal lists of two systems are one list."""

SHOWN = Table(
    "fbt_judged_shown",
    METADATA,
    Column("case_id", Text, primary_key=True),
    Column("page", Text, primary_key=True),
    Column("system", Text, primary_key=True),
    Column("content", Text, nullable=False),
)
"""The list that a system shows on a page."""

JUDGEMENTS = Table(
    "fbt_judgements",
    METADATA,
    Column("case_id", Text, primary_key=True),
    Column("page", Text, primary_key=True),
    Column("content", Text, primary_key=True),
    Column("judge", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("grade", Integer),
    Column("reason", Text),
    Column("judged_at", UtcDateTime, nullable=False),
)
"""`state` is graded, unrateable or later; only a graded list has a grade."""

PREFERENCES = Table(
    "fbt_judged_preferences",
    METADATA,
    Column("case_id", Text, primary_key=True),
    Column("page", Text, primary_key=True),
    Column("first", Text, primary_key=True),
    Column("second", Text, primary_key=True),
    Column("judge", Text, primary_key=True),
    Column("preferred", Text, nullable=False),
    Column("judged_at", UtcDateTime, nullable=False),
)
"""Of two lists, by their contents in alphabetical order: `preferred` is one of them, or empty."""

Index("fbt_judgements_of_judge", JUDGEMENTS.c.case_id, JUDGEMENTS.c.judge)
