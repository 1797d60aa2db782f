"""People's judgements in the database: cases, the lists of systems, grades and preferences.

Every function is one transaction and raises StoreUnavailable.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import pydantic_core
from sqlalchemy import Connection, Row, Table, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bento.store.errors import StoreError
from bento.store.judging_tables import CASES, JUDGEMENTS, LISTS, PREFERENCES, SHOWN
from bento.store.rule_rows import read_revision
from bento.store.store import Store

State = Literal["graded", "unrateable", "later"]
Reason = Literal["substitute", "bestseller", "random", "sensitive", "out_of_season"]
REASONS: tuple[Reason, ...] = get_args(Reason)

OF_A_CASE = (CASES, LISTS, SHOWN, JUDGEMENTS, PREFERENCES)


class CaseUnknown(StoreError):
    pass


class CaseTaken(StoreError):
    """Another case has the name."""


class CaseChanged(StoreError):
    """Somebody changed the case since it was read."""


class ListUnknown(StoreError):
    """No system shows this list on this page of the case."""


class Case(NamedTuple):
    case_id: str
    name: str
    guidelines: str
    k: int
    """Products a list."""
    pages: tuple[str, ...]
    """Product ids, in the order in which they are judged."""
    created_at: datetime
    created_by: str
    updated_at: datetime


class Judgement(NamedTuple):
    page: str
    content: str
    judge: str
    state: State
    grade: int | None
    reason: str | None
    judged_at: datetime


class Preference(NamedTuple):
    """Of two lists, by their contents in alphabetical order."""

    page: str
    first: str
    second: str
    judge: str
    preferred: str
    """One of them, or empty for equal ones."""
    judged_at: datetime


Judged = TypeVar("Judged", Judgement, Preference)


class CaseLists(NamedTuple):
    shown: dict[str, dict[str, str]]
    """By system and page, the content of the list shown."""
    products: dict[tuple[str, str], tuple[str, ...]]
    """By page and content."""


def add_case(
    store: Store, name: str, guidelines: str, k: int, pages: Sequence[str], by: str
) -> Case:
    """Raises CaseTaken."""
    now = datetime.now(UTC)
    case = Case(uuid.uuid4().hex[:12], name, guidelines, k, tuple(pages), now, by, now)
    with store.database.writing() as connection:
        _check_name(connection, name)
        row = case._asdict() | {"pages": _to_json(case.pages)}
        connection.execute(insert(CASES).values(row))
    return case


def list_cases(store: Store) -> list[Case]:
    """Newest first."""
    newest = select(CASES).order_by(CASES.c.created_at.desc(), CASES.c.case_id)
    with store.database.reading() as connection:
        return [_to_case(row) for row in connection.execute(newest)]


def get_case(store: Store, case: str) -> Case:
    """By id or name. Raises CaseUnknown."""
    named = (CASES.c.case_id == case) | (CASES.c.name == case)
    with store.database.reading() as connection:
        rows = connection.execute(select(CASES).where(named)).all()
        names = connection.scalars(select(CASES.c.name).order_by(CASES.c.name).limit(5)).all()
    if not rows:
        known = ", ".join(names) or "none yet"
        raise CaseUnknown(f"case {case!r} does not exist; there are: {known}")
    return next((_to_case(row) for row in rows if row.case_id == case), _to_case(rows[0]))


def change_case(store: Store, case: Case, name: str, guidelines: str) -> None:
    """Raises CaseUnknown, CaseTaken, and CaseChanged if `case` is not the newest state."""
    with store.database.writing() as connection:
        if name != case.name:
            _check_name(connection, name)
        mine = (CASES.c.case_id == case.case_id) & (CASES.c.updated_at == case.updated_at)
        new = {"name": name, "guidelines": guidelines, "updated_at": datetime.now(UTC)}
        if not connection.execute(update(CASES).where(mine).values(new)).rowcount:
            raise CaseChanged(f"case {case.name!r} was changed or deleted by somebody else")


def add_page(store: Store, case_id: str, page: str) -> None:
    """As the last one, unless the case has it or is gone."""
    mine = CASES.c.case_id == case_id
    with store.database.writing() as connection:
        read_revision(connection, lock=True)
        pages = connection.scalar(select(CASES.c.pages).where(mine))
        if pages is not None and page not in (known := _from_json(pages)):
            new = {"pages": _to_json([*known, page]), "updated_at": datetime.now(UTC)}
            connection.execute(update(CASES).where(mine).values(new))


def delete_case(store: Store, case_id: str) -> None:
    """With all its judgements."""
    with store.database.writing() as connection:
        for table in OF_A_CASE:
            connection.execute(delete(table).where(table.c.case_id == case_id))


def save_lists(
    store: Store, case_id: str, system: str, lists: Mapping[str, tuple[str, Sequence[str]]]
) -> None:
    """`lists` are, by page, the content and the products of the system's list."""
    common = {"case_id": case_id}
    rows = [
        common | {"page": page, "content": content, "products": _to_json(products)}
        for page, (content, products) in lists.items()
    ]
    shown = [
        common | {"page": page, "system": system, "content": content}
        for page, (content, _) in lists.items()
    ]
    if not rows:
        return
    with store.database.writing() as connection:
        _upsert(store, connection, LISTS, rows)
        _upsert(store, connection, SHOWN, shown)


