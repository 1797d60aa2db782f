"""The products that may be shown in an answer: filters, exclusions, blocking rules, prices."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from bento.answering.answer import Ranking
from bento.answering.awkward import find_sensitive
from bento.answering.catalogue import ProductFilter
from bento.answering.query import Query
from bento.answering.resolved_effects import is_among
from bento.schemas.requests import Filters
from components.model.arrays import BoolArray, Int64Array
from components.model.product_records import hash_facet

NO_FILTER = ProductFilter()


class Eligibility:
    def __init__(self, query: Query) -> None:
        self._query, self._catalogue = query, query.catalogue
        self._filter = to_product_filter(query.request.filters)
        if query.hides_out_of_stock():
            self._filter = replace(self._filter, in_stock=True)
        self._max_price = query.max_price()

    @cached_property
    def excluded_rows(self) -> list[int]:
        rows = (self._catalogue.row(id_) for id_ in self._query.request.exclude)
        return [row for row in rows if row is not None]

    @cached_property
    def hidden_rows(self) -> list[int]:
        """The products asked for, their variants, and those excluded."""
        variants = self._query.recommender.bundle.variants
        own = [] if variants is None else variants.concat(self._query.known).tolist()
        return [*self._query.rows, *own, *self.excluded_rows]

    def filter(self, ranking: Ranking, hidden: Sequence[int]) -> Ranking:
        """Without products that are hidden, deleted, blocked or filtered out."""
        if self._filter is not NO_FILTER or self._catalogue.deleted is not None:
            ranking = ranking.select(self._catalogue.match_filter(ranking.rows, self._filter))
        if hidden or self._query.effects or self._query.awkward.blocks_sensitive:
            ranking = ranking.select(self._is_allowed(ranking.rows, hidden, is_ranked=True))
        return ranking

    def apply_price_limit(self, ranking: Ranking) -> Ranking:
        """Without products above the limit, or by default with them at the end."""
        dear = self._is_too_dear(ranking.rows)
        if not dear.any():
            return ranking
        if self._query.has_price_limit():
            return ranking.select(~dear)
        moved = ranking.select(np.argsort(dear, kind="stable"))
        return moved._replace(scores=np.minimum.accumulate(moved.scores))

    def iterate_rows(self, hidden: Sequence[int]) -> Iterator[Int64Array]:
        """Blocks of all products that the model knows and that may be shown, most bought first."""
        n_items = self._query.recommender.n_items
        for block in self._catalogue.iterate_matching(self._filter):
            rows = block[block < n_items]
            rows = rows[self._is_allowed(rows, hidden)]
            if self._query.has_price_limit():
                rows = rows[~self._is_too_dear(rows)]
            yield rows
            if len(block) and block[-1] >= n_items:
                return

    def allows_pin(self, row: int) -> bool:
        pin = Ranking(np.array([row]), np.zeros(1, np.float32), "pin")
        return len(self.filter(pin, self.hidden_rows).rows) > 0

    def _is_allowed(
        self, rows: Int64Array, hidden: Sequence[int], is_ranked: bool = False
    ) -> BoolArray:
        allowed = ~is_among(rows, hidden)
        if self._query.awkward.blocks_sensitive:
            allowed &= ~find_sensitive(self._query, rows)
        every = [one.blocked for one in self._query.effects if not one.blocked.is_empty]
        before = allowed
        for targets in every:
            blocked = targets.mark(rows)
            self._query.rule_counts["block"] += int((blocked & allowed).sum())
            allowed = allowed & ~blocked
        if every and is_ranked:
            first = rows[before][: self._query.request.k]
            for row in first[~allowed[before][: len(first)]].tolist():
                self._query.acting_rules.update(*(one.find_rules(row) for one in every))
        return allowed

    def _is_too_dear(self, rows: Int64Array) -> BoolArray:
        dear: BoolArray = self._catalogue.price[rows] > self._max_price
        return dear


def to_product_filter(filters: Filters | None) -> ProductFilter:
    if filters is None:
        return NO_FILTER
    texts = {f"attributes.{name}": one for name, one in filters.attributes.items()}
    own = {"category": filters.category, "brand": filters.brand}
    texts |= {name: one for name, one in own.items() if one is not None}
    price = filters.price
    return ProductFilter(
        any_of=tuple(
            tuple(hash_facet(name, value) for value in text.include)
            for name, text in texts.items()
            if text.include
        ),
        none_of=tuple(hash_facet(name, v) for name, text in texts.items() for v in text.exclude),
        lowest=-math.inf if price is None or price.min is None else price.min,
        highest=math.inf if price is None or price.max is None else price.max,
        in_stock=filters.in_stock,
    )
