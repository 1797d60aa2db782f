"""Keeps what people prefer in a blind comparison among the judgements, in a case of its own."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from bento.store.judgements import (
    Case,
    CaseTaken,
    CaseUnknown,
    Preference,
    add_case,
    add_page,
    get_case,
    save_lists,
    save_preference,
)
from bento.store.store import Store
from components.judging.lists import hash_list

CASE = "Blind comparisons"
GUIDELINES = "Pages that were compared blind, two versions at a time, in the view Compare."


def save_choice(
    store: Store, page: str, lists: Mapping[str, Sequence[str]], better: str | None, judge: str
) -> bool:
    """`lists` are two versions' product ids, `better` is one of the versions, None for equal ones.

    False where both lists are the same: nothing can be preferred then.
    """
    contents = {version: hash_list(tuple(ids)) for version, ids in lists.items()}
    first, second = sorted(contents.values())
    if first == second:
        return False
    case = _open_case(store, page, max(map(len, lists.values())), judge)
    for version, ids in lists.items():
        save_lists(store, case.case_id, version, {page: (contents[version], ids)})
    preferred = "" if better is None else contents[better]
    now = datetime.now(UTC)
    preference = Preference(page, first, second, judge, preferred, now)
    save_preference(store, case.case_id, preference)
    return True


def _open_case(store: Store, page: str, k: int, judge: str) -> Case:
    try:
        case = get_case(store, CASE)
    except CaseUnknown:
        try:
            return add_case(store, CASE, GUIDELINES, k, [page], judge)
        except CaseTaken:
            case = get_case(store, CASE)
    add_page(store, case.case_id, page)
    return case
