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
from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from bento.schemas.catalogue import CatalogueAnswer, CatalogueRequest, ChangedProduct
from bento.schemas.rule_history import RuleChange, RuleHistory, RuleHistoryRequest
from bento.schemas.rules import Rule, RuleList, RuleRequest
from bento.store.database import Database
from bento.store.errors import NothingToUndo, RuleChanged, RuleUnknown
from bento.store.migrate import migrate
from bento.store.rule_rows import (
    STREAMED,
    Revision,
    find_newest_change,
    find_rule_row,
    increase_revision,
    read_revision,
    read_rules,
    to_body,
    to_rule,
    write_rule,
)
from bento.store.tables import PRODUCT_CHANGES, RULE_CHANGES, RULES

IDS_A_QUERY = 5_000

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

    def revision(self) -> Revision:
        with self.database.reading() as connection:
            return read_revision(connection)

    def rules(self) -> RuleList:
        with self.database.reading() as connection:
            revision = read_revision(connection)
            rules, malformed = read_rules(connection)
            return RuleList(revision=revision.value, rules=rules, malformed=malformed)

    def rule(self, rule_id: str) -> Rule:
        """Raises RuleUnknown, also for a rule that cannot be read."""
        with self.database.reading() as connection:
            row = find_rule_row(connection, rule_id)
        try:
            return to_rule(row)
        except ValidationError:
            raise RuleUnknown("a rule that this release cannot read") from None

    def add_rule(self, request: RuleRequest, by: str) -> Rule:
        """Raises TooManyRules."""
        rule_id = uuid.uuid4().hex
        with self.database.writing() as connection:
            write_rule(connection, rule_id, to_body(request), by)
            return to_rule(find_rule_row(connection, rule_id))

    def replace_rule(self, rule_id: str, request: RuleRequest, by: str) -> Rule:
        """Raises RuleUnknown."""
        with self.database.writing() as connection:
            find_rule_row(connection, rule_id)
            write_rule(connection, rule_id, to_body(request), by)
            return to_rule(find_rule_row(connection, rule_id))

    def delete_rule(self, rule_id: str, by: str) -> None:
        """Raises RuleUnknown."""
        with self.database.writing() as connection:
            find_rule_row(connection, rule_id)
            write_rule(connection, rule_id, None, by)

    def undo_change(self, revision: int, seen: int, by: str) -> int:
        """Bring the rule back to its state before a change; returns the revision of the undo.

        `seen` is the rule's last change that the person knows of. Raises RuleUnknown for no such
        change, RuleChanged if there is a later one than `seen`, NothingToUndo, TooManyRules.
        """
        with self.database.writing() as connection:
            read_revision(connection, lock=True)
            change = connection.execute(
                select(RULE_CHANGES).where(RULE_CHANGES.c.revision == revision)
            ).first()
            if change is None:
                raise RuleUnknown(f"no change {revision}")
            if (newest := find_newest_change(connection, change.rule_id)) != seen:
                raise RuleChanged(f"change {newest} came after {seen}")
            current = select(RULES.c.body).where(RULES.c.rule_id == change.rule_id)
            if connection.scalar(current) == change.before:
                raise NothingToUndo(f"the rule is as it was before change {revision}")
            return write_rule(connection, change.rule_id, change.before, by, undoes=revision)

    def rule_history(self, request: RuleHistoryRequest, **wanted: str) -> RuleHistory:
        """Newest first; `wanted` are values of columns, such as a `rule_id`."""
        newest = select(RULE_CHANGES).order_by(RULE_CHANGES.c.revision.desc()).filter_by(**wanted)
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
            newest = read_revision(connection)
            restarted = since is not None and (
                newest.epoch != since.epoch or newest.value < since.value
            )
            if restarted or since is None:
                since = START
            if newest == since:
                return Delta(newest, False, False, [], None, [])
            rules, malformed = None, list[str]()
            if newest.rules != since.rules:
                rules, malformed = read_rules(connection)
            upto = _find_end_of_part(connection, since.value, newest.value, at_least)
            products = _read_changes(connection, since.value, upto)
        seen = newest._replace(value=upto)
        return Delta(seen, upto < newest.value, restarted, products, rules, malformed)

    @contextmanager
    def _writing(self, rules: bool) -> Iterator[tuple[Connection, int]]:
        """A transaction and its revision."""
        with self.database.writing() as connection:
            yield connection, increase_revision(connection, rules)

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
