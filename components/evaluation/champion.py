"""The model in production, asked in the words of the new one: by product id."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.bundle import Bundle, read_bundle
from components.model.recommender import Recommender


class Champion:
    """Ranks with an older bundle over its own catalogue; rows in and out are the new catalogue's.

    What it cannot know counts as in production: a query of products it does not know gets its
    fallback, and a product that left the catalogue is a wasted place (-1).
    """

    def __init__(self, bundle: Bundle, product_ids: Sequence[str]) -> None:
        self._recommender = Recommender(bundle)
        self._product_ids = product_ids
        row_of = {id_: row for row, id_ in enumerate(product_ids)}
        theirs = bundle.product_ids
        self._row_here = np.array([row_of.get(id_, -1) for id_ in theirs], np.int64)
        their_row_of = {id_: row for row, id_ in enumerate(theirs[: bundle.manifest.n_items])}
        self._row_there = np.array([their_row_of.get(id_, -1) for id_ in product_ids], np.int32)

    def rank(self, queries: Sequence[Int32Array], k: int) -> tuple[Int64Array, Float32Array]:
        """As `Recommender.rank`, but -1 may stand between other rows."""
        rows = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        there = [self._row_there[query] for query in queries]
        known = [i for i, query in enumerate(there) if (query >= 0).any()]
        found, scores[known] = self._recommender.rank([there[i][there[i] >= 0] for i in known], k)
        rows[known] = np.where(found >= 0, self._row_here[found], -1)
        for i in sorted(set(range(len(queries))) - set(known)):
            ids = [self._product_ids[row] for row in queries[i]]
            answer = self._recommender.recommend(ids, k)
            rows[i, : len(answer.rows)] = self._row_here[answer.rows]
            scores[i, : len(answer.rows)] = answer.scores
        return rows, scores


def read_champion(folder: str | Path | None, product_ids: Sequence[str]) -> Champion | None:
    """The champion whose bundle lies in `folder`/bundle; None where there is no such directory.

    Raises BundleError when the bundle is there but damaged: a gate that skips its champion because
    of a torn file would let anything through.
    """
    if folder is None or not (Path(folder) / "bundle").is_dir():
        return None
    return Champion(read_bundle(Path(folder) / "bundle"), product_ids)
