"""How often each rule applied to an answer and changed it, by day and model version."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, Date, Table, Text, select
from sqlalchemy.dialects import postgresql, sqlite

from bento.store.store import Store
from bento.store.tables import METADATA

RULE_EFFECTS = Table(
    "fbt_rule_effects",
    METADATA,
    Column("rule_id", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("model_version", Text, primary_key=True),
    Column("n_applied", BigInteger, nullable=False),
    Column("n_moved", BigInteger, nullable=False),
)

MAX_WRITTEN = 500
"""Rows of a transaction: others wait for it a few milliseconds."""


class EffectKey(NamedTuple):
    rule_id: str
    day: date
    """In UTC."""
    model_version: str


class EffectCounts(NamedTuple):
    n_applied: int
    """Answers that the rule was for, by its `when` and its time."""
    n_moved: int
    """Those of them that it changed: it moved, inserted or removed a product of the first `k`, let
    one in, or set a setting."""


def add_rule_effects(
    store: Store, effects: Mapping[EffectKey, EffectCounts]
) -> Iterable[EffectKey]:
    """Add to what other processes wrote; yields keys when they are stored.

    Raises StoreUnavailable; if the connection breaks during a commit, counts may be added twice.
    """
    # In one order: two processes must not wait for each other.
    keys = sorted(effects)
    for start in range(0, len(keys), MAX_WRITTEN):
        part = keys[start : start + MAX_WRITTEN]
        _add(store, {key: effects[key] for key in part})
        yield from part


def _add(store: Store, effects: Mapping[EffectKey, EffectCounts]) -> None:
    dialect = sqlite if store.database.is_sqlite else postgresql
    statement = dialect.insert(RULE_EFFECTS)
    statement = statement.on_conflict_do_update(
        index_elements=list(EffectKey._fields),
        set_={
            name: RULE_EFFECTS.c[name] + statement.excluded[name] for name in EffectCounts._fields
        },
    )
    rows = [{**key._asdict(), **counts._asdict()} for key, counts in effects.items()]
    with store.database.writing() as connection:
        connection.execute(statement, rows)


def read_rule_effects(store: Store, since: date) -> dict[EffectKey, EffectCounts]:
    """From that day on, in UTC. Raises StoreUnavailable."""
    query = select(RULE_EFFECTS).where(RULE_EFFECTS.c.day >= since)
    with store.database.reading() as connection:
        rows = connection.execute(query).all()
    return {EffectKey(*row[:3]): EffectCounts(*row[3:]) for row in rows}