def read_lists(store: Store, case_id: str) -> CaseLists:
    with store.database.reading() as connection:
        lists = connection.execute(select(LISTS).where(LISTS.c.case_id == case_id)).all()
        rows = connection.execute(select(SHOWN).where(SHOWN.c.case_id == case_id)).all()
    shown: dict[str, dict[str, str]] = {}
    for row in rows:
        shown.setdefault(row.system, {})[row.page] = row.content
    products = {(row.page, row.content): tuple(_from_json(row.products)) for row in lists}
    return CaseLists(shown, products)


def save_judgements(store: Store, case_id: str, judgements: Iterable[Judgement]) -> None:
    """Replace earlier ones of the same judge and list. Raises ListUnknown."""
    rows = [{"case_id": case_id, **one._asdict()} for one in judgements]
    if not rows:
        return
    with store.database.writing() as connection:
        _check_lists(connection, case_id, {(row["page"], row["content"]) for row in rows})
        _upsert(store, connection, JUDGEMENTS, rows)


def remove_judgement(store: Store, case_id: str, page: str, content: str, judge: str) -> None:
    table = JUDGEMENTS.c
    own = (table.page == page) & (table.content == content) & (table.judge == judge)
    with store.database.writing() as connection:
        connection.execute(delete(JUDGEMENTS).where((table.case_id == case_id) & own))


def read_judgements(store: Store, case_id: str, judge: str | None = None) -> list[Judgement]:
    """In the order of time."""
    return _read_judged(store, JUDGEMENTS, Judgement, case_id, judge, "page", "content")


def count_judgements(store: Store) -> dict[str, dict[str, int]]:
    """By case and judge, lists that are graded or unrateable."""
    table = JUDGEMENTS.c
    counts = (
        select(table.case_id, table.judge, func.count())
        .where(table.state != "later")
        .group_by(table.case_id, table.judge)
    )
    found: dict[str, dict[str, int]] = {}
    with store.database.reading() as connection:
        for case_id, judge, n in connection.execute(counts):
            found.setdefault(case_id, {})[judge] = n
    return found


def save_preference(store: Store, case_id: str, preference: Preference) -> None:
    """Raises ListUnknown."""
    page, first, second = preference.page, preference.first, preference.second
    with store.database.writing() as connection:
        _check_lists(connection, case_id, {(page, first), (page, second)})
        _upsert(store, connection, PREFERENCES, [{"case_id": case_id, **preference._asdict()}])


def remove_preference(
    store: Store, case_id: str, page: str, first: str, second: str, judge: str
) -> None:
    table = PREFERENCES.c
    own = (table.page == page) & (table.first == first) & (table.second == second)
    mine = (table.case_id == case_id) & (table.judge == judge) & own
    with store.database.writing() as connection:
        connection.execute(delete(PREFERENCES).where(mine))


def read_preferences(store: Store, case_id: str, judge: str | None = None) -> list[Preference]:
    """In the order of time."""
    return _read_judged(store, PREFERENCES, Preference, case_id, judge, "page")


def _read_judged(
    store: Store, table: Table, kind: type[Judged], case_id: str, judge: str | None, *order: str
) -> list[Judged]:
    """Of one judge or of all."""
    wanted = table.c.case_id == case_id
    if judge is not None:
        wanted &= table.c.judge == judge
    fields = [table.c[name] for name in kind._fields]
    ordered = select(*fields).where(wanted)
    ordered = ordered.order_by(table.c.judged_at, *(table.c[name] for name in order))
    with store.database.reading() as connection:
        return [kind(*row) for row in connection.execute(ordered)]


def _check_name(connection: Connection, name: str) -> None:
    if connection.scalar(select(CASES.c.case_id).where(CASES.c.name == name)):
        raise CaseTaken(f"a case is called {name!r} already; choose another name")


def _check_lists(connection: Connection, case_id: str, lists: set[tuple[str, str]]) -> None:
    table = LISTS.c
    known = select(table.page, table.content).where(table.case_id == case_id)
    if len(lists) == 1:
        ((page, content),) = lists
        known = known.where(table.page == page, table.content == content)
    found = {(row.page, row.content) for row in connection.execute(known)}
    if missing := lists - found:
        page, content = min(missing)
        raise ListUnknown(f"the case has no list {content!r} on page {page!r}")


def _upsert(
    store: Store, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert or replace, by primary key."""
    dialect = sqlite if store.database.is_sqlite else postgresql
    statement = dialect.insert(table)
    keys = [column.name for column in table.primary_key]
    others = [column.name for column in table.columns if column.name not in keys]
    new = {name: statement.excluded[name] for name in others}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=new), rows)


def _to_case(row: Row[Any]) -> Case:
    fields = {name: getattr(row, name) for name in Case._fields}
    return Case(**fields | {"pages": tuple(_from_json(row.pages))})


def _to_json(content: Sequence[str]) -> str:
    return pydantic_core.to_json(content).decode()


def _from_json(text: str | None) -> list[str]:
    """Empty also for a text broken by hand."""
    try:
        content = pydantic_core.from_json(text or "[]")
    except ValueError:
        return []
    return [str(one) for one in content] if isinstance(content, list) else []
