"""Drafts of rules: who has which, and publishing several at once after a look at their effect."""

from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bento.store.drafts import (
    Draft,
    begin_draft,
    discard_draft,
    find_draft,
    list_drafts,
    publish_drafts,
    rebase_draft,
)
from bento.store.errors import DraftChanged, DraftUnknown, RuleChanged, TooManyRules
from bento.store.store import Store
from bento.workbench.access.person import Person, Role
from bento.workbench.context import get_workbench
from bento.workbench.errors import BadInput, Conflict, NotFound
from bento.workbench.pages import flash
from bento.workbench.parts import wait_until_served
from bento.workbench.routing import Views
from bento.workbench.rules.examine import Findings, as_rule, examine_changes
from bento.workbench.rules.form import RuleForm, parse_number
from bento.workbench.rules.rule_book import RuleBook
from bento.workbench.rules.words import parse_body
from bento.workbench.rules.zone import find_zone
from bento.workbench.views.rule_form import OPENING_S, Editing, get_books, render_rules, show_form

VIEWS = Views()


def may_change(draft: Draft, person: Person) -> bool:
    return draft.created_by == person.name or person.may("releaser")


@VIEWS.get("/rules/drafts")
async def show_drafts(request: Request) -> Response:
    book = await get_books(request).read()
    drafts = await get_workbench(request).database.call(list_drafts)
    return render_rules(request, "drafts.html", book=book, drafts=drafts, may_change=may_change)


@VIEWS.get("/rules/drafts/{draft_id}")
async def show_draft(request: Request) -> Response:
    draft, book = await find(request), await get_books(request).read(OPENING_S)
    rule = parse_body(draft.body)
    is_own = draft.created_by == request.state.person.name and request.state.person.may("editor")
    if rule is None or not is_own:
        findings = await examine(book, [draft])
        return render_rules(request, "draft.html", book=book, draft=draft, findings=findings)
    editing = Editing(
        RuleForm.fill(rule, find_zone(request)),
        draft.rule_id,
        draft.base_revision,
        (draft.draft_id, draft.version),
        is_kept=True,
    )
    return await show_form(request, editing, draft=draft, stored=None)


async def find(request: Request) -> Draft:
    draft_id = request.path_params["draft_id"]
    try:
        return await get_workbench(request).database.call(lambda store: find_draft(store, draft_id))
    except DraftUnknown as error:
        raise NotFound(str(error)) from None


@VIEWS.post("/rules/delete", Role.editor)
async def draft_deletion(request: Request) -> Response:
    """A draft that deletes a rule, to be looked at and published."""
    given = await request.form()
    rule_id, base = str(given.get("rule_id", "")), parse_number("base", str(given.get("base", "")))
    if not rule_id:
        raise BadInput("rule_id: found none, expected that of a rule's page")
    name = request.state.person.name

    def begin(store: Store) -> str:
        return begin_draft(store, rule_id, None, name, base)

    try:
        draft_id = await get_workbench(request).database.call(begin)
    except DraftChanged as error:
        flash(request, f"Not done: {error}. Publish or discard it first.", "warn")
        return RedirectResponse("/rules/drafts", 303)
    return RedirectResponse(f"/rules/publish?draft={draft_id}", 303)


@VIEWS.post("/rules/drafts/{draft_id}/discard", Role.editor)
async def discard(request: Request) -> Response:
    draft, version = await find(request), await read_number(request, "version")
    if not may_change(draft, request.state.person):
        raise Conflict(f"The draft is {draft.created_by}'s.")
    await change(request, lambda store: discard_draft(store, (draft.draft_id, version)))
    flash(request, "Draft discarded.")
    return RedirectResponse("/rules/drafts", 303)


@VIEWS.post("/rules/drafts/{draft_id}/rebase", Role.editor)
async def rebase(request: Request) -> Response:
    draft = await find(request)
    version, seen = await read_number(request, "version"), await read_number(request, "seen")
    await change(request, lambda store: rebase_draft(store, (draft.draft_id, version), seen))
    flash(request, "The draft now stands on the newest rule; nothing is published yet.")
    return RedirectResponse(f"/rules/publish?draft={draft.draft_id}", 303)


async def change(request: Request, call: Callable[[Store], None]) -> None:
    """Raises Conflict where somebody was faster, NotFound for a draft that is gone."""
    try:
        await get_workbench(request).database.call(call)
    except (DraftChanged, RuleChanged) as error:
        raise Conflict(f"{error}. Look at it again; nothing was changed.") from None
    except DraftUnknown as error:
        raise NotFound(str(error)) from None


async def read_number(request: Request, field: str) -> int:
    return parse_number(field, str((await request.form()).get(field, "")))


@VIEWS.get("/rules/publish", Role.editor)
async def show_summary(request: Request) -> Response:
    wanted = request.query_params.getlist("draft")
    every = await get_workbench(request).database.call(list_drafts)
    chosen = [one for one in every if one.draft_id in wanted]
    if not chosen:
        flash(request, "No draft was chosen, or they are published already.", "warn")
        return RedirectResponse("/rules/drafts", 303)
    n_gone = len(set(wanted)) - len(chosen)
    return await render_summary(request, chosen, n_gone=n_gone)


async def render_summary(
    request: Request, drafts: Sequence[Draft], status: int = 200, **context: Any
) -> Response:
    book = await get_books(request).read(OPENING_S)
    findings = await examine(book, drafts)
    return render_rules(
        request, "publish.html", status, book=book, drafts=drafts, findings=findings, **context
    )


async def examine(book: RuleBook, drafts: Sequence[Draft]) -> Findings:
    pairs = [(one.rule_id, parse_body(one.body)) for one in drafts]
    return await examine_changes(
        book, ((rule_id, as_rule(rule, rule_id) if rule else None) for rule_id, rule in pairs)
    )


@VIEWS.post("/rules/publish", Role.editor)
async def publish(request: Request) -> Response:
    given = await request.form()
    versions = [read_version(str(one)) for one in given.getlist("draft")]
    every = await get_workbench(request).database.call(list_drafts)
    drafts = [one for one in every if one.draft_id in dict(versions)]
    if len(drafts) < len(versions) or not versions:
        raise Conflict("A draft was published or discarded meanwhile; nothing was changed.")
    book = await get_books(request).read(OPENING_S)
    findings = await examine(book, drafts)
    if findings.must_be_confirmed and given.get("confirmed") != "on":
        return await render_summary(request, drafts, 422, is_unconfirmed=True)
    name = request.state.person.name
    try:
        revisions = await get_workbench(request).database.call(
            lambda store: publish_drafts(store, versions, name)
        )
    except (RuleChanged, DraftChanged, DraftUnknown, TooManyRules) as error:
        every = await get_workbench(request).database.call(list_drafts)
        drafts = [one for one in every if one.draft_id in dict(versions)]
        return await render_summary(request, drafts, 409, refusal=str(error))
    say_published(request, revisions)
    await wait_until_served(request, max(revisions))
    return RedirectResponse("/rules", 303)


def say_published(request: Request, revisions: Sequence[int]) -> None:
    if len(revisions) == 1:
        undo = f"/rules/changes/{revisions[0]}/undo"
        flash(request, "Published. It counts on every replica within seconds.", undo=undo)
    else:
        words = f"Published {len(revisions)} changes together."
        flash(request, words, link=("/rules/history", "They can be undone one by one"))


def read_version(text: str) -> tuple[str, int]:
    """`ID:VERSION`, as the summary's form has it."""
    draft_id, _, version = text.rpartition(":")
    return draft_id, parse_number("draft", version)
