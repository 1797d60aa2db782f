"""Another popularity discount on an open model.

A page's score is the gain that is expected of a product less its gain by chance, discounted (see
`components.model.reranking`). So score + (trained - chosen) * chance is the score under another
discount, of the candidates that the bundle keeps; products beyond them cannot come in. Carts are
ranked when they are asked for: theirs is exact.
"""

from dataclasses import replace

import numpy as np

from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.bundle import Bundle
from components.model.cart_ranking import N_CANDIDATES
from components.model.evidence import REAL, find_grades, has_grades, put_likely_first
from components.model.item_ranking import ItemRanker
from components.model.recommender import Recommender
from components.model.reranking import compute_gain, standardize
from components.model.top_k import RankedRows, sort_rows


def can_discount(bundle: Bundle) -> bool:
    """Not bundles of before, which have not counted what chance earns."""
    return bundle.chance is not None and bundle.precomputed is not None


def apply_discount(recommender: Recommender, discount: float) -> Recommender:
    """The same where it is the model's own."""
    bundle = recommender.bundle
    if discount == bundle.manifest.popularity_discount or not can_discount(bundle):
        return recommender
    manifest = bundle.manifest.model_copy(update={"popularity_discount": discount})
    tuned = Recommender(replace(bundle, manifest=manifest))
    tuned.items = DiscountedItems(bundle, discount)
    return tuned


class DiscountedItems(ItemRanker):
    """Item pages whose stored candidates are put into the order of another discount."""

    def __init__(self, bundle: Bundle, discount: float) -> None:
        super().__init__(bundle)
        self._discount = np.float32(discount)
        self._trained = np.float32(bundle.manifest.popularity_discount)
        # Without a re-ranker and a discount, bundles store the blend's scores.
        forest = bundle.manifest.ranking.get("pages", {}).get("forest", {})
        self._has_gains = bool(self._trained) or bool(forest.get("pays"))

    def rank(self, products: Int32Array, k: int) -> RankedRows:
        table = self.bundle.precomputed
        assert table is not None
        rows, scores = self._reorder(
            products, table.rows[products].astype(np.int64), table.scores[products]
        )
        rows, scores = put_likely_first(self.bundle, list(products[:, None]), (rows, scores))
        missing = max(k - rows.shape[1], 0)
        padding = ((0, 0), (0, missing))
        return (
            np.pad(rows, padding, constant_values=-1)[:, :k],
            np.pad(scores, padding, constant_values=-np.inf)[:, :k],
        )

    def rank_one(self, row: int, k: int) -> RankedRows:
        rows, scores = self.rank(np.array([row], np.int32), k)
        n = int((rows[0] >= 0).sum())
        return rows[0, :n], scores[0, :n]

    def mark_real(self, row: int, rows: Int64Array) -> bytes:
        if not has_grades(self.bundle):
            return b"\1" * len(rows)
        marks: bytes = (find_grades(self.bundle, np.array([row], np.int32), rows) == REAL).tobytes()
        return marks

    def _reorder(self, products: Int32Array, rows: Int64Array, scores: Float32Array) -> RankedRows:
        chance = self.bundle.chance
        assert chance is not None
        gains, trained = scores, self._trained
        if not self._has_gains:
            gains, trained = self._estimate_gains(scores), np.float32(0)
        by_chance = chance.compute_gain(products, np.maximum(rows, 0))
        changed = gains + (trained - self._discount) * by_chance
        return sort_rows(rows, np.where(rows >= 0, changed, -np.inf).astype(np.float32))

    def _estimate_gains(self, scores: Float32Array) -> Float32Array:
        """As `discount_blend`; those behind the candidates stay behind."""
        first = scores[:, :N_CANDIDATES]
        standard = standardize(first, np.isfinite(first))
        gains = compute_gain(standard, self.bundle.manifest.page_calibration)
        behind = scores[:, N_CANDIDATES:]
        return np.concatenate([gains, np.full(behind.shape, -1, np.float32)], axis=1)
