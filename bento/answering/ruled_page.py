"""A product page under rules: what `AnswerBuilder` answers, at half of the cost.

Most of a page's list is touched by no rule, so that only the places of the others are looked at.
"""

from collections.abc import Collection, Sequence

import numpy as np

from bento.answering.answer import Answer, AnswerItem
from bento.answering.catalogue import Catalogue
from bento.answering.ordering import place_pins
from bento.answering.resolved_effects import BLOCKED, EXEMPT, MOVED, ResolvedEffects
from bento.answering.rules import MAX_FACTOR
from bento.answering.sources import MODEL, name_sources
from components.model.arrays import Int64Array, UInt8Array
from components.model.kind_limits import N_VISIBLE, KindLimits
from components.model.kinds import append_others
from components.model.recommender import Recommender


class RuledPage:
    def __init__(
        self,
        recommender: Recommender,
        catalogue: Catalogue,
        row: int,
        k: int,
        depth: int,
        effects: Sequence[ResolvedEffects],
    ) -> None:
        """`depth` is the length of the ranking."""
        self._catalogue, self._row, self._k = catalogue, row, k
        self._items = recommender.items
        self._kinds, self._variants = recommender.bundle.kinds, recommender.bundle.variants
        self._effects = effects
        self.rows, self._scores = recommender.items.rank_one(row, depth)
        self._codes: UInt8Array | None = None
        for one in effects:
            found = one.find_codes(self.rows)
            self._codes = found if self._codes is None else self._codes | found
        self._named: list[tuple[int, int]] = []
        """Places that rules name, and their codes."""
        self._counts: dict[str, int] = {}
        self._acting: set[str] = set()
        self._let_in: Collection[int] = ()

    @property
    def is_untouched(self) -> bool:
        is_any_named = self._codes is not None and bool(self._codes.any())
        return not is_any_named and not any(one.pins for one in self._effects)

    def build(self, limits: KindLimits, set_by: Sequence[str]) -> Answer | None:
        """None where the ranking is too short."""
        if self._codes is not None:
            named = self._codes.nonzero()[0]
            self._named = list(zip(named.tolist(), self._codes[named].tolist(), strict=True))
        places = self._leave_out_blocked(self._list_in_stock())
        if len(places) < self._k:
            return None
        items = self._list_items(self._limit_kinds(self._move(places), limits)[: self._k])
        if any(one.pins for one in self._effects):
            items = self._pin(items)
        self._note([item.moved_by for item in items])
        return Answer(
            items,
            MODEL,
            self._catalogue,
            rules={action: n for action, n in self._counts.items() if n},
            applied=[one.effects for one in self._effects],
            acting_rules=tuple({*self._acting, *set_by}),
            set_by=set_by,
        )

    def _find_places(self, code: int) -> set[int]:
        """Places of the products that rules of some actions name."""
        return {place for place, found in self._named if found & code}

    def _list_in_stock(self) -> Int64Array:
        places = np.arange(len(self.rows))
        if self._catalogue.stock is None:
            return places
        in_stock: Int64Array = places[self._catalogue.in_stock[self.rows] != 0]
        return in_stock

    def _leave_out_blocked(self, places: Int64Array) -> Int64Array:
        blocked = self._find_places(BLOCKED)
        if not blocked or self._codes is None:
            return places
        for row in self.rows[list(blocked.intersection(places[: self._k].tolist()))].tolist():
            self._note([one.blocked.find_rules(row) for one in self._effects])
        kept: Int64Array = places[(self._codes[places] & BLOCKED) == 0]
        self._counts["block"] = len(places) - len(kept)
        return kept

    def _move(self, places: Int64Array) -> Int64Array:
        """In the order of boosts and buries."""
        if not self._find_places(MOVED):
            return places
        rows, ranks, k = self.rows[places], np.arange(1.0, len(places) + 1), self._k
        moving = [one for one in self._effects if not one.moved.is_empty]
        factors = moving[0].compute_factors(rows, self._catalogue)
        for one in moving[1:]:
            factors = factors * one.compute_factors(rows, self._catalogue)
        moved = (factors != 1).nonzero()[0]
        if not len(moved):
            return places
        factors = np.minimum(np.maximum(factors, 1 / MAX_FACTOR), MAX_FACTOR)
        order = np.argsort(ranks * factors, kind="stable")
        first = set(order[:k].tolist())
        for rank, factor in zip(moved.tolist(), factors[moved].tolist(), strict=True):
            action = "boost" if factor < 1 else "bury"
            self._counts[action] = self._counts.get(action, 0) + 1
            if rank < k or rank in first:
                self._note([one.moved.find_rules(int(rows[rank])) for one in moving])
        reordered: Int64Array = places[order]
        return reordered

    def _limit_kinds(self, places: Int64Array, limits: KindLimits) -> Int64Array:
        kinds = self._kinds
        if kinds is None or limits.are_lifted:
            return places
        rows, own = self.rows[places].tolist(), [kinds.get(self._row)]
        exempt = set(self.rows[list(self._find_places(EXEMPT))].tolist())
        first = kinds.find_first(rows, own, limits, exempt)
        if first and first[-1] >= len(first):
            places = places[append_others(first, min(len(rows), self._k))]
        if exempt:
            shown = exempt.intersection(self.rows[places[:N_VISIBLE]].tolist())
            self._counts["exempt"] = len(shown)
            usual = kinds.find_first(rows, own, limits)
            self._let_in = shown - {rows[rank] for rank in usual}
        return places

    def _list_items(self, places: Int64Array) -> list[AnswerItem]:
        is_real, shown = self._items.mark_real(self._row, self.rows), places.tolist()
        sources = name_sources(bytes([is_real[place] for place in shown]))
        rows, scores = self.rows[places].tolist(), self._scores[places].tolist()
        items = [AnswerItem(*one) for one in zip(rows, scores, sources, strict=True)]
        return self._attribute(items, shown)

    def _attribute(self, items: list[AnswerItem], places: Sequence[int]) -> list[AnswerItem]:
        moved = self._find_places(MOVED)
        for i, (item, place) in enumerate(zip(items, places, strict=True)):
            rules: list[str] = []
            if place in moved:
                rules += [id_ for one in self._effects for id_ in one.moved.find_rules(item.row)]
            if item.row in self._let_in:
                rules += [id_ for one in self._effects for id_ in one.exempt.find_rules(item.row)]
            if rules:
                items[i] = item._replace(moved_by=tuple(rules))
        return items

    def _pin(self, items: list[AnswerItem]) -> list[AnswerItem]:
        items, self._counts["pin"] = place_pins(self._effects, items, self._may_pin)
        return items[: self._k]

    def _may_pin(self, row: int) -> bool:
        variants, stock = self._variants, self._catalogue.stock
        if row == self._row or (stock is not None and not stock[row]):
            return False
        if variants is not None and row in variants.concat([self._row]):
            return False
        blocking = [one.blocked.find_rules(row) for one in self._effects]
        if any(blocking):
            self._counts["block"] = self._counts.get("block", 0) + 1
            self._note(blocking)
        return not any(blocking)

    def _note(self, rules: Sequence[Sequence[str]]) -> None:
        self._acting.update(*rules)
