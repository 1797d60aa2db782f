"""The lists of several versions on the pages of a case, for judges who do not know the versions."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bento.store.judgements import Case, Judgement, save_lists
from bento.workbench.context import Workbench
from bento.workbench.versions import LoadedVersion, VersionUnavailable
from components.judging.lists import hash_list, rank_pages

MAX_SHEETS = 8
"""Kept in memory; one of 500 pages with three versions takes about 3 MB."""

Card = Mapping[str, Any]


class ShownList(NamedTuple):
    content: str
    products: tuple[Card, ...]


class JudgingPage(NamedTuple):
    number: int
    """From 1."""
    product: Card
    lists: tuple[ShownList, ...]
    """Distinct ones."""

    @property
    def product_id(self) -> str:
        return str(self.product["product_id"])


@dataclass(frozen=True)
class Sheet:
    case: Case
    versions: tuple[str, ...]
    pages: tuple[JudgingPage, ...]
    unopened: tuple[str, ...] = ()
    """Why a version is left out."""

    @property
    def n_lists(self) -> int:
        return sum(len(page.lists) for page in self.pages)

    def page_of(self, product_id: str) -> JudgingPage | None:
        return next((page for page in self.pages if page.product_id == product_id), None)


@dataclass
class SheetCache:
    """Sheets by case and versions, the most recently used ones."""

    kept: OrderedDict[tuple[str, tuple[str, ...], tuple[str, ...]], Sheet] = field(
        default_factory=OrderedDict
    )

    async def get(self, workbench: Workbench, case: Case, versions: Sequence[str]) -> Sheet:
        """Raises VersionUnavailable if no version can be opened, PartUnavailable, NotFound."""
        key = case.case_id, case.pages, tuple(versions)
        if key not in self.kept:
            made = await build_sheet(workbench, case, versions)
            if not made.unopened:
                self.kept[key] = made
            while len(self.kept) > MAX_SHEETS:
                self.kept.popitem(last=False)
            return made
        self.kept.move_to_end(key)
        sheet = self.kept[key]
        return Sheet(case, sheet.versions, sheet.pages)


async def build_sheet(workbench: Workbench, case: Case, versions: Sequence[str]) -> Sheet:
    """Ranks the case's pages with each version, and stores the lists."""
    opened, unopened = [], []
    cards: dict[str, Card] = {}
    shown: list[Mapping[str, tuple[str, ...]]] = []
    for version in versions:
        try:
            loaded = await workbench.versions.get(version)
        except VersionUnavailable as error:
            unopened.append(str(error))
            continue
        lists = await asyncio.to_thread(_rank, loaded, case, cards)
        by_page = {page: (hash_list(products), products) for page, products in lists.items()}
        await workbench.database.call(_saving(case.case_id, loaded.version, by_page))
        opened.append(loaded.version)
        shown.append(lists)
    if not opened:
        raise VersionUnavailable("; ".join(unopened))
    pages = [_make_page(number, page, shown, cards) for number, page in enumerate(case.pages, 1)]
    return Sheet(case, tuple(opened), tuple(pages), tuple(unopened))


def _saving(case_id: str, version: str, lists: Mapping[str, tuple[str, Sequence[str]]]) -> Any:
    return lambda store: save_lists(store, case_id, version, lists)


def _rank(
    loaded: LoadedVersion, case: Case, cards: dict[str, Card]
) -> Mapping[str, tuple[str, ...]]:
    """Also adds the cards of all products that are new to `cards`."""
    lists = rank_pages(loaded.selection.recommender, case.pages, case.k)
    for product_id in {*case.pages, *(one for shown in lists.values() for one in shown)}:
        if not cards.get(product_id, {}).get("name"):
            cards[product_id] = find_card(loaded, product_id)
    return lists


def find_card(loaded: LoadedVersion, product_id: str) -> Card:
    """An id alone for a product that the catalogue does not have."""
    catalogue = loaded.selection.catalogue
    row = catalogue.row(product_id)
    return {"product_id": product_id} if row is None else catalogue.card(row)


def _make_page(
    number: int,
    page: str,
    shown: Sequence[Mapping[str, tuple[str, ...]]],
    cards: Mapping[str, Card],
) -> JudgingPage:
    distinct = dict.fromkeys(lists[page] for lists in shown)
    lists = [ShownList(hash_list(ids), tuple(cards[one] for one in ids)) for ids in distinct]
    return JudgingPage(number, cards[page], tuple(lists))


def order_lists(sheet: Sheet, page: JudgingPage, judge: str) -> list[ShownList]:
    """At random, against position bias, but the same whenever the judge comes back."""

    def draw(one: ShownList) -> bytes:
        seed = "\0".join((sheet.case.case_id, page.product_id, judge, one.content))
        return hashlib.sha256(seed.encode("utf-8", "replace")).digest()

    return sorted(page.lists, key=draw)


Own = Mapping[tuple[str, str], Judgement]
"""A judge's, by page and content."""


def index_judgements(judgements: Sequence[Judgement]) -> Own:
    return {(one.page, one.content): one for one in judgements}


def is_open(page: JudgingPage, own: Own) -> bool:
    """Whether the judge has not judged all of its lists, or put one off."""
    found = [own.get((page.product_id, one.content)) for one in page.lists]
    return any(one is None or one.state == "later" for one in found)


def is_later(page: JudgingPage, own: Own) -> bool:
    found = [own.get((page.product_id, one.content)) for one in page.lists]
    return any(one is not None and one.state == "later" for one in found)


def count_judged(sheet: Sheet, own: Own) -> int:
    """Lists of the sheet that are graded or unrateable."""
    places = [(page.product_id, one.content) for page in sheet.pages for one in page.lists]
    found = [own.get(place) for place in places]
    return sum(one is not None and one.state != "later" for one in found)


def find_next(sheet: Sheet, own: Own, after: int) -> int | None:
    """The next page to judge, from `after` on and around; pages put off come last."""
    around = [*sheet.pages[after:], *sheet.pages[:after]]
    around = [page for page in around if page.number != after and is_open(page, own)]
    first = [page for page in around if not is_later(page, own)]
    return next((page.number for page in [*first, *around]), None)
