"""Correct: the list of rules, and the form where one is written, looked at and saved."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bento.schemas.rule_history import RuleHistoryRequest
from bento.schemas.rules import RuleRequest
from bento.store.drafts import DraftVersion, begin_draft, change_draft, list_drafts
from bento.store.errors import DraftChanged, DraftUnknown
from bento.store.rule_rows import to_body
from bento.workbench.access.person import Role
from bento.workbench.context import get_workbench, keep
from bento.workbench.errors import NotFound, PartUnavailable
from bento.workbench.pages import flash, render
from bento.workbench.routing import Views
from bento.workbench.rules import words
from bento.workbench.rules.effects import EffectReader
from bento.workbench.rules.examine import NEW, Findings, examine_rule, find_unknown
from bento.workbench.rules.form import RuleForm, parse_number
from bento.workbench.rules.listing import SORTS, STATES, RuleFilter, list_page
from bento.workbench.rules.rule_book import RuleBooks
from bento.workbench.rules.zone import find_zone, name_zone

VIEWS = Views()

OPENING_S = 20.0
"""A preview waits so long for the version to be opened."""

NUMBERS = ("base", "version")

ACTIONS = {
    "block": "Never show",
    "pin": "Show at a position",
    "boost": "Move up",
    "bury": "Move down",
    "exempt": "Show without the limit of its kind",
    "set": "Set a default",
}


def get_books(request: Request) -> RuleBooks:
    return keep(request, RuleBooks, lambda: RuleBooks(get_workbench(request)))


def get_effects(request: Request) -> EffectReader:
    return keep(request, EffectReader, lambda: EffectReader(get_workbench(request)))


def render_rules(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """With what all pages of rules show."""
    zone, now = find_zone(request), datetime.now(UTC)
    shared = {
        "zone": name_zone(zone),
        "now": now,
        "actions": ACTIONS,
        "find_state": lambda rule: words.find_state(rule, now),
        "dates": lambda rule: words.describe_dates(rule, now, zone),
        "moment": lambda moment: words.format_moment(moment, zone, now),
    }
    return render(request, f"rules/{template}", status, **{**shared, **context})


@VIEWS.get("/rules")
async def show_rules(request: Request) -> Response:
    wanted, now = RuleFilter.read(request.query_params), datetime.now(UTC)
    book = await get_books(request).read()
    drafts = await get_workbench(request).database.call(list_drafts)
    effects = await get_effects(request).read()
    page = list_page(book, wanted, now, effects.moved)
    await get_books(request).ask_names(book, page.rules)
    return render_rules(
        request,
        "list.html",
        book=book,
        wanted=wanted,
        page=page,
        effects=effects,
        drafts=drafts,
        states=STATES,
        sorts=SORTS,
        malformed=[] if wanted.is_any else book.listed.malformed,
    )


@dataclass(frozen=True)
class Editing:
    """A rule in the form: a new one, a stored one, or a draft."""

    form: RuleForm
    rule_id: str = ""
    base_revision: int = 0
    draft: DraftVersion | None = None
    asked: str = ""
    """The id of a product whose page to show."""
    is_kept: bool = False
    """Names that the catalogue does not have are meant."""

    @classmethod
    def read(cls, given: FormData, request: Request) -> "Editing":
        """Raises BadInput for hidden fields that this page does not make."""
        fields = {name: value for name, value in given.items() if isinstance(value, str)}
        for name in ("target", "when"):
            if picked := fields.get(f"pick_{name}"):
                fields[name] = picked
        base, version = (parse_number(name, fields.get(name) or "0") for name in NUMBERS)
        draft_id = fields.get("draft", "")
        return cls(
            RuleForm.read(fields, find_zone(request)),
            fields.get("rule_id", ""),
            base,
            (draft_id, version) if draft_id else None,
            fields.get("asked", "").strip(),
            fields.get("kept") == "on",
        )


@VIEWS.get("/rules/new", Role.editor)
async def show_new(request: Request) -> Response:
    editing = Editing(RuleForm.read(request.query_params, find_zone(request)))
    return await show_form(request, editing, is_examined="target" in request.query_params)


@VIEWS.post("/rules/preview", Role.editor)
async def preview(request: Request) -> Response:
    """The form again; `live` as one types, when what is missing is not said yet."""
    given = await request.form()
    return await show_form(request, Editing.read(given, request), is_live="live" in given)


async def show_form(
    request: Request,
    editing: Editing,
    status: int = 200,
    is_examined: bool = True,
    is_live: bool = False,
    **context: Any,
) -> Response:
    """With errors, conflicts and the effect of what is in it."""
    rule, errors = editing.form.parse()
    if is_live:
        errors = [one for one in errors if one.found != "nothing"]
    findings, book = Findings(), None
    try:
        book = await get_books(request).read(OPENING_S)
        if rule is not None and is_examined:
            rule_id = editing.rule_id or NEW
            asked = [editing.asked] if editing.asked else []
            findings = await examine_rule(book, rule, rule_id, asked, editing.is_kept)
    except PartUnavailable as error:
        status, context = 503, {"failure": str(error), **context}
    return render_rules(
        request,
        "form.html",
        status,
        editing=editing,
        rule=rule,
        book=book,
        errors=errors if is_examined else [],
        findings=findings,
        is_examined=is_examined,
        **context,
    )


@VIEWS.post("/rules/save", Role.editor)
async def save(request: Request) -> Response:
    """As a draft of the person."""
    given = await request.form()
    editing = Editing.read(given, request)
    rule, _ = editing.form.parse()
    if rule is None:
        return await show_form(request, editing, 422)
    try:
        if not editing.is_kept and await has_unknown_names(request, rule):
            return await show_form(request, editing, 422, is_refused=True)
        draft_id = await save_draft(request, editing, rule)
    except PartUnavailable as error:
        return await show_form(request, editing, 503, failure=str(error))
    except (DraftChanged, DraftUnknown) as error:
        return await show_overtaken(request, editing, str(error))
    if given.get("then") == "publish":
        return RedirectResponse(f"/rules/publish?draft={draft_id}", 303)
    flash(request, "Draft saved.", link=(f"/rules/publish?draft={draft_id}", "Publish it"))
    return RedirectResponse("/rules/drafts", 303)


async def has_unknown_names(request: Request, rule: RuleRequest) -> bool:
    book = await get_books(request).read(OPENING_S)
    return bool(find_unknown(book, rule))


async def save_draft(request: Request, editing: Editing, rule: RuleRequest) -> str:
    database, body = get_workbench(request).database, to_body(rule)
    if (draft := editing.draft) is not None:
        await database.call(lambda store: change_draft(store, draft, body))
        return draft[0]
    name, rule_id = request.state.person.name, editing.rule_id or None
    base = editing.base_revision
    return await database.call(lambda store: begin_draft(store, rule_id, body, name, base))


async def show_overtaken(request: Request, editing: Editing, reason: str) -> Response:
    """The form as typed, beside the stored draft that somebody changed or began elsewhere."""
    drafts = await get_workbench(request).database.call(list_drafts)
    name = request.state.person.name
    draft_id = editing.draft[0] if editing.draft else ""
    stored = next(
        (
            one
            for one in drafts
            if one.draft_id == draft_id or (one.rule_id, one.created_by) == (editing.rule_id, name)
        ),
        None,
    )
    now = (stored.draft_id, stored.version) if stored else None
    return await show_form(
        request, replace(editing, draft=now), 409, stored_draft=stored, overtaken=reason
    )


@VIEWS.get("/rules/{rule_id:path}")
async def show_rule(request: Request) -> Response:
    rule_id = request.path_params["rule_id"]
    book = await get_books(request).read()
    changes = await get_workbench(request).database.call(
        lambda store: store.rule_history(RuleHistoryRequest(limit=200), rule_id=rule_id).changes
    )
    rule = book.by_id.get(rule_id)
    if rule is None and not changes and rule_id not in book.listed.malformed:
        raise NotFound(f"No rule {rule_id}, and none that there was.")
    await get_books(request).ask_names(book, [rule] if rule else [])
    base = changes[0].revision if changes else 0
    effects = await get_effects(request).read()
    context = {"stored": rule, "rule_id": rule_id, "changes": changes, "base": base}
    context |= {"count": effects.find_counts(rule_id), "earned": effects.find_earning(rule_id)}
    if rule is None or not request.state.person.may("editor"):
        conflicts = book.conflicts.get(rule_id, [])
        return render_rules(request, "rule.html", book=book, conflicts=conflicts, **context)
    return await show_form(
        request,
        Editing(RuleForm.fill(rule, find_zone(request)), rule_id, base),
        **context,
    )
