"""Judge: cases, the judging of their pages, results."""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from bento.store.judgements import (
    REASONS,
    Case,
    CaseChanged,
    CaseTaken,
    CaseUnknown,
    ListUnknown,
    add_case,
    change_case,
    count_judgements,
    delete_case,
    get_case,
    list_cases,
    read_judgements,
    read_preferences,
)
from bento.store.store import Store
from bento.workbench.access.csrf import HEADER
from bento.workbench.access.person import Person, Role
from bento.workbench.context import get_workbench
from bento.workbench.errors import BadInput, Conflict, NotFound, PartUnavailable
from bento.workbench.judging import exchange, judging_page
from bento.workbench.judging.caches import get_caches, open_version
from bento.workbench.judging.chart import draw_bars
from bento.workbench.judging.chosen_versions import (
    choose_versions,
    find_rivals,
    keep_versions,
    parse_versions,
    read_kept,
)
from bento.workbench.judging.new_case import (
    MAX_GUIDELINES,
    MAX_K,
    MAX_NAME,
    MAX_PAGES,
    SOURCES,
    choose_pages,
    parse_case,
    parse_texts,
)
from bento.workbench.judging.recording import record_case
from bento.workbench.judging.results import CaseFiles, compute_results, read_case
from bento.workbench.judging.saving import parse_judgement, parse_preference
from bento.workbench.judging.sheets import Sheet, find_card
from bento.workbench.pages import flash, render
from bento.workbench.routing import Views
from bento.workbench.versions import VersionUnavailable, ask_registry
from components.judging.sheet import GRADES, QUESTION

VIEWS = Views()
Result = TypeVar("Result")

N_QUEUED = 50
"""Shown of the queue."""
QUEUE_WAIT_S = 1.0
"""A page says that the queue is being built rather than wait longer."""


@VIEWS.get("/judge")
async def show_cases(request: Request) -> Response:
    cases = await ask_store(request, list_cases)
    judged = await ask_store(request, count_judgements)
    return render(request, "judge/cases.html", cases=cases, judged=judged)


@VIEWS.get("/judge/queue")
async def show_queue(request: Request) -> Response:
    given = request.query_params.get("versions", "")
    try:
        versions = await (parse_versions(request, given) if given else find_rivals(request))
    except NotFound:
        if given:
            raise
        return render(request, "judge/queue.html", versions=())
    if len(versions) > 2:
        raise BadInput(f"versions: found {len(versions)}, expected one or two to compare")
    workbench = get_workbench(request)
    k = _parse_k(request.query_params.get("k", "5"))
    queue = await get_caches(request).queues.get(workbench, versions, k, QUEUE_WAIT_S)
    cards = {}
    if queue:
        loaded = await workbench.versions.get(versions[0])
        cards = {one.page: find_card(loaded, one.page) for one in queue[:N_QUEUED]}
    return render(
        request, "judge/queue.html", versions=versions, queue=queue and queue[:N_QUEUED],
        cards=cards, k=k, max_pages=MAX_PAGES,
    )  # fmt: skip


def _parse_k(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_K):
        raise BadInput(f"k: found {text[:30]!r}, expected a number from 1 to {MAX_K}")
    return int(text)


@VIEWS.get("/judge/new", Role.editor)
async def show_new_case(request: Request) -> Response:
    return _render_new_case(request, dict(request.query_params))


def _render_new_case(
    request: Request, given: dict[str, str], error: str = "", status: int = 200
) -> Response:
    limits = {"name": MAX_NAME, "guidelines": MAX_GUIDELINES, "pages": MAX_PAGES, "k": MAX_K}
    return render(
        request, "judge/new.html", status, given=given, error=error, sources=SOURCES, limits=limits
    )


@VIEWS.post("/judge/new", Role.editor)
async def make_case(request: Request) -> Response:
    form = await read_form(request)
    try:
        new = parse_case(form)
        versions = await find_rivals(request)
        workbench = get_workbench(request)
        loaded = await open_version(workbench, versions[0])
        queue = []
        if new.source == "queue":
            queue = await get_caches(request).queues.get(workbench, versions, new.k, None) or []
        pages = await asyncio.to_thread(choose_pages, new, loaded, queue)
        by = get_person(request).name
        case = await ask_store(
            request, lambda store: add_case(store, new.name, new.guidelines, new.k, pages, by)
        )
    except (BadInput, Conflict) as error:
        return _render_new_case(request, form, str(error), 422)
    return see(f"/judge/{case.case_id}")


