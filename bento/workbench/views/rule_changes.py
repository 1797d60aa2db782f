"""The block in two clicks, the history of rules, and undo."""

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bento.schemas.problems import field_errors
from bento.schemas.rule_history import RuleChange, RuleHistoryRequest
from bento.schemas.rules import RuleRequest, Scope
from bento.store.errors import NothingToUndo, RuleChanged, RuleUnknown, TooManyRules
from bento.store.store import Store
from bento.workbench.access.person import Role
from bento.workbench.context import get_workbench
from bento.workbench.errors import BadInput, Conflict, NotFound
from bento.workbench.pages import flash
from bento.workbench.parts import wait_until_served
from bento.workbench.routing import Views
from bento.workbench.rules.conflicts import is_known
from bento.workbench.rules.form import parse_number
from bento.workbench.rules.rule_book import RuleBook
from bento.workbench.rules.words import plain
from bento.workbench.views.lookup import find_product
from bento.workbench.views.rule_drafts import read_number
from bento.workbench.views.rule_form import get_books, render_rules

VIEWS = Views()

N_CHANGES = 50
"""Of a page of the history."""


@VIEWS.post("/rules/block", Role.editor)
async def block(request: Request) -> Response:
    """Published at once, and undone by a click."""
    given = await request.form()
    target, when = str(given.get("target", "")), str(given.get("when", ""))
    back = find_way_back(str(given.get("back", "")))
    rule = make_block(target, when)
    book = await get_books(request).read()
    if not await is_product(request, book, target):
        raise BadInput(f"target: found {target[:80]}, expected a product of the catalogue")
    if any(one.kind == "same" for one in book.index.find(rule)):
        flash(request, f"Blocked already: {plain(book.describe(rule))}.", "warn")
        return RedirectResponse(back, 303)
    name = request.state.person.name

    def add(store: Store) -> int:
        added = store.add_rule(rule, name)
        return (
            store.rule_history(RuleHistoryRequest(limit=1), rule_id=added.rule_id)
            .changes[0]
            .revision
        )

    try:
        revision = await get_workbench(request).database.call(add)
    except TooManyRules as error:
        raise Conflict(str(error)) from None
    said = f"{plain(book.describe(rule))}. It counts on every replica within seconds."
    flash(request, said, undo=f"/rules/changes/{revision}/undo")
    await wait_until_served(request, revision)
    return RedirectResponse(back, 303)


async def is_product(request: Request, book: RuleBook, product_id: str) -> bool:
    """By the service where no version is open. Raises FbtError if that does not answer."""
    if book.catalogue is None:
        return await find_product(request, product_id) is not None
    return is_known(Scope(product_id=product_id), book.catalogue)


def make_block(target: str, when: str) -> RuleRequest:
    """Raises BadInput."""
    try:
        return RuleRequest(
            action="block",
            target=Scope(product_id=target),
            when=Scope(product_id=when) if when else None,
        )
    except ValidationError as error:
        said = "; ".join(
            f"{one.field}: found {one.found}, expected {one.expected}"
            for one in field_errors(error, Scope)
        )
        raise BadInput(said) from None


def find_way_back(path: str) -> str:
    """A path of this workbench, never another site."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if is_own and path.isprintable() else "/rules"


@VIEWS.get("/rules/history")
async def show_history(request: Request) -> Response:
    query = request.query_params
    before = parse_number("before", query.get("before") or "0") or None
    asked = RuleHistoryRequest(limit=N_CHANGES + 1, before=before)
    wanted = {"changed_by": query.get("by", ""), "rule_id": query.get("rule", "")}
    given = {name: value for name, value in wanted.items() if value}
    book = await get_books(request).read()
    changes = await get_workbench(request).database.call(
        lambda store: store.rule_history(asked, **given).changes
    )
    return render_rules(
        request,
        "history.html",
        book=book,
        changes=changes[:N_CHANGES],
        has_more=len(changes) > N_CHANGES,
        wanted=wanted,
    )


@VIEWS.post("/rules/changes/{revision}/undo", Role.editor)
async def undo(request: Request) -> Response:
    """Asks first if the rule changed since: `seen` is its last change that the person knows of."""
    revision = parse_number("change", request.path_params["revision"])
    given = await request.form()
    seen = await read_number(request, "seen") if "seen" in given else revision
    back = find_way_back(str(given.get("back", "")))
    name = request.state.person.name
    try:
        done = await get_workbench(request).database.call(
            lambda store: store.undo_change(revision, seen, name)
        )
    except RuleChanged:
        return await ask_again(request, revision, back)
    except RuleUnknown as error:
        raise NotFound(str(error)) from None
    except (NothingToUndo, TooManyRules) as error:
        raise Conflict(str(error)) from None
    flash(request, "Undone.", undo=f"/rules/changes/{done}/undo")
    await wait_until_served(request, done)
    return RedirectResponse(back, 303)


async def ask_again(request: Request, revision: int, back: str) -> Response:
    """The change, those that came after it, and what an undo would make of the rule."""

    def read(store: Store) -> list[RuleChange]:
        asked = RuleHistoryRequest(limit=1, before=revision + 1)
        change = store.rule_history(asked).changes[0]
        later = store.rule_history(RuleHistoryRequest(limit=200), rule_id=change.rule_id).changes
        return [change, *(one for one in later if one.revision > revision)]

    change, *later = await get_workbench(request).database.call(read)
    book = await get_books(request).read()
    return render_rules(request, "undo.html", 409, book=book, change=change, later=later, back=back)
