"""The model in production, evaluated on the queries of the new one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.bundle import Bundle, read_bundle
from components.model.recommender import Recommender


class Champion:
    """Translates rows of the new catalogue to those of an older bundle, and back.

    Unknown queries get the fallback; products that left the catalogue are misses (-1).
    """

    def __init__(self, bundle: Bundle, product_ids: Sequence[str]) -> None:
        self._recommender = Recommender(bundle)
        self._product_ids = product_ids
        old_ids = bundle.product_ids
        new_rows = {id_: row for row, id_ in enumerate(product_ids)}
        old_rows = {id_: row for row, id_ in enumerate(old_ids[: bundle.manifest.n_items])}
        self._new_rows = np.array([new_rows.get(id_, -1) for id_ in old_ids], np.int64)
        self._old_rows = np.array([old_rows.get(id_, -1) for id_ in product_ids], np.int32)

    def rank(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        """As `Recommender.rank`, but -1 may be anywhere in a row."""
        rows = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        old_queries = [self._old_rows[query] for query in queries]
        known = [i for i, query in enumerate(old_queries) if (query >= 0).any()]
        found, scores[known] = self._recommender.rank(
            [old_queries[i][old_queries[i] >= 0] for i in known], k
        )
        rows[known] = np.where(found >= 0, self._new_rows[found], -1)
        for i in sorted(set(range(len(queries))) - set(known)):
            ids = [self._product_ids[row] for row in queries[i]]
            answer = self._recommender.recommend(ids, k)
            rows[i, : len(answer.rows)] = self._new_rows[answer.rows]
            scores[i, : len(answer.rows)] = answer.scores
        return rows, scores


def read_champion(folder: str | Path | None, product_ids: Sequence[str]) -> Champion | None:
    """None without a directory `folder`/bundle; raises BundleError if the bundle is damaged."""
    if folder is None or not (Path(folder) / "bundle").is_dir():
        return None
    return Champion(read_bundle(Path(folder) / "bundle"), product_ids)
