"""The present answer and the tuned one, of a few pages and over a sample of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bento.answering.selection import Selection
from bento.schemas.responses import RecommendedProduct
from bento.workbench.comparing.lists import Move, find_moves
from bento.workbench.tuning.discount import apply_discount
from bento.workbench.tuning.effect import (
    Effect,
    answer_pages,
    draw_pages,
    measure_effect,
    measure_kept,
)
from bento.workbench.tuning.settings import Tuning
from bento.workbench.versions import LoadedVersion
from components.model.arrays import Int64Array

PRESENT, TUNED = "the present answer", "the tuned answer"


@dataclass(frozen=True)
class Preview:
    """Of one page or cart."""

    items: tuple[str, ...]
    cards: tuple[Mapping[str, Any], ...]
    present: Sequence[tuple[RecommendedProduct, Move]]
    tuned: Sequence[tuple[RecommendedProduct, Move]]
    message: str | None
    """The reason for a short tuned answer."""

    @property
    def n_changed(self) -> int:
        return sum(move.change == "only" for _, move in self.tuned)

    @property
    def is_same(self) -> bool:
        ids = [[item.product_id for item, _ in lines] for lines in (self.present, self.tuned)]
        return ids[0] == ids[1]


@dataclass(frozen=True)
class OverallEffect:
    present: Effect
    tuned: Effect
    kept: float
    """Of the present ten."""


def tune_selection(version: LoadedVersion, discount: float | None) -> Selection:
    """The version's, with the present rules, under another discount."""
    present = version.selection
    if discount is None:
        return present
    recommender = apply_discount(present.recommender, discount)
    tuned = Selection(recommender, present.catalogue, present.limits)
    tuned.rules = present.rules
    return tuned


def preview_items(
    version: LoadedVersion, tuned: Selection, tuning: Tuning, items: tuple[str, ...], k: int
) -> Preview:
    present = version.answer(Tuning().ask(items, k))
    other = version.answer(tuning.ask(items, k), tuned)
    ids = [[item.product_id for item in answer.items] for answer in (present, other)]
    catalogue = version.selection.catalogue
    rows = [catalogue.row(product_id) for product_id in items]
    cards = [
        {"product_id": product_id} if row is None else catalogue.card(row)
        for product_id, row in zip(items, rows, strict=True)
    ]
    return Preview(
        items,
        tuple(cards),
        list(zip(present.items, find_moves(ids[0], ids[1]), strict=True)),
        list(zip(other.items, find_moves(ids[1], ids[0]), strict=True)),
        other.message,
    )


class PresentPages:
    """The present answers of a sample, kept until a rule or a product changes."""

    def __init__(self) -> None:
        self._known: tuple[Any, Int64Array, Int64Array] | None = None

    def get(self, version: LoadedVersion, revision: int) -> tuple[Int64Array, Int64Array]:
        """Rows asked for, and rows of their answers."""
        key = version.version, id(version), revision
        if self._known is None or self._known[0] != key:
            rows = draw_pages(version.bundle)
            self._known = key, rows, answer_pages(version.selection, rows, Tuning())
        return self._known[1:]


def measure_overall(
    version: LoadedVersion, tuned: Selection, tuning: Tuning, pages: PresentPages, revision: int
) -> OverallEffect:
    rows, present = pages.get(version, revision)
    found = present if tuning.is_empty else answer_pages(tuned, rows, tuning)
    bundle = version.bundle
    return OverallEffect(
        measure_effect(bundle, rows, present),
        measure_effect(bundle, rows, found),
        measure_kept(present, found),
    )
