"""What one page of a case shows to one judge."""

from collections.abc import Sequence
from typing import Any

from bento.store.judgements import Judgement, Preference
from bento.workbench.errors import NotFound
from bento.workbench.judging.sheets import (
    JudgingPage,
    Sheet,
    count_judged,
    find_next,
    index_judgements,
    is_open,
    order_lists,
)


def choose_page(
    sheet: Sheet, judgements: Sequence[Judgement], judge: str, number: str | None
) -> dict[str, Any]:
    """The page of this number, else the first that is open. Raises NotFound."""
    own = index_judgements(judgements)
    given = _find_page(sheet, number)
    page = given or sheet.pages[(find_next(sheet, own, 0) or 1) - 1]
    return {
        "page": page,
        "lists": order_lists(sheet, page, judge),
        "own": {one.content: own.get((page.product_id, one.content)) for one in page.lists},
        "next": find_next(sheet, own, page.number),
        "is_done": not any(is_open(one, own) for one in sheet.pages),
        "n_judged": count_judged(sheet, own),
    }


def choose_pair(
    sheet: Sheet, preferences: Sequence[Preference], judge: str, number: str | None
) -> dict[str, Any]:
    """As choose_page, of the first two distinct lists; pages with one list are left out."""
    chosen = {(one.page, one.first, one.second): one.preferred for one in preferences}
    pages = [one for one in sheet.pages if len(one.lists) > 1]
    waiting = [one for one in pages if _name_pair(one) not in chosen]
    page = _find_page(sheet, number) or next(iter([*waiting, *pages]), None)
    later = [one for one in waiting if page and one.number > page.number]
    after = next((one for one in [*later, *waiting] if page and one.number != page.number), None)
    has_pair = page is not None and len(page.lists) > 1
    return {
        "page": page if has_pair else None,
        "lists": _order_pair(sheet, page, judge) if page and has_pair else [],
        "preferred": chosen.get(_name_pair(page)) if page and has_pair else None,
        "next": after and after.number,
        "is_done": not waiting,
        "n_pairs": len(pages),
        "n_judged": len(pages) - len(waiting),
    }


def _name_pair(page: JudgingPage) -> tuple[str, str, str]:
    first, second = sorted(one.content for one in page.lists[:2])
    return page.product_id, first, second


def _order_pair(sheet: Sheet, page: JudgingPage, judge: str) -> list[Any]:
    return order_lists(sheet, page._replace(lists=page.lists[:2]), judge)


def _find_page(sheet: Sheet, number: str | None) -> JudgingPage | None:
    if number is None:
        return None
    n = len(sheet.pages)
    if not (number.isascii() and number.isdecimal() and 1 <= int(number[:9]) <= n):
        raise NotFound(f"page {number[:30]!r} is not in the case, which has 1 to {n}")
    return sheet.pages[int(number) - 1]
