"""Rules, their audit trail and the revision, on a connection of an open transaction."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from bento.schemas.rules import Rule, RuleRequest
from bento.store.errors import RuleUnknown, StoreUnavailable, TooManyRules
from bento.store.tables import REVISION, RULE_CHANGES, RULES

MAX_RULES = 10_000

STREAMED: dict[str, Any] = {"execution_options": {"yield_per": 250}}
"""All rows at once would be one long call in C that blocks other threads."""


class Revision(NamedTuple):
    epoch: str
    value: int
    rules: int
    """The last revision that changed a rule."""


def read_revision(connection: Connection, lock: bool = False) -> Revision:
    """`lock` holds up other writers until the commit; SQLite does so by itself."""
    wanted = select(REVISION.c.epoch, REVISION.c.value, REVISION.c.rules)
    row = connection.execute(wanted.with_for_update() if lock else wanted).first()
    if row is None:
        raise _no_revision()
    return Revision(*row)


def increase_revision(connection: Connection, rules: bool) -> int:
    one_more = update(REVISION).values(value=REVISION.c.value + 1)
    if rules:
        one_more = one_more.values(rules=REVISION.c.value + 1)
    revision = connection.scalar(one_more.returning(REVISION.c.value))
    if revision is None:
        raise _no_revision()
    return int(revision)


def _no_revision() -> StoreUnavailable:
    return StoreUnavailable(
        "database: found no row in fbt_revision, expected one; restore the table or drop all fbt_* "
        "tables to begin anew"
    )


def find_rule_row(connection: Connection, rule_id: str) -> Row[Any]:
    row = connection.execute(select(RULES).where(RULES.c.rule_id == rule_id)).first()
    if row is None:
        raise RuleUnknown("no such rule")
    return row


def read_rules(connection: Connection) -> tuple[list[Rule], list[str]]:
    """Readable rules, oldest first, and the ids of the others."""
    rules, malformed = [], []
    for row in connection.execute(
        select(RULES).order_by(RULES.c.created_at, RULES.c.rule_id), **STREAMED
    ):
        try:
            rules.append(to_rule(row))
        except ValidationError:
            malformed.append(row.rule_id)
    return rules, malformed


def to_rule(row: Row[Any]) -> Rule:
    request = RuleRequest.model_validate_json(row.body)
    return Rule.model_construct(
        **dict(request),
        rule_id=row.rule_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        created_by=row.created_by,
    )


def to_body(rule: RuleRequest) -> str:
    return rule.model_dump_json(include=set(RuleRequest.model_fields), exclude_none=True)


def find_newest_change(connection: Connection, rule_id: str) -> int:
    """The revision of the rule's last change, 0 for none."""
    newest = select(func.max(RULE_CHANGES.c.revision)).where(RULE_CHANGES.c.rule_id == rule_id)
    return connection.scalar(newest) or 0


def write_rule(
    connection: Connection, rule_id: str, body: str | None, by: str, undoes: int | None = None
) -> int:
    """Add, replace or, without a body, delete a rule, whichever the rules there are need.

    Returns the revision. Raises TooManyRules.
    """
    revision, now = increase_revision(connection, rules=True), datetime.now(UTC)
    before = connection.execute(select(RULES.c.body).where(RULES.c.rule_id == rule_id)).first()
    if body is None:
        action = "delete"
        connection.execute(delete(RULES).where(RULES.c.rule_id == rule_id))
    elif before is not None:
        action, new = "replace", {"body": body, "updated_at": now}
        connection.execute(update(RULES).where(RULES.c.rule_id == rule_id).values(new))
    else:
        action = "add"
        _insert_rule(connection, rule_id, body, by, now)
    connection.execute(
        insert(RULE_CHANGES).values(
            revision=revision, changed_at=now, changed_by=by, action=action, rule_id=rule_id,
            before=before and before.body, after=body, undoes=undoes,
        )
    )  # fmt: skip
    return revision


def _insert_rule(connection: Connection, rule_id: str, body: str, by: str, now: datetime) -> None:
    if (connection.scalar(select(func.count()).select_from(RULES)) or 0) >= MAX_RULES:
        raise TooManyRules(f"rules: there are {MAX_RULES} already; delete some first")
    first = connection.execute(_first_addition(rule_id)).first()
    created_at, created_by = (first[0], first[1]) if first else (now, by)
    connection.execute(
        insert(RULES).values(
            rule_id=rule_id, body=body, created_at=created_at, updated_at=now,
            created_by=created_by,
        )
    )  # fmt: skip


def _first_addition(rule_id: str) -> Select[Any]:
    """A rule that comes back keeps its age and its author."""
    table = RULE_CHANGES.c
    added = select(table.changed_at, table.changed_by).where(
        table.rule_id == rule_id, table.action == "add"
    )
    return added.order_by(table.revision).limit(1)
