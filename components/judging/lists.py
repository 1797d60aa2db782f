"""The lists that a model shows on product pages, and what identifies a list."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from components.model.recommender import Recommender


def hash_list(product_ids: Sequence[str]) -> str:
    """Equal lists of two models are one list, which is graded once."""
    content = json.dumps(list(product_ids), ensure_ascii=False).encode("utf-8", "replace")
    return hashlib.sha256(content).hexdigest()[:16]


def rank_pages(
    recommender: Recommender, pages: Sequence[str], k: int
) -> dict[str, tuple[str, ...]]:
    """By page, a product id, at most `k` product ids.

    The model's own lists, as the offline gate ranks: neither rules nor stock move them, so that a
    list that was graded once is still the same next month.
    """
    card = recommender.bundle.records.card
    rows = {page: recommender.bundle.records.row(page) for page in pages}
    known = {p: row for p, row in rows.items() if row is not None and row < recommender.n_items}
    found, _ = recommender.rank([np.array([row], np.int32) for row in known.values()], k)
    shown = dict(zip(known, found, strict=True))
    for page in rows.keys() - known.keys():
        shown[page] = recommender.recommend([page], k).rows
    return {
        page: tuple(str(card(int(row))["product_id"]) for row in shown[page] if row >= 0)
        for page in rows
    }
