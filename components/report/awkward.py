"""Pairs of the most bought products' pages that a person should look at first."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from components.model.arrays import AnyArray, BoolArray
from components.model.awkward_pairs import MIN_TOGETHER, count_together, is_thin
from components.model.bundle import Bundle
from components.model.seasons import check_as_of
from components.model.sensitive_goods import CLASSES, PLAIN

N_PRODUCTS = 2_000
"""Most bought ones, whose pages are looked through."""
N_PLACES = 10
MAX_PER_MARK = 7
MAX_REPEATS = 2
"""Of one recommended product under one mark."""

TITLES: Mapping[str, str] = {
    "sensitive": "Sensitive goods",
    "thin_evidence": "High places, thin evidence",
    "out_of_season": "Out of season",
}
MEANINGS: Mapping[str, str] = {
    "sensitive": "Tobacco, alcohol, infant formula, medicine or adult goods beside goods that are "
    "not of the same class. With the setting FBT_SENSITIVE_PAIRS=block the service leaves them "
    "out.",
    "thin_evidence": f"Among the first places, though fewer than {MIN_TOGETHER} baskets have both. "
    "Look whether they go together at all.",
    "out_of_season": "At this time of the year they sell less than a quarter of what they sell "
    "else. A gap in stock looks the same.",
}


@dataclass(frozen=True)
class AwkwardPair:
    asked: str
    asked_id: str
    other: str
    other_id: str
    place: int
    """From 1."""
    score: float
    together: int
    goods: str
    """Class of the recommended product, if it is sensitive."""


def read_day(as_of: str, last_order: str) -> date | None:
    """`as_of`, else the day of the newest order, else None."""
    text = as_of or last_order
    return datetime.fromisoformat(text).date() if text else None


def check_day(as_of: str, basket_counts: Mapping[str, Any]) -> None:
    """Raises AsOfError."""
    if as_of and basket_counts["first_order"]:
        window = basket_counts["first_order"], basket_counts["last_order"]
        check_as_of(date.fromisoformat(as_of), window, "parameter as_of")


def list_awkward_pairs(bundle: Bundle, day: date | None) -> dict[str, list[AwkwardPair]]:
    """By mark, most bought products first; without precomputed pages there are none."""
    if bundle.precomputed is None:
        return {}
    rows = bundle.precomputed.rows[:N_PRODUCTS, :N_PLACES]
    together = _count_together(bundle, rows)
    found = {
        "sensitive": _find_sensitive(bundle, rows),
        "thin_evidence": _find_thin(together),
        "out_of_season": _find_quiet(bundle, rows, day),
    }
    texts = _Texts(bundle)
    return {
        mark: [
            texts.describe(asked, place, int(together[asked, place]))
            for asked, place in _pick(rows, np.argwhere(applies & (rows >= 0)).tolist())
        ]
        for mark, applies in found.items()
    }


class _Texts:
    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        columns = (bundle.products[name].to_pylist() for name in ("name", "category", "product_id"))
        self._products = list(zip(*columns, strict=True))

    def describe(self, asked: int, place: int, together: int) -> AwkwardPair:
        pages = self._bundle.precomputed
        assert pages is not None
        row = int(pages.rows[asked, place])
        score = float(pages.scores[asked, place])
        return AwkwardPair(
            *self._label(asked), *self._label(row), place + 1, score, together, self._class(row)
        )

    def _label(self, row: int) -> tuple[str, str]:
        name, category, product_id = self._products[row]
        return name or category or product_id, product_id

    def _class(self, row: int) -> str:
        sensitive = self._bundle.sensitive
        code = PLAIN if sensitive is None else int(sensitive.classes[row])
        return CLASSES[code - 1].replace("_", " ") if code else ""


def _pick(rows: AnyArray, places: Iterable[list[int]]) -> Iterator[tuple[int, int]]:
    """The first place of each page, and no product again and again."""
    seen, repeats, n_found = set[int](), Counter[int](), 0
    for asked, place in places:
        other = int(rows[asked, place])
        if asked in seen or repeats[other] == MAX_REPEATS:
            continue
        if n_found == MAX_PER_MARK:
            return
        seen.add(asked)
        repeats[other] += 1
        n_found += 1
        yield asked, place


def _find_sensitive(bundle: Bundle, rows: AnyArray) -> BoolArray:
    if bundle.sensitive is None:
        return np.zeros(rows.shape, bool)
    codes = bundle.sensitive.classes
    found: BoolArray = (codes[rows] != PLAIN) & (codes[rows] != codes[: len(rows), None])
    return found


def _find_thin(together: AnyArray) -> BoolArray:
    thin = [[is_thin(place, n) for place, n in enumerate(page)] for page in together.tolist()]
    return np.array(thin, bool).reshape(together.shape)


def _find_quiet(bundle: Bundle, rows: AnyArray, day: date | None) -> BoolArray:
    if bundle.seasons is None or day is None:
        return np.zeros(rows.shape, bool)
    return bundle.seasons.find_quiet(rows, day)


def _count_together(bundle: Bundle, rows: AnyArray) -> AnyArray:
    counts = np.zeros(rows.shape, np.int64)
    for asked, page in enumerate(rows.tolist()):
        pairs: Mapping[int, Any] = count_together(bundle, [asked])
        counts[asked] = [pairs.get(other, 0) for other in page]
    return counts
