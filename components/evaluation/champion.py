"""The model in production, evaluated on the queries of the new one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.bundle import Bundle, read_bundle
from components.model.kind_limits import NO_LIMITS, KindLimits
from components.model.kinds import LIMITED_DEPTH, Kinds
from components.model.recommender import Recommender

LAST_ROW = 2**31 - 1  # Above those of any catalogue


class Champion:
    """Translates rows of the new catalogue to those of an older bundle, and back.

    Unknown queries get the fallback; products that left the catalogue are misses (-1). Kinds are
    those of the new model, and limited as its are: a gain must not come from another limit.
    """

    def __init__(
        self,
        bundle: Bundle,
        product_ids: Sequence[str],
        kinds: Kinds | None = None,
        limits: KindLimits = NO_LIMITS,
    ) -> None:
        self._kinds, self._limits = kinds, limits
        self._recommender = Recommender(bundle)
        self._product_ids = product_ids
        old_ids = bundle.product_ids
        new_rows = {id_: row for row, id_ in enumerate(product_ids)}
        old_rows = {id_: row for row, id_ in enumerate(old_ids[: bundle.manifest.n_items])}
        self._new_rows = np.array([new_rows.get(id_, -1) for id_ in old_ids], np.int64)
        self._old_rows = np.array([old_rows.get(id_, -1) for id_ in product_ids], np.int32)

    @property
    def popularity_discount(self) -> float:
        return self._recommender.bundle.manifest.popularity_discount

    def rank(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        """As `Recommender.rank`, but -1 may be anywhere in a row."""
        if self._kinds is None or self._limits.are_lifted:
            return self._rank(queries, k)
        rows, scores = self._rank(queries, max(k, LIMITED_DEPTH))
        # A product that left the catalogue has a place of its own, as a kind of its own.
        misses = LAST_ROW - np.arange(rows.shape[1])
        rows = np.where((rows < 0) & (scores > -np.inf), misses, rows)
        rows, scores = self._kinds.limit((rows, scores), queries, self._limits, k)
        return np.where(rows < len(self._product_ids), rows, -1), scores

    def _rank(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        rows = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        old_queries = [self._old_rows[query] for query in queries]
        known = [i for i, query in enumerate(old_queries) if (query >= 0).any()]
        found, scores[known] = self._recommender.rank_unlimited(
            [old_queries[i][old_queries[i] >= 0] for i in known], k
        )
        rows[known] = np.where(found >= 0, self._new_rows[found], -1)
        for i in sorted(set(range(len(queries))) - set(known)):
            ids = [self._product_ids[row] for row in queries[i]]
            answer = self._recommender.recommend(ids, k)
            rows[i, : len(answer.rows)] = self._new_rows[answer.rows]
            scores[i, : len(answer.rows)] = answer.scores
        return rows, scores


def read_champion(
    folder: str | Path | None,
    product_ids: Sequence[str],
    kinds: Kinds | None = None,
    limits: KindLimits = NO_LIMITS,
) -> Champion | None:
    """None without a directory `folder`/bundle; raises BundleError if the bundle is damaged."""
    if folder is None or not (Path(folder) / "bundle").is_dir():
        return None
    return Champion(read_bundle(Path(folder) / "bundle"), product_ids, kinds, limits)