@VIEWS.get("/judge/{case}")
async def show_page(request: Request) -> Response:
    case = await find_case(request)
    if given := request.query_params.get("versions"):
        keep_versions(request, case.case_id, await parse_versions(request, given))
        # The pages of a blind test name no version, not even in their address.
        rest = [one for one in request.query_params.multi_items() if one[0] != "versions"]
        return see(f"/judge/{case.case_id}" + (f"?{urlencode(rest)}" if rest else ""))
    sheet = await get_sheet(request, case)
    judge = get_person(request).name
    if request.query_params.get("mode") == "ab":
        made = await ask_store(request, lambda s: read_preferences(s, case.case_id, judge))
        shown = judging_page.choose_pair(sheet, made, judge, request.query_params.get("page"))
        return render(request, "judge/pair.html", sheet=sheet, case=case, **shown)
    own = await ask_store(request, lambda s: read_judgements(s, case.case_id, judge))
    shown = judging_page.choose_page(sheet, own, judge, request.query_params.get("page"))
    return render(
        request, "judge/page.html", sheet=sheet, case=case, question=QUESTION, meanings=GRADES,
        reasons=REASONS, **shown,
    )  # fmt: skip


@VIEWS.post("/judge/{case}/grade", Role.viewer)
async def save_grade(request: Request) -> Response:
    form = await read_form(request)
    case = await find_case(request)
    await ask_store(request, parse_judgement(form, case.case_id, get_person(request).name))
    return _confirm(request, case, form, "")


@VIEWS.post("/judge/{case}/prefer", Role.viewer)
async def save_choice(request: Request) -> Response:
    form = await read_form(request)
    case = await find_case(request)
    await ask_store(request, parse_preference(form, case.case_id, get_person(request).name))
    return _confirm(request, case, form, "mode=ab&")


def _confirm(request: Request, case: Case, form: dict[str, str], mode: str) -> Response:
    """For a script that it is saved, for a form the page again."""
    if HEADER in request.headers:
        return JSONResponse({"saved": True})
    number = form.get("number", "")
    page = f"page={number}" if number.isascii() and number.isdecimal() else ""
    return see(f"/judge/{case.case_id}?{mode}{page}")


@VIEWS.get("/judge/{case}/results")
async def show_results(request: Request) -> Response:
    files = await ask_store(request, lambda store: read_case(store, request.path_params["case"]))
    n_open = await count_open(request, files)
    may_reveal = get_person(request).role >= Role.editor
    if n_open and not (may_reveal and request.query_params.get("reveal")):
        return render(
            request, "judge/withheld.html", case=files.case, n_open=n_open, may_reveal=may_reveal
        )
    systems = _choose_systems(request, files)
    result = await asyncio.to_thread(compute_results, files, systems)
    pages = [one.page for one in result.disputes]
    cards = await find_cards(request, files, pages)
    return render(
        request, "judge/results.html", files=files, case=files.case, result=result, cards=cards,
        bars=draw_bars(result), reveal=request.query_params.get("reveal"),
    )  # fmt: skip


async def count_open(request: Request, files: CaseFiles) -> int:
    """Lists that the person has begun to be asked for, and not judged."""
    versions = read_kept(request, files.case.case_id).versions
    judge = get_person(request).name
    done = {(one.page, one.content) for one in files.judgements if one.judge == judge}
    shown = {item for one in versions for item in files.lists.shown.get(one, {}).items()}
    return len(shown - done)


def _choose_systems(request: Request, files: CaseFiles) -> list[str]:
    """Raises BadInput for one that the case does not know."""
    given = request.query_params.get("versions", "")
    chosen = list(dict.fromkeys(filter(None, map(str.strip, given.split(",")))))
    if unknown := [one for one in chosen if one not in files.lists.shown]:
        known = ", ".join(files.systems) or "none"
        raise BadInput(
            f"versions: {unknown[0][:40]!r} was not judged on this case; there are: {known}"
        )
    return chosen or files.systems


async def find_cards(
    request: Request, files: CaseFiles, pages: list[str]
) -> dict[str, dict[str, object]]:
    """Names of products, from the newest version that can be opened; ids else."""
    versions = get_workbench(request).versions
    wanted = {*pages}
    for place, shown in files.lists.products.items():
        if place[0] in wanted:
            wanted |= {*shown}
    for system in reversed([one for one in files.systems if one.isdecimal()]):
        try:
            loaded = await versions.get(system)
        except (VersionUnavailable, PartUnavailable, NotFound):
            continue  # ids rather than no results
        return {one: dict(find_card(loaded, one)) for one in wanted}
    return {one: {"product_id": one} for one in wanted}


