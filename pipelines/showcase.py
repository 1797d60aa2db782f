"""Three products whose answers show what a model does, picked by rule."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from math import log

import numpy as np

from bento.answering.selection import Selection
from bento.schemas.requests import RecommendRequest
from components.model.bundle import Bundle
from components.model.kind_limits import N_VISIBLE

N_PRODUCTS = 3
N_CANDIDATES = 300
"""The most bought products: everybody knows them."""

N_BESTSELLERS = 10
"""Among these no companion is: they would be right on any page."""

MIN_KINDS = 4
"""Of the five companions."""

MIN_TOGETHER, MIN_RATIO = 20, 1.5
"""Baskets with both, and how many times as many as by chance: a real pair."""

MAX_NAME_LENGTH = 40
NUMBERED = re.compile(r"#|\b(coupon|misc|miscellaneous|sales|supplies)\b", re.IGNORECASE)
UNCLEAR = re.compile(rf"{NUMBERED.pattern}|[·/]", re.IGNORECASE)
"""Of a name: numbers that tell equal names apart, and words that tell nothing."""


@dataclass(frozen=True)
class Pair:
    """Baskets with a product and its companion, and as many as there would be by chance."""

    name: str
    row: int
    kind: int
    n_together: int
    n_expected: float

    @property
    def ratio(self) -> float:
        return self.n_together / max(self.n_expected, 1e-9)


@dataclass(frozen=True)
class Page:
    """A product and its companions as they are served."""

    product_id: str
    name: str
    row: int
    kind: int
    n_orders: int
    pairs: Sequence[Pair]

    def list_rows(self) -> list[int]:
        return [self.row, *(pair.row for pair in self.pairs)]

    def rate(self, seen: Set[int] = frozenset()) -> tuple[int, float]:
        """Rules kept, and the score among pages that keep as many."""
        return self.count_kept_rules() + seen.isdisjoint(self.list_rows()), self.score()

    def count_kept_rules(self) -> int:
        names = [pair.name for pair in self.pairs]
        return sum(
            [
                len(self.pairs) == N_VISIBLE,
                len(self.name) <= MAX_NAME_LENGTH and not UNCLEAR.search(self.name),
                not any(map(NUMBERED.search, names)),
                len({pair.kind for pair in self.pairs}) >= MIN_KINDS,
                all(pair.row >= N_BESTSELLERS for pair in self.pairs),
                all(p.n_together >= MIN_TOGETHER and p.ratio >= MIN_RATIO for p in self.pairs),
            ]
        )

    def score(self) -> float:
        """The weakest of the pairs decides, and what is bought often is known."""
        return min((pair.ratio for pair in self.pairs), default=0.0) * log(1 + self.n_orders)


def pick_showcase(selection: Selection, n: int = N_PRODUCTS) -> list[Page]:
    """One page after the other: the best that keeps the most rules, of a kind not yet picked.

    To show nothing of the pages before is one more rule. In a small shop there may be fewer than
    `n`, and pages that keep few of the rules.
    """
    n_candidates = min(N_CANDIDATES, selection.recommender.n_items)
    pages = [build_page(selection, row) for row in range(n_candidates)]
    pages = [page for page in pages if page.pairs]
    picked: list[Page] = []
    while pages and len(picked) < n:
        seen = {row for page in picked for row in page.list_rows()}
        picked.append(max(pages, key=lambda page: page.rate(seen)))
        pages = [page for page in pages if page.kind != picked[-1].kind]
    return picked


def build_page(selection: Selection, row: int) -> Page:
    bundle = selection.recommender.bundle
    card = bundle.records.card(row)
    product_id, name = card["product_id"], card["name"] or card["product_id"]
    request = RecommendRequest(items=[product_id], k=N_VISIBLE)
    rows = [item.row for item in selection.recommend(request).shown]
    pairs, n_orders = describe_pairs(bundle, row, rows), int(bundle.n_orders[row])
    return Page(product_id, name, row, get_kind(bundle, row), n_orders, pairs)


def describe_pairs(bundle: Bundle, row: int, companions: Sequence[int]) -> list[Pair]:
    entries = bundle.pairs.entries(row)
    together = dict(
        zip(
            bundle.pairs.rows[entries].tolist(), bundle.pairs.support[entries].tolist(), strict=True
        )
    )
    expected = count_expected(bundle, row, companions)
    return [
        Pair(
            bundle.records.card(one)["name"] or bundle.records.card(one)["product_id"],
            one,
            get_kind(bundle, one),
            together.get(one, 0),
            by_chance,
        )
        for one, by_chance in zip(companions, expected, strict=True)
    ]


def count_expected(bundle: Bundle, row: int, companions: Sequence[int]) -> list[float]:
    """Baskets with both by chance; without the sizes of baskets where a bundle has none."""
    rows = np.array([one for one in companions if one < len(bundle.n_orders)], np.int32)
    if bundle.chance is not None:
        expected = bundle.chance.count_expected(np.array(row), rows)
    else:
        expected = bundle.n_orders[row] * bundle.n_orders[rows] / bundle.manifest.n_orders
    found = dict(zip(rows.tolist(), expected.tolist(), strict=True))
    return [found.get(one, 0.0) for one in companions]


def get_kind(bundle: Bundle, row: int) -> int:
    return row if bundle.kinds is None else bundle.kinds.get(row)
