"""Compare: two registered versions, over all products and beside one product or a cart."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bento.schemas.requests import RecommendRequest
from bento.schemas.responses import RecommendedProduct, RecommendResponse
from bento.store.store import Store
from bento.workbench.access.person import Role
from bento.workbench.carts import parse_items
from bento.workbench.comparing.blind import BlindSides
from bento.workbench.comparing.jobs import Job, Jobs
from bento.workbench.comparing.lists import Move, find_moves
from bento.workbench.comparing.measures import read_facts
from bento.workbench.comparing.overall import Overlap, Report, compare_versions
from bento.workbench.comparing.preferences import save_choice
from bento.workbench.comparing.views import PageViews
from bento.workbench.context import get_workbench, keep
from bento.workbench.errors import BadInput, Conflict, NotFound
from bento.workbench.pages import flash, render
from bento.workbench.routing import Views
from bento.workbench.versions import LoadedVersion, ask_registry
from components.registry.registry import CHALLENGER, CHAMPION, Version

VIEWS = Views()

K = 10
SAMPLES = (1_000, 5_000, 20_000)
"""Products that the overall comparison looks at."""
QUICK_S = 0.4
"""A comparison that takes no longer is shown at once, without its progress."""


@dataclass(frozen=True)
class Question:
    """The state of the page, which is its URL."""

    a: str
    b: str
    items: tuple[str, ...] = ()
    served: bool = True
    """With rules, stock and prices; else the models alone, as always where it is blind."""
    blind: bool = False
    n: int = SAMPLES[0]

    def url(self, **changes: Any) -> str:
        new = replace(self, **changes)
        fields: dict[str, Any] = {"a": new.a, "b": new.b}
        if new.items:
            key = "product" if len(new.items) == 1 else "items"
            fields[key] = new.items[0] if len(new.items) == 1 else list(new.items)
        if new.blind and new.items:
            fields["blind"] = 1
        elif new.served != bool(new.items):
            fields["served"] = int(new.served)
        if new.n != SAMPLES[0] and not new.items:
            fields["n"] = new.n
        return f"/compare?{urlencode(fields, doseq=True)}"


@dataclass(frozen=True)
class Column:
    """One version's list; `title` is what the reader may know of it."""

    title: str
    other: str
    answer: RecommendResponse
    lines: Sequence[tuple[RecommendedProduct, Move]]

    @property
    def n_only(self) -> int:
        return sum(move.change == "only" for _, move in self.lines)


@VIEWS.get("/compare")
async def show(request: Request) -> Response:
    versions = await get_workbench(request).versions.list()
    if len(versions) < 2 and not {"a", "b"} & request.query_params.keys():
        return render(request, "compare/too_few.html", versions=versions)
    asked = read_question(request.query_params, versions)
    if asked.items:
        return await show_lists(request, asked, versions)
    return await show_overall(request, asked, versions)


@VIEWS.get("/compare/overlap")
async def show_overlap(request: Request) -> Response:
    """The part of the overall page that takes its time."""
    versions = await get_workbench(request).versions.list()
    asked = read_question(request.query_params, versions)
    job = await start_comparison(request, asked)
    return render(request, "compare/overlap.html", **describe_job(job), asked=asked)


@VIEWS.post("/compare/reveal", Role.viewer)
async def reveal(request: Request) -> Response:
    asked = await read_form(request)
    get_state(request).sides.reveal(get_session(request), (asked.a, asked.b), asked.items)
    return RedirectResponse(asked.url(), 303)


@VIEWS.post("/compare/prefer", Role.viewer)
async def prefer(request: Request) -> Response:
    """Which side is better, `left`, `right` or `equal`."""
    asked = await read_form(request)
    session, pair = get_session(request), (asked.a, asked.b)
    if get_state(request).sides.is_revealed(session, pair, asked.items):
        raise Conflict("these sides were revealed before, so that the answer would not be blind")
    choice = str((await request.form()).get("choice", ""))
    if choice not in ("left", "right", "equal"):
        raise BadInput(f"choice: found {choice!r}, expected left, right or equal")
    first, second = pair[::-1] if is_swapped(request, asked) else pair
    better = {"left": first, "right": second, "equal": None}[choice]
    await record_choice(request, asked, better)
    get_state(request).sides.reveal(session, pair, asked.items)
    words = f"Version {better} was better" if better else "Both were equal"
    text = f"{words}: left was version {first}, right version {second}. Kept among the judgements."
    flash(request, text, link=("/judge", "Judge"))
    return RedirectResponse(asked.url(), 303)


