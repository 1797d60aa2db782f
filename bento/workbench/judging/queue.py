"""The pages most worth judging: looked at often, changed by the versions, and awkward."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np

from bento.workbench.versions import LoadedVersion
from components.judging.lists import rank_pages
from components.model.awkward_pairs import is_thin
from components.model.bundle import Bundle
from components.model.sensitive_goods import PLAIN, find_clashes

N_CANDIDATES = 2_000
"""Most viewed or most bought products: of a million, ranking them all would take minutes, and the
others are seen too rarely to be worth a person's time."""
MAX_QUEUE = 500
MIN_VIEWS = 1_000
"""In all; with fewer the orders tell more."""
N_BESTSELLERS = 20
N_VISIBLE = 5
"""Places of a list that are looked through for what is awkward."""
UNCHANGED = 0.02
"""What a page counts that the versions answer alike; with one version all pages do."""

WORDS: Mapping[str, str] = {
    "thin_evidence": "thin evidence",
    "sensitive": "sensitive goods",
    "out_of_season": "out of season",
    "own_kind": "of the asked kind",
    "bestseller": "bestsellers",
}
Awkward = Mapping[str, int]
"""Products among the first five, of the worst version, by what is awkward."""


class QueuedPage(NamedTuple):
    page: str
    n_views: int | None
    """None where no event tells."""
    n_orders: int
    n_changed: int | None
    """Products that only one of the versions shows; None with one version."""
    k: int
    awkward: Awkward
    priority: float

    @property
    def reasons(self) -> list[str]:
        seen = f"{self.n_orders:,} orders" if self.n_views is None else f"{self.n_views:,} views"
        changed = [] if self.n_changed is None else [_say_change(self.n_changed, self.k)]
        awkward = [f"{n} {WORDS[name]}" for name, n in self.awkward.items() if n]
        return [seen, *changed, *awkward]


def _say_change(n_changed: int, k: int) -> str:
    return f"{n_changed} of {k} products differ" if n_changed else "the same products"


def build_queue(
    versions: Sequence[LoadedVersion], k: int, views: Mapping[str, int], today: date | None = None
) -> list[QueuedPage]:
    """Of one version or two, most important first. Takes a second or two: call it in a thread."""
    first = versions[0]
    views = views if sum(views.values()) >= MIN_VIEWS else {}
    pages = _choose_candidates(first, views)
    lists = [rank_pages(one.selection.recommender, pages, max(k, N_VISIBLE)) for one in versions]
    day = today or datetime.now(UTC).date()
    judges = [AwkwardnessFinder(one.bundle, day) for one in versions]
    queue = []
    for page in pages:
        shown = [one[page] for one in lists]
        found = [
            judge.find(page, one[:N_VISIBLE]) for judge, one in zip(judges, shown, strict=True)
        ]
        awkward = {name: max(one[name] for one in found) for name in WORDS}
        changed = None if len(shown) < 2 else len({*shown[1][:k]} - {*shown[0][:k]})
        n_orders = _count_orders(first.bundle, page)
        n_views = views.get(page, 0) if views else None
        priority = _weigh(n_orders if n_views is None else n_views, changed, k, awkward)
        queue.append(QueuedPage(page, n_views, n_orders, changed, k, awkward, priority))
    return sorted(queue, key=lambda one: -one.priority)[:MAX_QUEUE]


def _choose_candidates(version: LoadedVersion, views: Mapping[str, int]) -> list[str]:
    """Most viewed first, then most bought: rows are in that order."""
    card, n_items = version.bundle.records.card, version.bundle.manifest.n_items
    viewed = sorted(views, key=lambda one: -views[one])
    rows = ((one, version.bundle.records.row(one)) for one in viewed)
    known = [one for one, row in rows if row is not None and row < n_items]
    bought = [str(card(row)["product_id"]) for row in range(min(N_CANDIDATES, n_items))]
    return list(dict.fromkeys([*known, *bought]))[:N_CANDIDATES]


def _count_orders(bundle: Bundle, page: str) -> int:
    row = bundle.records.row(page)
    return 0 if row is None or row >= bundle.manifest.n_items else int(bundle.n_orders[row])


def _weigh(n_seen: int, changed: int | None, k: int, awkward: Awkward) -> float:
    """Views × change × awkwardness, each of them never 0."""
    change = UNCHANGED if changed is None else max(changed / k, UNCHANGED)
    return (n_seen + 1) * change * (1 + sum(awkward.values()) / N_VISIBLE)


class AwkwardnessFinder:
    """Counts what is awkward in a bundle's lists."""

    def __init__(self, bundle: Bundle, today: date) -> None:
        self._bundle, self._today = bundle, today

    def find(self, page: str, shown: Sequence[str]) -> Awkward:
        asked = self._bundle.records.row(page)
        rows = [row for one in shown if (row := self._bundle.records.row(one)) is not None]
        if asked is None or not rows:
            return dict.fromkeys(WORDS, 0)
        together = self._count_together(asked, rows)
        return {
            "thin_evidence": sum(is_thin(place, n) for place, n in enumerate(together)),
            "sensitive": self._count_sensitive(asked, rows),
            "out_of_season": self._count_quiet(asked, rows),
            "own_kind": self._count_own_kind(asked, rows),
            "bestseller": sum(row < N_BESTSELLERS and row != asked for row in rows),
        }

    def _count_together(self, asked: int, rows: Sequence[int]) -> list[int]:
        pairs = self._bundle.pairs
        if asked >= self._bundle.manifest.n_items:
            return [0] * len(rows)
        own = pairs.entries(asked)
        others, support = pairs.rows[own], pairs.support[own]
        return [int(support[others == row].max(initial=0)) for row in rows]

    def _count_sensitive(self, asked: int, rows: Sequence[int]) -> int:
        if self._bundle.sensitive is None:
            return 0
        classes = self._bundle.sensitive.classes
        codes = np.array([classes[row] if row < len(classes) else PLAIN for row in rows], np.int8)
        return int(find_clashes([int(classes[asked])], codes).sum())

    def _count_quiet(self, asked: int, rows: Sequence[int]) -> int:
        seasons = self._bundle.seasons
        if seasons is None:
            return 0
        asked_quiet, *quiet = seasons.find_quiet(np.array([asked, *rows], np.int64), self._today)
        return 0 if asked_quiet else int(sum(quiet))

    def _count_own_kind(self, asked: int, rows: Sequence[int]) -> int:
        kinds = self._bundle.kinds
        if kinds is None:
            return 0
        return sum(kinds.get(row) == kinds.get(asked) for row in rows)
