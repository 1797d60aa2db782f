"""The evidence for a recommended product: orders with it and a product asked for."""

from functools import cached_property
from typing import Literal

import numpy as np

from bento.answering.answer import AnswerItem, Explanation
from bento.answering.query import Query
from components.model.arrays import BoolArray, Int64Array, concat_arrays

MIN_BOUGHT_TOGETHER = 2
"""Orders with both products from which on a pair counts as evidence."""

Kind = Literal["page", "cart", "substitutes"]


class Explainer:
    def __init__(self, query: Query, kind: Kind) -> None:
        self._query, self._kind = query, kind
        self._bundle = query.recommender.bundle

    def explain(self, item: AnswerItem) -> AnswerItem:
        why = self._find_explanation(item.row)
        if item.source != "model" or self._kind == "substitutes":
            return item._replace(why=why)
        # Regressions propose candidates for carts only.
        is_regressed = self._kind == "cart" and item.row in self._neighbours
        part = "counts" if why else "neighbours" if is_regressed else "embeddings"
        return item._replace(why=why, proposed_by=part)

    def has_evidence(self, rows: Int64Array) -> BoolArray:
        """Which rows were bought together more than once and more often than by chance."""
        whys = [self._find_explanation(row) for row in rows.tolist()]
        return np.array(
            [
                why is not None and why.bought_together >= MIN_BOUGHT_TOGETHER and why.lift > 1
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
        confidence, n_both, asked = pair
        n_orders = self._bundle.manifest.n_orders
        lift = confidence / max(int(self._bundle.n_orders[row]) / n_orders, 1e-12)
        product_id = self._query.product_ids[self._query.found.index(asked)]
        return Explanation(product_id, n_both, n_both / n_orders, confidence, lift)

    @cached_property
    def _strongest_pairs(self) -> dict[int, tuple[float, int, int]]:
        """By companion: the highest confidence, the orders with both, the product asked for."""
        bundle = self._bundle
        strongest: dict[int, tuple[float, int, int]] = {}
        for asked in self._query.known:
            pairs = bundle.pairs.entries(asked)
            n = max(int(bundle.n_orders[asked]), 1)
            companions, together = bundle.pairs.rows[pairs], bundle.pairs.support[pairs]
            for row, n_both in zip(companions.tolist(), together.tolist(), strict=True):
                if row not in strongest or strongest[row][0] < n_both / n:
                    strongest[row] = (n_both / n, n_both, asked)
        return strongest
