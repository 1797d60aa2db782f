"""What a judge sends: a grade, a reason, a preference."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import cast

from bento.store.judgements import (
    REASONS,
    Judgement,
    Preference,
    State,
    remove_judgement,
    remove_preference,
    save_judgements,
    save_preference,
)
from bento.store.store import Store
from bento.workbench.errors import BadInput
from components.judging.read import BEST_GRADE, WORST_GRADE

NONE = "none"
"""Takes a grade or preference back."""
GRADES = tuple(str(grade) for grade in range(BEST_GRADE, WORST_GRADE - 1, -1))
STATES = ("unrateable", "later")
MAX_LENGTH = 256


def parse_judgement(form: Mapping[str, str], case_id: str, judge: str) -> Callable[[Store], None]:
    """What to do in the database. Raises BadInput."""
    page, content, grade = (_get(form, name) for name in ("page", "content", "grade"))
    reason = _get(form, "reason")
    if grade == NONE:
        return lambda store: remove_judgement(store, case_id, page, content, judge)
    if grade not in (*GRADES, *STATES):
        expected = ", ".join((*GRADES, *STATES, NONE))
        raise BadInput(f"grade: found {grade[:30]!r}, expected one of {expected}")
    if reason not in ("", *REASONS):
        raise BadInput(f"reason: found {reason[:30]!r}, expected one of {', '.join(REASONS)}")
    state = cast(State, grade if grade in STATES else "graded")
    number = None if grade in STATES else int(grade)
    now = datetime.now(UTC)
    judgement = Judgement(page, content, judge, state, number, reason or None, now)
    return lambda store: save_judgements(store, case_id, [judgement])


def parse_preference(form: Mapping[str, str], case_id: str, judge: str) -> Callable[[Store], None]:
    """What to do in the database. Raises BadInput."""
    page, preferred = _get(form, "page"), _get(form, "preferred")
    first, second = sorted((_get(form, "first"), _get(form, "second")))
    if preferred == NONE:
        return lambda store: remove_preference(store, case_id, page, first, second, judge)
    if preferred not in ("", first, second) or first == second:
        raise BadInput(
            f"preferred: found {preferred[:30]!r}, expected one of two lists, or nothing for equal"
        )
    found = Preference(page, first, second, judge, preferred, datetime.now(UTC))
    return lambda store: save_preference(store, case_id, found)


def _get(form: Mapping[str, str], name: str) -> str:
    value = form.get(name, "")
    if len(value) > MAX_LENGTH or "\0" in value:
        raise BadInput(f"{name}: found {len(value)} characters, expected at most {MAX_LENGTH}")
    return value
