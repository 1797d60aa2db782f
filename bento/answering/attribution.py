"""Which rule did what to an answer."""

from collections.abc import Sequence

import numpy as np

from bento.answering.answer import Answer, AnswerItem
from bento.answering.query import Query


def attribute(query: Query, items: Sequence[AnswerItem]) -> list[AnswerItem]:
    """The items with the rules that moved each."""
    if not query.effects:
        return list(items)
    moving = [one.moved for one in query.effects if not one.moved.is_empty]
    exempting = [one.exempt for one in query.effects if not one.exempt.is_empty]
    items = list(items)
    if moving or query.let_in:
        rows = np.array([item.row for item in items], np.int64)
        touched = {row for one in moving for row in rows[one.mark(rows)].tolist()}
        for place, item in enumerate(items):
            rules = [
                id_ for one in moving * (item.row in touched) for id_ in one.find_rules(item.row)
            ]
            if item.row in query.let_in:
                rules += [id_ for one in exempting for id_ in one.find_rules(item.row)]
            if rules and not item.moved_by:
                items[place] = item._replace(moved_by=rules)
    query.acting_rules.update(*(item.moved_by for item in items))
    return items


def find_left_out(query: Query, unblocked: Answer) -> list[tuple[int, str]]:
    """Products of the answer without blocks that are blocked, and a rule each."""
    found = ((item.row, _find_blocking_rule(query, item.row)) for item in unblocked.shown)
    return [(row, rule_id) for row, rule_id in found if rule_id is not None]


def _find_blocking_rule(query: Query, row: int) -> str | None:
    rules = (id_ for one in query.effects for id_ in one.blocked.find_rules(row))
    return next(rules, None)
