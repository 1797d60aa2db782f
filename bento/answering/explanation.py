"""The evidence for a recommended product: orders with it and a product asked for."""

from collections.abc import Sequence
from functools import cached_property
from math import isfinite
from typing import Literal, NamedTuple

import numpy as np

from bento.answering.answer import AnswerItem, Explanation, Ranking
from bento.answering.query import Query
from bento.answering.sources import BY_MODEL
from components.model.arrays import BoolArray, Int64Array, concat_arrays
from components.model.evidence import MIN_BASKETS, REAL, UNPROVEN, find_grades, has_grades
from components.model.score_parts import Parts, compute_cart_parts, compute_page_parts

Kind = Literal["page", "cart", "substitutes"]


class PairEvidence(NamedTuple):
    """Compared in this order."""

    grade: int
    confidence: float
    n_both: int
    expected: float | None
    asked: int


class Explainer:
    def __init__(self, query: Query, kind: Kind, ranking: Ranking | None = None) -> None:
        """`ranking` is that of the model, before anything was left out; substitutes need none."""
        self._query, self.kind, self._ranking = query, kind, ranking
        self._bundle = query.recommender.bundle

    def explain(self, item: AnswerItem) -> AnswerItem:
        why = self._find_explanation(item.row)
        if item.source not in BY_MODEL or self.kind == "substitutes":
            return item._replace(why=why)
        # Regressions propose candidates for carts only.
        is_regressed = self.kind == "cart" and item.row in self._neighbours
        part = "counts" if why else "neighbours" if is_regressed else "embeddings"
        return item._replace(why=why, proposed_by=part)

    def add_score_parts(self, items: Sequence[AnswerItem]) -> list[AnswerItem]:
        """See `components.model.score_parts`."""
        query, known = self._query, self._query.known
        n_items = query.recommender.n_items
        places = [i for i, one in enumerate(items) if one.source in BY_MODEL and one.row < n_items]
        rows, items = np.array([items[i].row for i in places], np.int64), list(items)
        if not known or not places:
            return items
        parts = self._compute_parts(rows)
        for i, place in enumerate(places):
            own = {name: float(values[i]) for name, values in parts.items()}
            known_parts = {name: value for name, value in own.items() if isfinite(value)}
            items[place] = items[place]._replace(score_parts=known_parts)
        return items

    def _compute_parts(self, rows: Int64Array) -> Parts:
        query = self._query
        if self.kind == "page":
            return compute_page_parts(query.recommender, query.known[-1], rows)
        if self.kind == "cart":
            assert self._ranking is not None
            ranked = self._ranking.rows, self._ranking.scores
            return compute_cart_parts(query.recommender, np.array(query.known), rows, ranked)
        described = query.catalogue.find_attributes(query.found[0], query.attributes)
        return query.recommender.substitutes.compute_parts(query.known[0], described, rows)

    def mark_real(self, rows: Int64Array, is_strict: bool = False) -> BoolArray:
        """Which rows are bought together with one of the products asked for more than by chance.

        In bundles without grades all are, or if `is_strict` those of a lift above 1.
        """
        if has_grades(self._bundle):
            known = np.array(self._query.known, np.int32)
            real: BoolArray = find_grades(self._bundle, known, rows) == REAL
            return real
        if not is_strict:
            return np.ones(len(rows), bool)
        whys = [self._find_explanation(row) for row in rows.tolist()]
        return np.array(
            [
                why is not None and why.bought_together >= MIN_BASKETS and why.lift > 1
                for why in whys
            ],
            bool,
        )

    @cached_property
    def _neighbours(self) -> set[int]:
        """Rows with a positive regression weight for a product asked for."""
        neighbours = self._bundle.neighbours
        lists = [neighbours.entries(row) for row in self._query.known]
        rows = [neighbours.rows[one][neighbours.weights[one] > 0] for one in lists]
        return set(concat_arrays(rows, np.int64).tolist())

    def _find_explanation(self, row: int) -> Explanation | None:
        if (pair := self._strongest_pairs.get(row)) is None:
            return None
        _, confidence, n_both, expected, asked = pair
        n_orders = self._bundle.manifest.n_orders
        lift = confidence / max(int(self._bundle.n_orders[row]) / n_orders, 1e-12)
        product_id = self._query.product_ids[self._query.found.index(asked)]
        ratio = None if expected is None else n_both / max(expected, 1e-12)
        return Explanation(product_id, n_both, n_both / n_orders, confidence, lift, expected, ratio)

    @cached_property
    def _strongest_pairs(self) -> dict[int, PairEvidence]:
        """By companion, of the best grade and then of the highest confidence."""
        strongest: dict[int, PairEvidence] = {}
        for asked in self._query.known:
            for row, pair in self._list_pairs(asked):
                if row not in strongest or strongest[row][:2] < pair[:2]:
                    strongest[row] = pair
        return strongest

    def _list_pairs(self, asked: int) -> list[tuple[int, PairEvidence]]:
        bundle = self._bundle
        entries = bundle.pairs.entries(asked)
        rows, together = bundle.pairs.rows[entries], bundle.pairs.support[entries].tolist()
        n = max(int(bundle.n_orders[asked]), 1)
        grades, expected = [UNPROVEN] * len(together), [None] * len(together)
        if (chance := bundle.chance) is not None:
            expected = chance.count_expected(np.full(len(rows), asked), rows).tolist()
            if chance.grades is not None:
                grades = chance.grades[entries].tolist()
        columns = zip(rows.tolist(), grades, together, expected, strict=True)
        return [
            (row, PairEvidence(grade, n_both / n, n_both, by_chance, asked))
            for row, grade, n_both, by_chance in columns
        ]
