"""Pairs of the most bought products' pages that a person should look at first."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from components.model.arrays import AnyArray, BoolArray, Int8Array, IntpArray
from components.model.awkward_pairs import MIN_TOGETHER, count_together, is_thin
from components.model.bundle import Bundle
from components.model.seasons import check_as_of
from components.model.sensitive_goods import CLASSES, PLAIN

N_PRODUCTS = 2_000
"""Most bought ones, whose pages are looked through."""
N_PLACES = 10
MAX_PAIRS = {"sensitive": 10, "thin_evidence": 5, "out_of_season": 5}
MAX_REPEATS = 2
"""Of one recommended product under one mark; of sensitive goods, of one class beside another."""

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
    """By mark, most bought products first; sensitive goods first on pages of sensitive goods.

    Without precomputed pages there are none.
    """
    if bundle.precomputed is None:
        return {}
    rows = bundle.precomputed.rows[:N_PRODUCTS, :N_PLACES]
    together, classes = _count_together(bundle, rows), _read_classes(bundle)
    pages = np.arange(len(rows))
    sensitive_first = np.argsort(classes[: len(rows)] == PLAIN, kind="stable")
    found = {
        "sensitive": (_find_sensitive(classes, rows), sensitive_first, _pair(classes, rows)),
        "thin_evidence": (_find_thin(together), pages, rows),
        "out_of_season": (_find_quiet(bundle, rows, day), pages, rows),
    }
    texts = _Texts(bundle)
    return {
        mark: [
            texts.describe(asked, place, int(together[asked, place]))
            for asked, place in _pick(applies & (rows >= 0), order, groups, MAX_PAIRS[mark])
        ]
        for mark, (applies, order, groups) in found.items()
    }


class _Texts:
    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._classes = bundle, _read_classes(bundle)

    def describe(self, asked: int, place: int, together: int) -> AwkwardPair:
        pages = self._bundle.precomputed
        assert pages is not None
        row = int(pages.rows[asked, place])
        score = float(pages.scores[asked, place])
        return AwkwardPair(
            *self._label(asked), *self._label(row), place + 1, score, together, self._class(row)
        )

    def _label(self, row: int) -> tuple[str, str]:
        (product,) = self._bundle.products.slice(row, 1).to_pylist()
        product_id = product["product_id"]
        return product["name"] or product["category"] or product_id, product_id

    def _class(self, row: int) -> str:
        code = int(self._classes[row])
        return CLASSES[code - 1].replace("_", " ") if code else ""


def _pick(
    applies: BoolArray, pages: IntpArray, groups: AnyArray, limit: int
) -> Iterator[tuple[int, int]]:
    """The first place of each page, and no group again and again."""
    repeats = Counter[int]()
    for page in pages[applies[pages].any(axis=1)].tolist():
        free = (int(one) for one in np.flatnonzero(applies[page]))
        place = next((one for one in free if repeats[groups[page, one]] < MAX_REPEATS), None)
        if place is None:
            continue
        yield page, place
        repeats[groups[page, place]] += 1
        if repeats.total() == limit:
            return


def _read_classes(bundle: Bundle) -> Int8Array:
    if bundle.sensitive is None:
        return np.full(bundle.manifest.n_products, PLAIN, np.int8)
    return bundle.sensitive.classes


def _find_sensitive(classes: Int8Array, rows: AnyArray) -> BoolArray:
    found: BoolArray = (classes[rows] != PLAIN) & (classes[rows] != classes[: len(rows), None])
    return found


def _pair(classes: Int8Array, rows: AnyArray) -> AnyArray:
    """A number for each pair of classes."""
    pairs: AnyArray = classes[: len(rows), None].astype(np.int64) * (len(CLASSES) + 1)
    return pairs + classes[rows]


def _find_thin(together: AnyArray) -> BoolArray:
    thin = [[is_thin(place, n) for place, n in enumerate(page)] for page in together.tolist()]
    return np.array(thin, bool).reshape(together.shape)


def _find_quiet(bundle: Bundle, rows: AnyArray, day: date | None) -> BoolArray:
    if bundle.seasons is None or day is None:
        return np.zeros(rows.shape, bool)
    asked = bundle.seasons.find_quiet(np.arange(len(rows)), day)
    return bundle.seasons.find_quiet(rows, day) & ~asked[:, None]


def _count_together(bundle: Bundle, rows: AnyArray) -> AnyArray:
    counts = np.zeros(rows.shape, np.int64)
    for asked, page in enumerate(rows.tolist()):
        pairs: Mapping[int, Any] = count_together(bundle, [asked])
        counts[asked] = [pairs.get(other, 0) for other in page]
    return counts
