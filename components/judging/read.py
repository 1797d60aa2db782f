"""Statistics of judges' grades, by system."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import Field, ValidationError

from components.evaluation.metrics import intervals
from components.judging.sheet import GRADES, Key, Record
from components.model.arrays import BoolArray, Float64Array, Int64Array

WORST_GRADE, BEST_GRADE = min(GRADES), max(GRADES)

AnyRecord = TypeVar("AnyRecord", bound=Record)
ListOf = tuple[str, str]
"""A product id and a label."""


class Grade(Record):
    product_id: str
    label: str
    grade: int | None = Field(ge=WORST_GRADE, le=BEST_GRADE, strict=True)
    """None counts as missing."""


class Grades(Record):
    """Of one judge."""

    sheet_id: str
    seed: int
    judge: str = ""
    grades: tuple[Grade, ...]

    @property
    def by_list(self) -> dict[ListOf, int]:
        given = ((one, one.grade) for one in self.grades)
        return {(one.product_id, one.label): grade for one, grade in given if grade is not None}


class Interval(Record):
    mean: float
    low: float
    high: float


class SystemResult(Record):
    system: str
    mean: Interval
    """Grade."""
    best: Interval
    """Share of pages; systems that tie share a page."""
    worst: Interval
    difference: Interval | None
    """Of the mean grade from the first system's, paired; None for that one."""


class JudgeResult(Record):
    judge: str
    mean: float | None
    """Grade of a list; None without any."""
    n_graded: int
    n_missing: int
    """Lists without grade: their pages do not count."""


class Result(Record):
    """`n_pages` are products with all grades of a judge."""

    sheet_id: str
    n_pages: int
    systems: tuple[SystemResult, ...]
    judges: tuple[JudgeResult, ...]
    alpha: float | None
    """Krippendorff's, of ordinal grades; None without two different grades and two judges."""
    n_compared: int
    """Lists that several judges graded."""


def read_key(path: Path) -> Key:
    """Raises ValueError."""
    return _read(Key, "the key.json of a sheet", path)


def read_grades(path: Path) -> Grades:
    """A judge without name gets the name of the file. Raises ValueError."""
    grades = _read(Grades, "grades as the page saves them", path)
    return grades if grades.judge else grades.model_copy(update={"judge": path.stem})


def _read(record: type[AnyRecord], expected: str, path: Path) -> AnyRecord:
    if not path.is_file():
        raise ValueError(f"judge: {path} is no file, expected {expected}")
    try:
        return record.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        reason = f"{place}: {first['msg']}, found {str(first['input'])[:60]}"
        raise ValueError(f"judge: {path} holds no {expected} ({reason})") from None
    except ValueError as error:
        raise ValueError(f"judge: {path} is damaged ({error}); save it again") from None


def compare_systems(key: Key, grades: Sequence[Grades], seed: int = 0) -> Result:
    """With 95 % bootstrap intervals over products. Raises ValueError for grades of others."""
    _check_judges(grades)
    for one in grades:
        _check_grades(one, key)
    pages, products = _collect_pages(key, grades)
    if not len(pages):
        raise ValueError(
            f"judge: no product of sheet {key.sheet_id} has a grade for each of its lists; grade "
            "at least one product completely"
        )
    units = _collect_units(grades)
    return Result(
        sheet_id=key.sheet_id,
        n_pages=len(pages),
        systems=_measure_systems(key.systems, pages, products, seed),
        judges=tuple(_measure_judge(one, key) for one in grades),
        alpha=compute_alpha(units),
        n_compared=len(units),
    )


def _check_judges(grades: Sequence[Grades]) -> None:
    judges = [one.judge for one in grades]
    if repeated := sorted({judge for judge in judges if judges.count(judge) > 1}):
        raise ValueError(
            f"judge: several files are by {', '.join(repeated)}, expected one a judge; leave the "
            "older one out, or change `judge` in one of them"
        )


