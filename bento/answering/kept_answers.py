"""Answers that rules touched, kept for the next request for the same page."""

from datetime import datetime
from typing import Any

from bento.answering.answer import Answer, AnswerItem
from bento.answering.resolved_rules import ResolvedRules
from bento.answering.sources import MODEL

MAX_ITEMS = 100_000
"""Products of the answers of a generation: ten thousand pages, about 15 MB."""

Page = tuple[int, int]
"""Row and `k`."""

Packed = tuple[Any, ...]
"""Plain tuples of numbers and texts, of which the garbage collector loses sight: of an answer it
sees one object, not a dozen."""


class KeptAnswers:
    """Of two generations, the older is dropped when the younger is full: what is asked for often
    stays. They hold from `start` until `end`, in which no rule starts or ends."""

    def __init__(self, resolved: ResolvedRules, now: datetime) -> None:
        self._resolved = resolved
        self._start, self._end = resolved.rules.find_period(now)
        self._young: dict[Page, Packed] = {}
        self._old: dict[Page, Packed] = {}
        self._n_items = 0

    def hold(self, resolved: ResolvedRules, now: datetime) -> bool:
        return self._resolved is resolved and self._start <= now < self._end

    def find(self, page: Page) -> Answer | None:
        packed = self._young.get(page)
        if packed is None:
            if (packed := self._old.get(page)) is None:
                return None
            self._keep(page, packed)
        shown, rules, acting_rules, set_by, *applied = packed
        return Answer(
            [AnswerItem._make(item) for item in shown],
            MODEL,
            self._resolved.catalogue,
            rules=rules,
            applied=applied,
            acting_rules=acting_rules,
            set_by=set_by,
        )

    def keep(self, page: Page, answer: Answer) -> None:
        """An answer of the model's ranking, without explanations."""
        shown = tuple(tuple(item) for item in answer.shown)
        acting_rules = tuple(answer.acting_rules)
        self._keep(page, (shown, answer.rules, acting_rules, answer.set_by, *answer.applied))

    def _keep(self, page: Page, packed: Packed) -> None:
        if self._n_items >= MAX_ITEMS:
            self._old, self._young, self._n_items = self._young, {}, 0
        self._young[page] = packed
        self._n_items += len(packed[0])
