"""Tune: settings tried on an open model, beside the present answers."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bento.answering.selection import Selection
from bento.schemas.rules import RuleRequest
from bento.store.drafts import begin_draft
from bento.store.rule_rows import to_body
from bento.workbench.access.person import Role
from bento.workbench.carts import parse_items
from bento.workbench.comparing.jobs import Jobs
from bento.workbench.context import get_workbench, keep
from bento.workbench.errors import BadInput
from bento.workbench.pages import flash, render
from bento.workbench.routing import Views
from bento.workbench.tuning.discount import can_discount
from bento.workbench.tuning.preview import (
    OverallEffect,
    PresentPages,
    Preview,
    measure_overall,
    preview_items,
    tune_selection,
)
from bento.workbench.tuning.settings import Tuning, parse_tuning
from bento.workbench.versions import LoadedVersion
from components.model.kind_limits import NO_LIMIT
from components.registry.registry import CHAMPION

VIEWS = Views()

K, K_OTHERS = 10, 5
"""Products of the first page, and of the others."""
MAX_PAGES, N_DEFAULT_PAGES = 8, 3
N_SELECTIONS = 8
PATIENCE_S = 0.8
"""The effect on all pages may come after the answers."""


@dataclass(frozen=True)
class Question:
    """The state of the page, which is its URL."""

    version: str
    pages: tuple[tuple[str, ...], ...] = ()
    """Each a product, or a cart, of which there is one at most."""
    tuning: Tuning = field(default_factory=Tuning)

    def url(self, path: str = "/tune", **changes: Any) -> str:
        return f"{path}?{urlencode(replace(self, **changes).query())}"

    def query(self) -> list[tuple[str, str]]:
        version = [("version", self.version)] if self.version != CHAMPION else []
        return [*version, *self.page_query(), *self.tuning.query()]

    def page_query(self) -> list[tuple[str, str]]:
        return [("items" if len(page) > 1 else "page", one) for page in self.pages for one in page]

    def without(self, page: tuple[str, ...]) -> str:
        return self.url(pages=tuple(one for one in self.pages if one != page))


@dataclass
class TuneState:
    """What is kept between requests."""

    present: PresentPages = field(default_factory=PresentPages)
    effects: Jobs[OverallEffect] = field(default_factory=lambda: Jobs(64))
    selections: OrderedDict[Any, Selection] = field(default_factory=OrderedDict)


@VIEWS.get("/tune")
async def show(request: Request) -> Response:
    asked = read_question(request.query_params)
    if "add" in request.query_params or "product" in request.query_params:
        return RedirectResponse(asked.url(), 303)
    versions = get_workbench(request).versions
    registered = await versions.list()
    if not registered:
        return render(request, "tune/none.html")
    asked = choose_version(
        asked, [alias for one in registered for alias in one.aliases], registered[0].version
    )
    loaded = await versions.get(asked.version)
    if not asked.pages:
        asked = replace(asked, pages=await asyncio.to_thread(choose_pages, loaded))
    parts = await compute_parts(request, loaded, asked)
    return render(
        request, "tune/page.html", asked=asked, versions=registered, loaded=loaded,
        manifest=loaded.bundle.manifest, **parts,
        categories=await asyncio.to_thread(list_categories, loaded),
        can_discount=can_discount(loaded.bundle), NO_LIMIT=NO_LIMIT,
    )  # fmt: skip


@VIEWS.get("/tune/parts")
async def show_parts(request: Request) -> Response:
    """What follows the settings."""
    asked = read_question(request.query_params)
    loaded = await get_workbench(request).versions.get(asked.version)
    if not asked.pages:
        asked = replace(asked, pages=await asyncio.to_thread(choose_pages, loaded))
    parts = await compute_parts(request, loaded, asked)
    return render(request, "tune/parts.html", asked=asked, loaded=loaded, **parts)


@VIEWS.post("/tune/default", Role.editor)
async def save_default(request: Request) -> Response:
    """As a rule, at once or as a draft."""
    form = await request.form()
    asked = read_question(QueryParams([(name, str(value)) for name, value in form.multi_items()]))
    rule = make_rule(asked.tuning, str(form.get("scope", "")), str(form.get("note", "")))
    by, is_draft = request.state.person.name, form.get("how") == "draft"
    database = get_workbench(request).database
    if is_draft:
        await database.call(lambda store: begin_draft(store, None, to_body(rule), by, 0))
        flash(request, "Saved as a draft: it acts once it is published.", link=("/rules", "Rules"))
    else:
        await database.call(lambda store: store.add_rule(rule, by))
        words = "Published: requests get these settings within seconds."
        flash(request, words, link=("/rules", "Rules"))
    return RedirectResponse(asked.url(), 303)


def make_rule(tuning: Tuning, scope: str, note: str) -> RuleRequest:
    """Raises BadInput."""
    if not tuning.defaults:
        raise BadInput("settings: found none that a rule can set; move one of them first")
    kind, _, name = scope.partition(":")
    try:
        return RuleRequest.model_validate(
            {
                "action": "set",
                "settings": tuning.defaults,
                "when": {kind: name} if kind else None,
                "note": note,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInput(f"{place}: {first['msg']}") from None


async def compute_parts(request: Request, loaded: LoadedVersion, asked: Question) -> dict[str, Any]:
    previews, effect = await asyncio.gather(
        preview_pages(request, loaded, asked), compute_effect(request, loaded, asked)
    )
    categories = [card.get("category") for one in previews for card in one.cards]
    return {
        "previews": previews,
        "effect": effect,
        "scopes": list(dict.fromkeys(one for one in categories if one)),
        "trained_discount": loaded.bundle.manifest.popularity_discount,
    }


async def preview_pages(
    request: Request, loaded: LoadedVersion, asked: Question
) -> Sequence[Preview]:
    def preview() -> list[Preview]:
        tuned = find_selection(request, loaded, asked.tuning)
        return [
            preview_items(loaded, tuned, asked.tuning, items, K if not place else K_OTHERS)
            for place, items in enumerate(asked.pages)
        ]

    return await asyncio.to_thread(preview)


async def compute_effect(
    request: Request, loaded: LoadedVersion, asked: Question
) -> OverallEffect | None:
    """None if it takes longer than a page should."""
    state, revision = get_state(request), get_workbench(request).versions.revision

    def compute(_: Any) -> OverallEffect:
        tuned = find_selection(request, loaded, asked.tuning)
        return measure_overall(loaded, tuned, asked.tuning, state.present, revision)

    key = loaded.version, id(loaded), revision, asked.tuning
    job = state.effects.start(key, compute)
    with suppress(TimeoutError):
        waiting = asyncio.shield(asyncio.wrap_future(job.future))
        return await asyncio.wait_for(waiting, PATIENCE_S)
    return None


def find_selection(request: Request, loaded: LoadedVersion, tuning: Tuning) -> Selection:
    """Kept, as the models of carts take their time to be opened."""
    kept, present = get_state(request).selections, loaded.selection
    key = id(loaded), id(present.catalogue), id(present.rules), tuning.discount
    found = kept.pop(key, None) or tune_selection(loaded, tuning.discount)
    kept[key] = found
    while len(kept) > N_SELECTIONS:
        kept.popitem(last=False)
    return found


def read_question(params: QueryParams) -> Question:
    """Raises BadInput."""
    single = [params.get("product", ""), *params.getlist("page"), params.get("add", "")]
    given = [parse_items(params.getlist("items")), *(parse_items([one, ""]) for one in single)]
    pages = list(dict.fromkeys(tuple(page) for page in given if page))
    if len(pages) > MAX_PAGES:
        raise BadInput(f"page: found {len(pages)} pages, expected {MAX_PAGES} at most; remove one")
    lists = {name: params.getlist(name) for name in ("include", "exclude")}
    return Question(params.get("version") or CHAMPION, tuple(pages), parse_tuning(params, lists))


def choose_version(asked: Question, aliases: Sequence[str], newest: str) -> Question:
    """The newest where there is no champion yet."""
    if asked.version == CHAMPION and CHAMPION not in aliases:
        return replace(asked, version=newest)
    return asked


def choose_pages(loaded: LoadedVersion) -> tuple[tuple[str, ...], ...]:
    """The most bought products of different categories."""
    codes = loaded.bundle.item_features.category_codes[:500].tolist()
    first: dict[Any, int] = {}
    for row, code in enumerate(codes):
        first.setdefault(code or f"row {row}", row)
    rows = list(first.values())[:N_DEFAULT_PAGES]
    return tuple((loaded.selection.catalogue.product_id(row),) for row in rows)


def list_categories(loaded: LoadedVersion) -> list[str]:
    """Of the most bought products, for the fields of filters."""
    codes = loaded.bundle.item_features.category_codes[:20_000].tolist()
    first: dict[int, int] = {}
    for row, code in enumerate(codes):
        first.setdefault(code, row)
    cards = [loaded.bundle.records.card(row) for code, row in first.items() if code]
    return sorted({str(card["category"]) for card in cards if card.get("category")})


def get_state(request: Request) -> TuneState:
    return keep(request, TuneState, TuneState)