async def record_choice(request: Request, asked: Question, better: str | None) -> None:
    """Among the judgements. Raises BadInput for lists between which there is nothing to choose."""
    if len(asked.items) > 1:
        raise BadInput("product: found a cart, expected one product: judgements are of pages")
    a, b = await get_pair(request, asked)

    def keep(store: Store) -> bool:
        question = ask(asked.items, served=False)
        lists = {
            one.version: [item.product_id for item in one.answer(question).items] for one in (a, b)
        }
        return save_choice(store, asked.items[0], lists, better, request.state.person.name)

    if not await get_workbench(request).database.call(keep):
        raise BadInput("both versions show the same list here, so that there is nothing to choose")


async def show_overall(request: Request, asked: Question, versions: Sequence[Version]) -> Response:
    pair = [find_version(versions, name) for name in (asked.a, asked.b)]
    facts, job = await asyncio.gather(
        ask_registry(lambda: read_facts(*pair)), start_comparison(request, asked)
    )
    context = {"facts": facts, "pair": pair, **describe_job(job)}
    context |= {"asked": asked, "versions": versions, "title": name_version}
    return render(request, "compare/overall.html", **context)


async def start_comparison(request: Request, asked: Question) -> Job[Overlap]:
    workbench = get_workbench(request)
    a, b = await get_pair(request, asked)
    given = workbench.settings.events_url
    views = get_state(request).views

    def compute(report: Report) -> Overlap:
        seen = views.get(given.get_secret_value() if given else None)
        return compare_versions(a, b, asked.n, asked.served, report, seen)

    revision = workbench.versions.revision if asked.served else None
    key = a.version, b.version, asked.n, revision
    job = get_state(request).jobs.start(key, compute)
    waiting = asyncio.shield(asyncio.wrap_future(job.future))
    await asyncio.wait([asyncio.ensure_future(waiting)], timeout=QUICK_S)
    return job


def describe_job(job: Job[Overlap]) -> dict[str, Any]:
    return {"job": job, "overlap": job.future.result() if job.future.done() else None}


async def show_lists(request: Request, asked: Question, versions: Sequence[Version]) -> Response:
    a, b = await get_pair(request, asked)
    is_revealed = get_state(request).sides.is_revealed(
        get_session(request), (asked.a, asked.b), asked.items
    )
    is_hidden = asked.blind and not is_revealed
    columns = await asyncio.to_thread(make_columns, a, b, asked, versions, is_hidden)
    if asked.blind and is_swapped(request, asked):
        columns = columns[::-1]
    if is_hidden:
        columns = [hide(columns[0], "left", "right"), hide(columns[1], "right", "left")]
    products = await asyncio.to_thread(describe_items, a, b, asked.items)
    is_same = all(move.change == "same" for one in columns for _, move in one.lines)
    return render(
        request, "compare/lists.html", asked=asked, versions=versions, columns=columns,
        products=products, names={one["product_id"]: one.get("name") for one in products},
        is_hidden=is_hidden, is_same=is_same, is_revealed=is_revealed, title=name_version,
    )  # fmt: skip


def make_columns(
    a: LoadedVersion,
    b: LoadedVersion,
    asked: Question,
    versions: Sequence[Version],
    is_hidden: bool,
) -> list[Column]:
    question = ask(asked.items, asked.served, explain=not is_hidden)
    answers = [one.answer(question) for one in (a, b)]
    titles = [name_version(find_version(versions, one.version)) for one in (a, b)]
    ids = [[item.product_id for item in answer.items] for answer in answers]
    pairs = ((0, 1), (1, 0))
    return [
        Column(
            titles[own], f"version {(a, b)[other].version}’s list",
            answers[own],
            list(zip(answers[own].items, find_moves(ids[own], ids[other]), strict=True)),
        )
        for own, other in pairs
    ]  # fmt: skip


