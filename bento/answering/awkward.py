"""Awkward pairs: recommendations that a person should look at before a shopper does."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np

from bento.answering.answer import AnswerItem
from bento.answering.awkward_settings import AwkwardSettings
from bento.answering.catalogue import Catalogue
from bento.answering.query import Query
from bento.answering.sources import BY_MODEL
from components.model.arrays import BoolArray, Int64Array
from components.model.awkward_pairs import count_together, is_thin
from components.model.sensitive_goods import classify, find_clashes


def mark_items(query: Query, items: Sequence[AnswerItem]) -> list[AnswerItem]:
    rows = np.array([item.row for item in items], np.int64)
    together = count_together(query.recommender.bundle, query.known)
    applying = {
        "thin_evidence": [
            item.source in BY_MODEL and is_thin(place, together.get(item.row, 0))
            for place, item in enumerate(items)
        ],
        "sensitive": (find_sensitive(query, rows) & query.awkward.marks_sensitive).tolist(),
        "out_of_season": _find_quiet(query, rows).tolist(),
    }
    return [
        item._replace(marks=[mark for mark, applies in applying.items() if applies[place]])
        for place, item in enumerate(items)
    ]


def find_sensitive(query: Query, rows: Int64Array) -> BoolArray:
    """Sensitive goods of another class than all products asked for."""
    return find_clashes(_classify_query(query), query.catalogue.sensitive[rows])


def blocks_any(
    settings: AwkwardSettings, catalogue: Catalogue, asked: int, rows: Sequence[int]
) -> bool:
    """Whether one of the rows is left out of the page of `asked`."""
    if not settings.blocks_sensitive:
        return False
    return bool(find_clashes([catalogue.sensitive[asked]], catalogue.sensitive[rows]).any())


def _classify_query(query: Query) -> Iterator[int]:
    yield from query.catalogue.sensitive[query.rows].tolist()
    if (given := query.attributes) is not None:
        yield classify(given.name, given.category)


def _find_quiet(query: Query, rows: Int64Array) -> BoolArray:
    if (seasons := query.recommender.bundle.seasons) is None:
        return np.zeros(len(rows), bool)
    day = query.awkward.as_of or datetime.now(UTC).date()
    # Beside a product that is out of season, others are in their place.
    if seasons.find_quiet(np.array(query.known, np.int64), day).any():
        return np.zeros(len(rows), bool)
    return seasons.find_quiet(rows, day)
