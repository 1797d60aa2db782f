"""What judges say about versions, from the database, by the statistics of `fbt judge`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bento.store.judgements import (
    Case,
    CaseLists,
    Judgement,
    Preference,
    get_case,
    read_judgements,
    read_lists,
    read_preferences,
)
from bento.store.store import Store
from components.judging.preferences import Choice, PreferenceResult, compare_preferences
from components.judging.read import Grade, Grades, Result, compare_systems
from components.judging.sheet import Key

SEED = 0
MAX_DISPUTED = 10


@dataclass(frozen=True)
class CaseFiles:
    """All that the database has of a case."""

    case: Case
    lists: CaseLists
    judgements: tuple[Judgement, ...]
    preferences: tuple[Preference, ...]

    @property
    def systems(self) -> list[str]:
        """Versions by number, then others by name."""
        return sorted(self.lists.shown, key=_by_number)


class Dispute(NamedTuple):
    """A list on which judges disagree."""

    page: str
    content: str
    systems: tuple[str, ...]
    grades: Mapping[str, int]
    """By judge."""

    @property
    def spread(self) -> int:
        return max(self.grades.values()) - min(self.grades.values())


class CaseResult(NamedTuple):
    systems: tuple[str, ...]
    compared: Result | None
    """On pages completely graded for all systems; None without any."""
    alone: Mapping[str, Result | None]
    """Each system by itself, on all its graded pages."""
    n_pages: Mapping[str, int]
    """Pages where somebody graded the system's list."""
    preferences: Sequence[PreferenceResult]
    reasons: Mapping[str, Mapping[str, int]]
    """By system, how often each was given."""
    unrateable: Mapping[str, int]
    disputes: Sequence[Dispute]
    n_judges: int


def read_case(store: Store, case: str) -> CaseFiles:
    """By id or name. Raises CaseUnknown."""
    found = get_case(store, case)
    return CaseFiles(
        found,
        read_lists(store, found.case_id),
        tuple(read_judgements(store, found.case_id)),
        tuple(read_preferences(store, found.case_id)),
    )


def compute_results(files: CaseFiles, systems: Sequence[str]) -> CaseResult:
    judgements = _keep_shown(files, systems)
    return CaseResult(
        tuple(systems),
        compare(files, systems),
        {one: compare(files, [one]) for one in systems},
        {one: count_pages(files, one) for one in systems},
        compare_preferences(
            {one: files.lists.shown[one] for one in systems},
            [Choice(p.page, p.first, p.second, p.preferred) for p in files.preferences],
            SEED,
        ),
        {one: _count_reasons(files, one) for one in systems},
        {one: _count_unrateable(files, one) for one in systems},
        find_disputes(files, systems),
        len({one.judge for one in judgements if one.state != "later"}),
    )


def compare(files: CaseFiles, systems: Sequence[str]) -> Result | None:
    """None where no page is graded for each of the systems by one judge."""
    key = make_key(files, systems)
    grades = make_grades(files, key)
    try:
        return compare_systems(key, grades, SEED) if key.labels and grades else None
    except ValueError:
        return None


def make_key(files: CaseFiles, systems: Sequence[str]) -> Key:
    """Labels are contents of lists; pages that all systems were asked for."""
    shown = files.lists.shown
    labels = {
        page: {one: shown[one][page] for one in systems}
        for page in files.case.pages
        if all(page in shown.get(one, {}) for one in systems)
    }
    return Key(sheet_id=files.case.case_id, seed=SEED, systems=tuple(systems), labels=labels)


def make_grades(files: CaseFiles, key: Key) -> list[Grades]:
    """By judge, of the lists of the key."""
    wanted = {(page, one) for page, labels in key.labels.items() for one in labels.values()}
    by_judge: dict[str, list[Grade]] = {}
    for one in files.judgements:
        if (one.page, one.content) in wanted and one.state == "graded":
            grade = Grade(product_id=one.page, label=one.content, grade=one.grade)
            by_judge.setdefault(one.judge, []).append(grade)
    return [
        Grades(sheet_id=key.sheet_id, seed=key.seed, judge=judge, grades=tuple(grades))
        for judge, grades in sorted(by_judge.items())
    ]


def count_pages(files: CaseFiles, system: str) -> int:
    return len({one.page for one in _keep_shown(files, [system]) if one.state == "graded"})


def find_disputes(files: CaseFiles, systems: Sequence[str]) -> list[Dispute]:
    """Lists whose grades differ, most first."""
    grades: dict[tuple[str, str], dict[str, int]] = {}
    for one in _keep_shown(files, systems):
        if one.grade is not None:
            grades.setdefault((one.page, one.content), {})[one.judge] = one.grade
    disputes = [
        Dispute(page, content, _list_owners(files, systems, page, content), given)
        for (page, content), given in grades.items()
        if len(set(given.values())) > 1
    ]
    return sorted(disputes, key=lambda one: (-one.spread, one.page))[:MAX_DISPUTED]


def _keep_shown(files: CaseFiles, systems: Sequence[str]) -> list[Judgement]:
    """Judgements of the lists that these systems show."""
    shown = {item for one in systems for item in files.lists.shown[one].items()}
    return [one for one in files.judgements if (one.page, one.content) in shown]


def _list_owners(
    files: CaseFiles, systems: Sequence[str], page: str, content: str
) -> tuple[str, ...]:
    return tuple(one for one in systems if files.lists.shown[one].get(page) == content)


def _count_reasons(files: CaseFiles, system: str) -> dict[str, int]:
    """Most frequent first."""
    reasons = Counter(one.reason for one in _keep_shown(files, [system]) if one.reason)
    return {str(reason): n for reason, n in reasons.most_common()}


def _count_unrateable(files: CaseFiles, system: str) -> int:
    return sum(one.state == "unrateable" for one in _keep_shown(files, [system]))


def _by_number(system: str) -> tuple[bool, int, str]:
    is_version = system.isdecimal()
    return not is_version, int(system) if is_version else 0, system
