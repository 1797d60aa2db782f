"""Drafts: changes of rules that people prepare, and publish several at once.

A draft remembers the rule's last change that its author has seen. It is not published over a newer
one, and nothing of it is lost.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from bento.store.draft_tables import RULE_DRAFTS
from bento.store.errors import DraftChanged, DraftUnknown, RuleChanged
from bento.store.rule_rows import find_newest_change, read_revision, write_rule
from bento.store.store import Store
from bento.store.tables import RULE_CHANGES, RULES


@dataclass(frozen=True)
class Draft:
    draft_id: str
    rule_id: str
    body: str | None
    """None for a deletion."""
    before: str | None
    """The rule as the author saw it; None if there was none."""
    current: str | None
    """The rule as it is; None if there is none."""
    base_revision: int
    newest_revision: int
    """Of the rule's last change."""
    created_by: str
    updated_at: datetime
    version: int

    @property
    def action(self) -> str:
        if self.body is None:
            return "delete"
        return "add" if self.before is None else "replace"

    @property
    def is_outdated(self) -> bool:
        return self.newest_revision != self.base_revision


DraftVersion = tuple[str, int]
"""A draft's id and the version that the person has seen."""


def list_drafts(store: Store) -> list[Draft]:
    """Oldest first."""
    with store.database.reading() as connection:
        return _read_drafts(connection)


def find_draft(store: Store, draft_id: str) -> Draft:
    """Raises DraftUnknown."""
    with store.database.reading() as connection:
        found = _read_drafts(connection, RULE_DRAFTS.c.draft_id == draft_id)
    if not found:
        raise DraftUnknown("no such draft: it was published or discarded")
    return found[0]


def begin_draft(
    store: Store, rule_id: str | None, body: str | None, by: str, base_revision: int
) -> str:
    """Returns its id. Without a rule's id, the rule is new.

    Raises DraftChanged if the person has a draft of this rule already.
    """
    draft_id, rule_id = uuid.uuid4().hex, rule_id or uuid.uuid4().hex
    table = RULE_DRAFTS.c
    own = select(table.draft_id).where(table.rule_id == rule_id, table.created_by == by)
    with store.database.writing() as connection:
        read_revision(connection, lock=True)
        if connection.scalar(own) is not None:
            raise DraftChanged("you have a draft of this rule already")
        connection.execute(
            insert(RULE_DRAFTS).values(
                draft_id=draft_id, rule_id=rule_id, body=body, base_revision=base_revision,
                created_by=by, updated_at=datetime.now(UTC), version=1,
            )
        )  # fmt: skip
    return draft_id


def change_draft(store: Store, draft: DraftVersion, body: str | None) -> None:
    """Raises DraftUnknown, DraftChanged."""
    with store.database.writing() as connection:
        _check_version(connection, draft)
        _update_draft(connection, draft, body=body)


def rebase_draft(store: Store, draft: DraftVersion, seen: int) -> None:
    """Let the draft stand on the rule's change `seen`.

    Raises DraftUnknown, DraftChanged, RuleChanged if there is a later one.
    """
    with store.database.writing() as connection:
        row = _check_version(connection, draft)
        if find_newest_change(connection, row.rule_id) != seen:
            raise RuleChanged(f"the rule changed after {seen}")
        _update_draft(connection, draft, base_revision=seen)


def discard_draft(store: Store, draft: DraftVersion) -> None:
    """Raises DraftUnknown, DraftChanged."""
    with store.database.writing() as connection:
        _check_version(connection, draft)
        connection.execute(delete(RULE_DRAFTS).where(RULE_DRAFTS.c.draft_id == draft[0]))


def publish_drafts(store: Store, drafts: Sequence[DraftVersion], by: str) -> list[int]:
    """All of them or none; returns the revisions.

    Raises DraftUnknown, DraftChanged, TooManyRules, RuleChanged for a rule that changed since.
    """
    with store.database.writing() as connection:
        read_revision(connection, lock=True)
        return [_publish(connection, draft, by) for draft in drafts]


def _publish(connection: Connection, draft: DraftVersion, by: str) -> int:
    row = _check_version(connection, draft)
    if find_newest_change(connection, row.rule_id) != row.base_revision:
        raise RuleChanged("somebody changed the rule since the draft was begun")
    connection.execute(delete(RULE_DRAFTS).where(RULE_DRAFTS.c.draft_id == row.draft_id))
    return write_rule(connection, row.rule_id, row.body, by)


def _check_version(connection: Connection, draft: DraftVersion) -> Row[Any]:
    draft_id, version = draft
    wanted = select(RULE_DRAFTS).where(RULE_DRAFTS.c.draft_id == draft_id)
    row = connection.execute(wanted.with_for_update()).first()
    if row is None:
        raise DraftUnknown("no such draft: it was published or discarded")
    if row.version != version:
        raise DraftChanged(f"found version {row.version} of the draft, expected {version}")
    return row


def _update_draft(connection: Connection, draft: DraftVersion, **values: Any) -> None:
    changed = update(RULE_DRAFTS).where(RULE_DRAFTS.c.draft_id == draft[0])
    now = datetime.now(UTC)
    connection.execute(changed.values(version=draft[1] + 1, updated_at=now, **values))


def _read_drafts(connection: Connection, *conditions: Any) -> list[Draft]:
    base = RULE_CHANGES.alias()
    newest = (
        select(func.coalesce(func.max(RULE_CHANGES.c.revision), 0))
        .where(RULE_CHANGES.c.rule_id == RULE_DRAFTS.c.rule_id)
        .scalar_subquery()
    )
    joined = RULE_DRAFTS.outerjoin(base, base.c.revision == RULE_DRAFTS.c.base_revision).outerjoin(
        RULES, RULES.c.rule_id == RULE_DRAFTS.c.rule_id
    )
    columns = (
        RULE_DRAFTS,
        base.c.after.label("before"),
        RULES.c.body.label("current"),
        newest.label("newest_revision"),
    )
    wanted = select(*columns).select_from(joined).where(*conditions)
    rows = connection.execute(wanted.order_by(RULE_DRAFTS.c.updated_at, RULE_DRAFTS.c.draft_id))
    return [_to_draft(dict(row)) for row in rows.mappings()]


def _to_draft(row: dict[str, Any]) -> Draft:
    if row["base_revision"] == 0 and row["newest_revision"] == 0:
        # A rule written by hand has no change in the audit trail.
        row["before"] = row["current"]
    return Draft(**row)
