"""Writes what judges say to the registry, from where the next run reads it."""

import numpy as np

from bento.workbench.judging.results import CaseFiles, compare, count_pages
from components.judging.graded import GradedList, GradedPage, Judgements
from components.judging.read import Result
from components.registry.judging import record_judgements
from components.registry.registry import list_versions


def record_case(files: CaseFiles) -> list[str]:
    """The versions that were recorded: all registered ones with a completely graded page.

    Raises RegistryError.
    """
    registered = {one.version for one in list_versions()}
    recorded = []
    for version in files.systems:
        if version not in registered or (result := compare(files, [version])) is None:
            continue
        (system,) = result.systems
        judged = make_judgements(files, version, result)
        record_judgements(version, judged, system.mean, count_pages(files, version))
        recorded.append(version)
    return recorded


def make_judgements(files: CaseFiles, version: str, result: Result) -> Judgements:
    """Of the version, with the graded lists of all."""
    shown = files.lists.shown[version]
    times = [one.judged_at for one in files.judgements]
    return Judgements(
        case_id=files.case.case_id,
        case=files.case.name,
        k=files.case.k,
        judged_at=max(times).isoformat(timespec="seconds"),
        n_judges=len(result.judges),
        alpha=result.alpha,
        pages=tuple(
            GradedPage(product_id=page, shown=shown.get(page), lists=lists)
            for page, lists in _average_grades(files).items()
        ),
    )


def _average_grades(files: CaseFiles) -> dict[str, tuple[GradedList, ...]]:
    """By page, in the order of the case."""
    grades: dict[str, dict[str, list[int]]] = {page: {} for page in files.case.pages}
    for one in files.judgements:
        if one.grade is not None and one.page in grades:
            grades[one.page].setdefault(one.content, []).append(one.grade)
    return {
        page: tuple(
            GradedList(content=content, grade=float(np.mean(given)), n_judges=len(given))
            for content, given in by_content.items()
        )
        for page, by_content in grades.items()
        if by_content
    }