def _check_grades(grades: Grades, key: Key) -> None:
    who = f"judge: the grades of {grades.judge}"
    if (grades.sheet_id, grades.seed) != (key.sheet_id, key.seed):
        raise ValueError(
            f"{who} are of sheet {grades.sheet_id} (seed {grades.seed}), the key is of "
            f"{key.sheet_id} (seed {key.seed}); take the key that was written with their sheet"
        )
    seen: set[ListOf] = set()
    for one in grades.grades:
        labels = set(key.labels.get(one.product_id, {}).values())
        if one.label not in labels:
            expected = ", ".join(sorted(labels)) or "a product of the sheet"
            raise ValueError(
                f"{who} name list {one.label!r} of product {one.product_id!r}, expected {expected}"
            )
        if (one.product_id, one.label) in seen:
            raise ValueError(
                f"{who} hold list {one.label} of product {one.product_id!r} twice, expected one "
                "grade a list; remove one"
            )
        seen.add((one.product_id, one.label))


def _collect_pages(key: Key, grades: Sequence[Grades]) -> tuple[Float64Array, Int64Array]:
    """Grades (n_pages, n_systems) of whole pages, and the product (n_pages,) of each."""
    pages, products = [], []
    for one in grades:
        given = one.by_list
        for number, (product_id, labels) in enumerate(key.labels.items()):
            page = [given.get((product_id, labels[system])) for system in key.systems]
            if None not in page:
                pages.append(page)
                products.append(number)
    return np.array(pages, np.float64), np.array(products, np.int64)


def _measure_systems(
    systems: Sequence[str], pages: Float64Array, products: Int64Array, seed: int
) -> tuple[SystemResult, ...]:
    by_measure = {
        "mean": pages,
        "best": _share_ties(pages == pages.max(axis=1, keepdims=True)),
        "worst": _share_ties(pages == pages.min(axis=1, keepdims=True)),
        "difference": pages - pages[:, :1],
    }
    values = {
        (measure, column): matrix[:, column]
        for measure, matrix in by_measure.items()
        for column in range(len(systems))
    }
    found = {
        name: Interval.model_validate(one)
        for name, one in intervals(values, products, seed).items()
    }
    return tuple(
        SystemResult(
            system=system,
            mean=found["mean", column],
            best=found["best", column],
            worst=found["worst", column],
            difference=found["difference", column] if column else None,
        )
        for column, system in enumerate(systems)
    )


def _share_ties(chosen: BoolArray) -> Float64Array:
    shares: Float64Array = chosen / chosen.sum(axis=1, keepdims=True)
    return shares


def _measure_judge(grades: Grades, key: Key) -> JudgeResult:
    given = grades.by_list
    n_lists = sum(len(set(labels.values())) for labels in key.labels.values())
    return JudgeResult(
        judge=grades.judge,
        mean=sum(given.values()) / len(given) if given else None,
        n_graded=len(given),
        n_missing=n_lists - len(given),
    )


def _collect_units(grades: Sequence[Grades]) -> list[list[int]]:
    """Grades of every list that several judges graded."""
    units: dict[ListOf, list[int]] = {}
    for one in grades:
        for place, grade in one.by_list.items():
            units.setdefault(place, []).append(grade)
    return [unit for unit in units.values() if len(unit) > 1]


def compute_alpha(units: Sequence[Sequence[int]]) -> float | None:
    """Krippendorff's alpha of ordinal grades (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability"); None if all grades are alike. Each unit has two grades or more.
    """
    values = sorted({grade for unit in units for grade in unit})
    together = np.zeros((len(values), len(values)))
    for unit in units:
        counts = np.bincount(np.searchsorted(values, unit), minlength=len(values))
        together += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    totals = together.sum(axis=1)
    centres = np.cumsum(totals) - totals / 2
    distances = np.square(centres[:, None] - centres)
    expected = (np.outer(totals, totals) * distances).sum() / max(totals.sum() - 1, 1)
    return float(1 - (together * distances).sum() / expected) if expected else None
