"""Graded lists that travel with a model version, to find which lists of a new one are graded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluation.metrics import intervals
from components.judging.lists import hash_list, rank_pages
from components.judging.read import Interval
from components.judging.sheet import Record
from components.model.bundle import read_bundle
from components.model.recommender import Recommender

FOLDER, FILE = "judging", "judgements.json"
"""Below a version's run."""


class GradedList(Record):
    content: str
    grade: float
    """Mean of the judges'."""
    n_judges: int


class GradedPage(Record):
    product_id: str
    shown: str | None
    """Content of the version's own list."""
    lists: tuple[GradedList, ...]


class Judgements(Record):
    """Of one case; `pages` has the lists of all versions, graded ones only."""

    case_id: str
    case: str
    k: int
    judged_at: str
    """ISO 8601, of the newest judgement."""
    n_judges: int
    alpha: float | None
    pages: tuple[GradedPage, ...]


def read_graded(folder: Path) -> Judgements | None:
    """Of a version's artefacts in `folder`; None where nobody judged it."""
    path = folder / FOLDER / FILE
    return Judgements.model_validate_json(path.read_bytes()) if path.is_file() else None


def look_up_grades(bundle: Path, champion: Path) -> dict[str, Any] | None:
    """Grades of the champion's lists, and of those of a new bundle that were graded before.

    {"case", "k", "judged_at", "n_judges", "alpha", "n_pages",
     "champion", "model": {"mean", "low", "high", "n_pages"}, the interval None without pages,
     "difference": likewise, on the pages where both lists are graded}. None without judgements.
    """
    judged = read_graded(champion)
    if judged is None or not judged.pages:
        return None
    recommender = Recommender(read_bundle(bundle, products=False))
    lists = rank_pages(recommender, [one.product_id for one in judged.pages], judged.k)
    return compare_grades(judged, {page: hash_list(shown) for page, shown in lists.items()})


def compare_grades(judged: Judgements, contents: Mapping[str, str]) -> dict[str, Any]:
    """`contents` are, by page, those of the new bundle's lists; see `look_up_grades`."""
    new: list[float | None] = []
    old: list[float | None] = []
    for page in judged.pages:
        grades = {one.content: one.grade for one in page.lists}
        new.append(grades.get(contents[page.product_id]))
        old.append(grades.get(page.shown or ""))
    both = [(a, b) for a, b in zip(new, old, strict=True) if a is not None and b is not None]
    return {
        "case": judged.case,
        "k": judged.k,
        "judged_at": judged.judged_at,
        "n_judges": judged.n_judges,
        "alpha": judged.alpha,
        "n_pages": len(judged.pages),
        "model": summarise([one for one in new if one is not None]),
        "champion": summarise([one for one in old if one is not None]),
        "difference": summarise([a - b for a, b in both]),
    }


def summarise(grades: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Mean and 95 % bounds over pages; None without any."""
    if not grades:
        return {"mean": None, "low": None, "high": None, "n_pages": 0}
    found = intervals({"grade": np.array(grades, np.float64)}, np.arange(len(grades)), seed)
    return {**Interval.model_validate(found["grade"]).model_dump(), "n_pages": len(grades)}
