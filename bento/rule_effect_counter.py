"""Counts how often rules change answers, and adds the counts to the database.

A request only appends references; a thread counts and writes. While the database is away the counts
stay in memory, up to a bound.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, NamedTuple

from bento.answering.answer import Answer
from bento.answering.rules import RuleEffects

if TYPE_CHECKING:
    from bento.store.rule_effects import EffectCounts, EffectKey
    from bento.store.store import Store

COUNT_S = 1.0
WRITE_S = 5.0

WRITE_ALL_S = 60.0
"""Rules that changed nothing are written so often if there are more than MAX_FREQUENT: thousands of
rules for all requests would be as many rows every few seconds."""

MAX_FREQUENT = 500

PART = 200
"""Answers that are counted at once: under a millisecond, in which requests have to wait."""

REST_S = 0.001
"""After a part; Python's own switching keeps requests waiting for five times as long."""

MAX_PENDING = 50_000
"""Answers that are not counted yet."""

MAX_KEPT = 50_000
"""Groups of rules, and rules, whose counts are kept while the database is away."""

_log = logging.getLogger("bentoml.fbt")


class _Entry(NamedTuple):
    model_version: str
    applied: Collection[RuleEffects]
    acting_rules: Collection[str]


class RuleEffectCounter:
    def __init__(self, get_store: Callable[[], "Store"]) -> None:
        """`get_store` may raise StoreError: it is called again later."""
        self._get_store = get_store
        self._entries = deque[_Entry](maxlen=MAX_PENDING)
        self._applied = Counter[tuple[date, str, RuleEffects]]()
        self._moved = Counter[tuple[date, str, str]]()
        self._unwritten: dict[EffectKey, EffectCounts] = {}
        self._error = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fbt-rule-effects", daemon=True)

    def start(self) -> "RuleEffectCounter":
        self._thread.start()
        return self

    def add(self, model_version: str, answer: Answer) -> None:
        self._entries.append(_Entry(model_version, answer.applied, answer.acting_rules))

    def close(self) -> None:
        """Write what is left."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        n = 0
        while not self._stopped.wait(COUNT_S):
            n += 1
            self.count()
            if n % round(WRITE_S / COUNT_S) == 0:
                self.write(with_unmoved=n % round(WRITE_ALL_S / COUNT_S) == 0)
        self.count()
        self.write()

    def count(self) -> None:
        day = datetime.now(UTC).date()
        for n in range(len(self._entries)):
            if n % PART == PART - 1:
                time.sleep(REST_S)
            version, applied, acting_rules = self._entries.popleft()
            for effects in applied:
                if len(self._applied) < MAX_KEPT:
                    self._applied[day, version, effects] += 1
            for rule_id in acting_rules:
                if len(self._moved) < MAX_KEPT:
                    self._moved[day, version, rule_id] += 1

    def write(self, with_unmoved: bool = True) -> None:
        """Rules that moved nothing only `with_unmoved`, if there are many."""
        from bento.store.errors import StoreError
        from bento.store.rule_effects import add_rule_effects

        self._take_counts()
        rows = self._unwritten
        if not with_unmoved and len(rows) > MAX_FREQUENT:
            rows = {key: counts for key, counts in rows.items() if counts.n_moved}
        if not rows:
            return
        try:
            for key in add_rule_effects(self._get_store(), rows):
                del self._unwritten[key]
            self._error = ""
        except StoreError as error:
            if str(error) != self._error:
                _log.warning("the effects of rules stay in memory: %s", error)
            self._error = str(error)

    def _take_counts(self) -> None:
        """Into rows of the database."""
        from bento.store.rule_effects import EffectCounts, EffectKey

        applied, moved = Counter[EffectKey](), Counter[EffectKey]()
        for (day, version, effects), n in self._applied.items():
            applied.update({EffectKey(one, day, version): n for one in effects.rule_ids})
        for (day, version, rule_id), n in self._moved.items():
            moved[EffectKey(rule_id, day, version)] += n
        self._applied.clear()
        self._moved.clear()
        for key in {**applied, **moved}:
            old = self._unwritten.get(key)
            if old is None and len(self._unwritten) >= MAX_KEPT:
                continue
            old = old or EffectCounts(0, 0)
            self._unwritten[key] = EffectCounts(
                old.n_applied + applied[key], old.n_moved + moved[key]
            )