@VIEWS.get("/judge/{case}/export/{kind}")
async def export(request: Request) -> Response:
    files = await ask_store(request, lambda store: read_case(store, request.path_params["case"]))
    if await count_open(request, files) and get_person(request).role < Role.editor:
        raise BadInput("export: judge your own lists first; the file holds the grades of others")
    kind, name = request.path_params["kind"], f"case-{files.case.case_id}"
    if kind == "json":
        return _download(JSONResponse(exchange.to_json(files)), f"{name}.json")
    if kind == "csv":
        return _download(Response(exchange.to_csv(files), media_type="text/csv"), f"{name}.csv")
    if kind == "zip":
        cards = await find_cards(request, files, list(files.case.pages))
        texts = exchange.make_files(files, _choose_systems(request, files), cards)
        return _download(
            Response(exchange.to_zip(texts), media_type="application/zip"), f"{name}.zip"
        )
    raise NotFound(f"export {kind[:30]!r}: expected json, csv or zip")


def _download(response: Response, name: str) -> Response:
    response.headers["content-disposition"] = f'attachment; filename="{name}"'
    return response


@VIEWS.post("/judge/{case}/record", Role.editor)
async def record(request: Request) -> Response:
    files = await ask_store(request, lambda store: read_case(store, request.path_params["case"]))
    recorded = await ask_registry(lambda: record_case(files))
    if not recorded:
        raise BadInput("record: no registered version has a page whose list is graded")
    words = "version" if len(recorded) == 1 else "versions"
    flash(request, f"Recorded with {words} {', '.join(recorded)}: the next run's report shows it.")
    return see(f"/judge/{files.case.case_id}/results?reveal=1")


@VIEWS.get("/judge/{case}/edit", Role.editor)
async def show_edit(request: Request) -> Response:
    case = await find_case(request)
    return _render_edit(request, case, case.name, case.guidelines)


def _render_edit(
    request: Request, case: Case, name: str, guidelines: str, error: str = "", status: int = 200
) -> Response:
    limits = {"name": MAX_NAME, "guidelines": MAX_GUIDELINES}
    return render(
        request, "judge/edit.html", status, case=case, name=name, guidelines=guidelines,
        error=error, limits=limits,
    )  # fmt: skip


@VIEWS.post("/judge/{case}/edit", Role.editor)
async def edit(request: Request) -> Response:
    case, form = await find_case(request), await read_form(request)
    try:
        name, guidelines = parse_texts(form)
        if form.get("updated_at") != case.updated_at.isoformat():
            raise Conflict(
                "the case was changed while you wrote; your text is below, save it again"
            )
        await ask_store(request, lambda store: change_case(store, case, name, guidelines))
    except (BadInput, Conflict) as error:
        name, guidelines = form.get("name", ""), form.get("guidelines", "")
        status = 409 if isinstance(error, Conflict) else 422
        return _render_edit(request, case, name, guidelines, str(error), status)
    return see("/judge")


@VIEWS.post("/judge/{case}/delete", Role.editor)
async def delete(request: Request) -> Response:
    case, form = await find_case(request), await read_form(request)
    if form.get("confirm", "").strip() != case.name:
        raise BadInput(f"delete: type the case's name, {case.name!r}, to delete all its judgements")
    await ask_store(request, lambda store: delete_case(store, case.case_id))
    flash(request, f"Case {case.name} and its judgements are deleted.")
    return see("/judge")


async def get_sheet(request: Request, case: Case) -> Sheet:
    versions = await choose_versions(request, case.case_id)
    return await get_caches(request).sheets.get(get_workbench(request), case, versions)


async def find_case(request: Request) -> Case:
    return await ask_store(request, lambda store: get_case(store, request.path_params["case"]))


async def ask_store(request: Request, call: Callable[[Store], Result]) -> Result:
    """Raises PartUnavailable, NotFound, Conflict and BadInput."""
    try:
        return await get_workbench(request).database.call(call)
    except CaseUnknown as error:
        raise NotFound(str(error)) from None
    except (CaseTaken, CaseChanged) as error:
        raise Conflict(str(error)) from None
    except ListUnknown as error:
        raise BadInput(str(error)) from None


def get_person(request: Request) -> Person:
    person: Person = request.state.person
    return person


async def read_form(request: Request) -> dict[str, str]:
    return {name: str(value) for name, value in (await request.form()).items()}


def see(path: str) -> Response:
    return RedirectResponse(path, 303)
