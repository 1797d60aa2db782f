"""The database of rules and catalogue changes.

A write first increases the revision, whose row stays locked until the commit: writes are serial,
and a reader of revision n has seen all changes up to n. Readers fetch the revision before the rows:
they may see newer rows twice, but miss none.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pydantic_core
from pydantic import ValidationError
from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bento.schemas.catalogue import CatalogueAnswer, CatalogueRequest, ChangedProduct
from bento.schemas.rule_history import RuleChange, RuleHistory, RuleHistoryRequest
from bento.schemas.rules import Rule, RuleList, RuleRequest
from bento.store.database import Database
from bento.store.errors import RuleUnknown, StoreUnavailable, TooManyRules
from bento.store.migrate import migrate
from bento.store.tables import PRODUCT_CHANGES, REVISION, RULE_CHANGES, RULES

MAX_RULES = 10_000

IDS_A_QUERY = 5_000

STREAMED: dict[str, Any] = {"execution_options": {"yield_per": 250}}
"""All rows at once would be one long call in C that blocks other threads."""


class Revision(NamedTuple):
    epoch: str
    value: int
    rules: int
    """The last revision that changed a rule."""


START = Revision("", 0, -1)


class Delta(NamedTuple):
    """The changes since a revision, or a first part of them."""

    revision: Revision
    more: bool
    restarted: bool
    """The database was replaced: everything read before is void."""
    products: list[ChangedProduct]
    rules: list[Rule] | None
    malformed: list[str]
    """Ids of unreadable rules, if any rule changed."""


class Store:
    """The database at a URL. Every method is one transaction and raises StoreUnavailable."""

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        """Does not connect. `timeout_s` limits the wait of a write for other writes."""
        self.database = Database(url, timeout_s)

    def migrate(self) -> None:
        migrate(self.database)

    def close(self) -> None:
        self.database.close()

    def rules(self) -> RuleList:
        with self.database.reading() as connection:
            revision = _revision(connection)
            rules, malformed = _read_rules(connection)
            return RuleList(revision=revision.value, rules=rules, malformed=malformed)

    def rule(self, rule_id: str) -> Rule:
        """Raises RuleUnknown, also for a rule that cannot be read."""
        with self.database.reading() as connection:
            row = _find_rule_row(connection, rule_id)
        try:
            return _to_rule(row)
        except ValidationError:
            raise RuleUnknown("a rule that this release cannot read") from None

    def add_rule(self, request: RuleRequest, by: str) -> Rule:
        """Raises TooManyRules."""
        now = datetime.now(UTC)
        rule = Rule(
            **request.model_dump(), rule_id=uuid.uuid4().hex, created_at=now, updated_at=now,
            created_by=by,
        )  # fmt: skip
        with self._writing(rules=True) as (connection, revision):
            if (connection.scalar(select(func.count()).select_from(RULES)) or 0) >= MAX_RULES:
                raise TooManyRules(f"rules: there are {MAX_RULES} already; delete some first")
            connection.execute(insert(RULES).values(_as_row(rule)))
            new = {"action": "add", "rule_id": rule.rule_id, "after": _to_body(request)}
            _log_rule_change(connection, revision, by, **new)
        return rule

    def replace_rule(self, rule_id: str, request: RuleRequest, by: str) -> Rule:
        """Raises RuleUnknown."""
        with self._writing(rules=True) as (connection, revision):
            before = _find_rule_row(connection, rule_id)
            rule = Rule(
                **request.model_dump(), rule_id=rule_id, created_at=before.created_at,
                updated_at=datetime.now(UTC), created_by=before.created_by,
            )  # fmt: skip
            changed = update(RULES).where(RULES.c.rule_id == rule_id)
            connection.execute(changed.values(_as_row(rule)))
            bodies = {"before": before.body, "after": _to_body(request)}
            _log_rule_change(connection, revision, by, action="replace", rule_id=rule_id, **bodies)
        return rule

    def delete_rule(self, rule_id: str, by: str) -> None:
        """Raises RuleUnknown."""
        with self._writing(rules=True) as (connection, revision):
            before = _find_rule_row(connection, rule_id)
            connection.execute(delete(RULES).where(RULES.c.rule_id == rule_id))
            old = {"action": "delete", "rule_id": rule_id, "before": before.body}
            _log_rule_change(connection, revision, by, **old)

    def rule_history(self, request: RuleHistoryRequest) -> RuleHistory:
        """Newest first."""
        newest = select(RULE_CHANGES).order_by(RULE_CHANGES.c.revision.desc())
        if request.before is not None:
            newest = newest.where(RULE_CHANGES.c.revision < request.before)
        with self.database.reading() as connection:
            rows = [dict(row) for row in connection.execute(newest.limit(request.limit)).mappings()]
        for row in rows:
            row.update({side: _parse_card(row[side]) or None for side in ("before", "after")})
        return RuleHistory(changes=[RuleChange(**row) for row in rows])

    def change_products(self, request: CatalogueRequest) -> CatalogueAnswer:
        patches: dict[str, dict[str, Any]] = {product_id: {} for product_id in request.delete}
        for change in request.upsert:
            patches.setdefault(change.product_id, {}).update(change.to_patch())
        deleted = set(request.delete)
        with self._writing(rules=False) as (connection, revision):
            kept = _read_cards(connection, list(patches))
            wanted = {
                product_id: (kept.get(product_id, ({}, False))[0] | patch, product_id in deleted)
                for product_id, patch in patches.items()
            }
            changed = {name: new for name, new in wanted.items() if kept.get(name) != new}
            self._write_cards(connection, revision, changed)
        n_deleted = sum(is_deleted for _, is_deleted in changed.values())
        return CatalogueAnswer(
            upserted=len(changed) - n_deleted,
            deleted=n_deleted,
            unchanged=len(wanted) - len(changed),
            revision=revision,
        )

    def read_delta(self, since: Revision | None = None, at_least: int = 5_000) -> Delta:
        """A part has `at_least` so many products. Without changes this is one query of one row."""
        with self.database.reading() as connection:
            newest = _revision(connection)
            restarted = since is not None and (
                newest.epoch != since.epoch or newest.value < since.value
            )
            if restarted or since is None:
                since = START
            if newest == since:
                return Delta(newest, False, False, [], None, [])
            rules, malformed = None, list[str]()
            if newest.rules != since.rules:
                rules, malformed = _read_rules(connection)
            upto = _find_end_of_part(connection, since.value, newest.value, at_least)
            products = _read_changes(connection, since.value, upto)
        seen = newest._replace(value=upto)
        return Delta(seen, upto < newest.value, restarted, products, rules, malformed)

    @contextmanager
    def _writing(self, rules: bool) -> Iterator[tuple[Connection, int]]:
        """A transaction and its revision."""
        one_more = update(REVISION).values(value=REVISION.c.value + 1)
        if rules:
            one_more = one_more.values(rules=REVISION.c.value + 1)
        with self.database.writing() as connection:
            revision = connection.scalar(one_more.returning(REVISION.c.value))
            if revision is None:
                raise _no_revision()
            yield connection, revision

    def _write_cards(
        self, connection: Connection, revision: int, cards: dict[str, tuple[dict[str, Any], bool]]
    ) -> None:
        if not cards:
            return
        dialect = sqlite if self.database.is_sqlite else postgresql
        statement = dialect.insert(PRODUCT_CHANGES)
        others = ("card", "deleted", "revision", "updated_at")
        statement = statement.on_conflict_do_update(
            index_elements=["product_id"], set_={name: statement.excluded[name] for name in others}
        )
        shared = {"revision": revision, "updated_at": datetime.now(UTC)}
        rows = [
            {"product_id": name, "card": _as_json(card), "deleted": is_deleted, **shared}
            for name, (card, is_deleted) in cards.items()
        ]
        connection.execute(statement, rows)


def _revision(connection: Connection) -> Revision:
    row = connection.execute(select(REVISION.c.epoch, REVISION.c.value, REVISION.c.rules)).first()
    if row is None:
        raise _no_revision()
    return Revision(*row)


def _no_revision() -> StoreUnavailable:
    return StoreUnavailable(
        "database: found no row in fbt_revision, expected one; restore the table or drop all fbt_* "
        "tables to begin anew"
    )


def _find_rule_row(connection: Connection, rule_id: str) -> Row[Any]:
    row = connection.execute(select(RULES).where(RULES.c.rule_id == rule_id)).first()
    if row is None:
        raise RuleUnknown("no such rule")
    return row


def _read_rules(connection: Connection) -> tuple[list[Rule], list[str]]:
    """Readable rules, oldest first, and the ids of the others."""
    rules, malformed = [], []
    for row in connection.execute(
        select(RULES).order_by(RULES.c.created_at, RULES.c.rule_id), **STREAMED
    ):
        try:
            rules.append(_to_rule(row))
        except ValidationError:
            malformed.append(row.rule_id)
    return rules, malformed


def _to_rule(row: Row[Any]) -> Rule:
    request = RuleRequest.model_validate_json(row.body)
    return Rule.model_construct(
        **dict(request),
        rule_id=row.rule_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        created_by=row.created_by,
    )


def _as_row(rule: Rule) -> dict[str, Any]:
    own = ("rule_id", "created_at", "updated_at", "created_by")
    return {"body": _to_body(rule), **{name: getattr(rule, name) for name in own}}


def _to_body(rule: RuleRequest) -> str:
    return rule.model_dump_json(include=set(RuleRequest.model_fields), exclude_none=True)


def _log_rule_change(connection: Connection, revision: int, by: str, **columns: Any) -> None:
    own = {"revision": revision, "changed_at": datetime.now(UTC), "changed_by": by}
    connection.execute(insert(RULE_CHANGES).values(**own, **columns))


def _read_cards(
    connection: Connection, product_ids: Sequence[str]
) -> dict[str, tuple[dict[str, Any], bool]]:
    """By product, its stored changes and whether it is deleted."""
    table = PRODUCT_CHANGES.c
    columns = select(table.product_id, table.card, table.deleted)
    found = {}
    for start in range(0, len(product_ids), IDS_A_QUERY):
        some = product_ids[start : start + IDS_A_QUERY]
        rows = connection.execute(columns.where(table.product_id.in_(some)))
        found.update({row.product_id: (_parse_card(row.card), row.deleted) for row in rows})
    return found


def _find_end_of_part(connection: Connection, after: int, newest: int, at_least: int) -> int:
    """The revision of the `at_least`-th product: parts hold whole revisions."""
    column = PRODUCT_CHANGES.c.revision
    later = select(column).where(column > after, column <= newest).order_by(column)
    return connection.scalar(later.offset(at_least - 1).limit(1)) or newest


def _read_changes(connection: Connection, after: int, upto: int) -> list[ChangedProduct]:
    table = PRODUCT_CHANGES.c
    new = select(table.product_id, table.card, table.deleted).where(
        table.revision > after, table.revision <= upto
    )
    return [
        ChangedProduct(product_id, _parse_card(card), deleted)
        for product_id, card, deleted in connection.execute(new, **STREAMED)
    ]


def _parse_card(text: str | None) -> dict[str, Any]:
    card = _parse_json(text)
    return card if isinstance(card, dict) else {}


def _parse_json(text: str | None) -> Any:
    """None also for a text broken by hand."""
    try:
        return None if text is None else pydantic_core.from_json(text)
    except ValueError:
        return None


def _as_json(card: dict[str, Any]) -> str:
    return pydantic_core.to_json(card).decode()