def ask(items: Sequence[str], served: bool, explain: bool = False) -> RecommendRequest:
    own: dict[str, Any] = (
        {} if served else {"rules": False, "price_ratio": None, "include_out_of_stock": True}
    )
    return RecommendRequest(items=list(items), k=K, explain=explain, **own)


def hide(column: Column, side: str, other: str) -> Column:
    return replace(column, title=side.capitalize(), other=f"the {other} list")


def describe_items(
    a: LoadedVersion, b: LoadedVersion, items: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Cards by whichever version knows the product. Raises NotFound if none does."""
    found: list[Mapping[str, Any]] = []
    for product_id in items:
        rows = [(one, one.selection.catalogue.row(product_id)) for one in (a, b)]
        cards = [one.selection.catalogue.card(row) for one, row in rows if row is not None]
        if not cards:
            raise NotFound(
                f"neither version has a product {product_id!r}; look for it by name in the search"
            )
        found.append(cards[0])
    return found


async def get_pair(request: Request, asked: Question) -> tuple[LoadedVersion, LoadedVersion]:
    versions = get_workbench(request).versions
    a, b = await asyncio.gather(
        versions.get(asked.a), versions.get(asked.b), return_exceptions=True
    )
    for one in (a, b):
        if isinstance(one, BaseException):
            raise one
    assert isinstance(a, LoadedVersion)
    assert isinstance(b, LoadedVersion)
    return a, b


def read_question(params: QueryParams, versions: Sequence[Version]) -> Question:
    """Numbers instead of aliases. Raises BadInput or NotFound."""
    a, b = choose_versions(params, versions)
    items = parse_items([params.get("product", ""), ""]) or parse_items(params.getlist("items"))
    is_blind = bool(items) and params.get("blind") == "1"
    served = params.get("served", "1" if items else "0") == "1" and not is_blind
    return Question(a, b, tuple(items), served, is_blind, read_sample(params.get("n", "")))


def read_sample(text: str) -> int:
    if text and (not text.isdecimal() or int(text) not in SAMPLES):
        raise BadInput(f"n: found {text!r}, expected one of {', '.join(map(str, SAMPLES))}")
    return int(text) if text else SAMPLES[0]


async def read_form(request: Request) -> Question:
    form = await request.form()
    versions = await get_workbench(request).versions.list()
    fields = [(name, str(value)) for name, value in form.multi_items()]
    asked = read_question(QueryParams(fields), versions)
    if not asked.items:
        raise BadInput("product: found none, expected the one whose lists were compared")
    return asked


def choose_versions(params: Mapping[str, str], versions: Sequence[Version]) -> tuple[str, str]:
    """Champion and challenger by default, else the newest others."""
    a = params.get("a") or _find_alias(versions, CHAMPION) or versions[-1].version
    a = find_version(versions, a).version
    others = [one.version for one in versions if one.version != a]
    challenger = _find_alias(versions, CHALLENGER)
    b = params.get("b") or (challenger if challenger in others else others[0] if others else a)
    return a, find_version(versions, b).version


def find_version(versions: Sequence[Version], name: str) -> Version:
    for one in versions:
        if name == one.version or name in one.aliases:
            return one
    known = ", ".join(one.version for one in versions) or "none"
    raise NotFound(f"no version or alias {name!r} is registered (versions: {known})")


def name_version(version: Version) -> str:
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    return f"Version {version.version}{aliases}"


def _find_alias(versions: Sequence[Version], alias: str) -> str | None:
    return next((one.version for one in versions if alias in one.aliases), None)


def is_swapped(request: Request, asked: Question) -> bool:
    return get_state(request).sides.is_swapped(
        get_session(request), (asked.a, asked.b), asked.items
    )


def get_session(request: Request) -> str:
    """Of this browser: what one person has seen revealed is still hidden from others."""
    return str(request.session.setdefault("blind", secrets.token_urlsafe(12)))


@dataclass
class CompareState:
    """What is kept between requests."""

    jobs: Jobs[Overlap] = field(default_factory=Jobs)
    sides: BlindSides = field(default_factory=BlindSides)
    views: PageViews = field(default_factory=PageViews)


def get_state(request: Request) -> CompareState:
    return keep(request, CompareState, CompareState)
