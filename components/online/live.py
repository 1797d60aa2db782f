"""Actions of shoppers on recommendations, counted while they happen, in bounded memory.

Lists and events are taken in the order of the sink. An event counts for the list whose request id
it names; carts and orders without one, for the last list of their session that held the product.
A product counts once per list and kind of event, so that no session outweighs others by repeating.
"""

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from components.events.event import EVENT_NAMES, Event
from components.events.recommendation import Recommendation
from components.experiments.confidence_sequence import Bounds
from components.online.live_lift import OUTCOMES, HourlySums, compare
from components.online.live_settings import LiveSettings

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
SKEW_US = MINUTE_US
"""Clocks of shoppers and service may differ by so much."""
WAIT_US = 2 * MINUTE_US
"""For the list of an event that came before it: the log is written in blocks."""
IMPRESSION = EVENT_NAMES[0]
BITS = {name: bit for bit, name in enumerate(EVENT_NAMES)}


class Arm(NamedTuple):
    model_version: str
    variant: str


UNKNOWN = Arm("unknown", "unknown")
"""Of events whose request id is in no log: forged, not logged, or long ago."""
OTHER = Arm("other", "other")


class Pair(NamedTuple):
    """Variants are empty where versions are compared with all their arms."""

    outcome: str
    arm: Arm
    against: Arm


class Session:
    """From its first list on; a session that comes back after its outcome window begins anew."""

    __slots__ = ("by_arm", "first_us", "hour", "is_counted", "lists")

    def __init__(self, first_us: int) -> None:
        self.first_us = first_us
        self.hour = first_us // HOUR_US
        self.lists: list[Shown] = []
        self.by_arm: dict[Arm, list[int]] = {}
        """Lists, clicks, adds, purchases."""
        self.is_counted = False


class Shown:
    """A list of recommendations."""

    __slots__ = ("arm", "done", "items", "session", "session_id", "ts_us")

    def __init__(
        self, arm: Arm, items: tuple[str, ...], ts_us: int, session: Session, session_id: str | None
    ) -> None:
        self.arm, self.items, self.ts_us = arm, items, ts_us
        self.session, self.session_id = session, session_id
        self.done = 0
        """One bit for each product and kind of event."""


class Live:
    def __init__(self, settings: LiveSettings, count_from_us: int = 0) -> None:
        """Events received before `count_from_us` enter comparisons, and no counter: Prometheus
        would take those of two days for those of a second."""
        self._settings, self._count_from_us = settings, count_from_us
        self._window_us = int(settings.window_h * HOUR_US)
        self._outcome_us = int(settings.outcome_min * MINUTE_US)
        self._late_us = int(settings.late_min * MINUTE_US)
        self._request_us = int(settings.request_window_h * HOUR_US)
        self.impressions: Counter[Arm] = Counter()
        self.events: Counter[tuple[str, Arm]] = Counter()
        self.read: Counter[str] = Counter()
        """Products of events by what became of them. `counted_before`: another event of this kind
        named the product of the same list, such as a second addition to the cart."""
        self.dropped: Counter[str] = Counter()
        """Of what memory or rules do not let in."""
        self._arms: dict[Arm, int] = {}
        """By the time of their last list."""
        self._requests: dict[str, Shown] = {}
        self._sessions: dict[str, Session] = {}
        self._open: deque[Session] = deque()
        self._waiting: dict[str, list[Event]] = {}
        self._deadlines: deque[tuple[int, str]] = deque()
        self.sums: dict[Arm, HourlySums] = {}
        self.clock_us = 0
        """Newest time of the service that was read."""

    # ------------------------------------------------------------ what comes

    def add(self, lists: Iterable[Recommendation], events: Iterable[Event]) -> None:
        for answer in lists:
            self._add_list(answer)
        for event in events:
            self._add_event(event)

    def _add_list(self, answer: Recommendation) -> None:
        self.clock_us = max(self.clock_us, answer.ts_us)
        if answer.request_id in self._requests:
            self.read["repeated_list"] += 1
            return
        arm = self._find_arm(answer)
        session = self._find_session(answer)
        items = tuple(map(sys.intern, answer.items))
        shown = Shown(arm, items, answer.ts_us, session, answer.session_id)
        self._requests[answer.request_id] = shown
        session.by_arm.setdefault(arm, [0, 0, 0, 0])[0] += 1
        if len(session.lists) <= self._settings.max_lists:
            session.lists.append(shown)
        for event in self._waiting.pop(answer.request_id, ()):
            self._count_event(event, shown)
        if len(self._requests) > self._settings.max_requests:
            self._forget_oldest_list()
            self.dropped["lists"] += 1

    def _find_arm(self, answer: Recommendation) -> Arm:
        arm = Arm(answer.model_version, answer.arm)
        if arm not in self._arms and len(self._arms) >= self._settings.max_arms:
            oldest = min(self._arms, key=self._arms.__getitem__)
            if self._arms[oldest] > self.clock_us - self._window_us:
                return OTHER
            self._forget_arm(oldest)
        self._arms[arm] = answer.ts_us
        return arm

    def _forget_arm(self, arm: Arm) -> None:
        del self._arms[arm]
        self.sums.pop(arm, None)
        self.impressions.pop(arm, None)
        for key in [one for one in self.events if one[1] == arm]:
            del self.events[key]

    def _find_session(self, answer: Recommendation) -> Session:
        """Answers without a session are sessions by themselves."""
        found = self._sessions.get(answer.session_id) if answer.session_id else None
        if found is not None and answer.ts_us <= found.first_us + self._outcome_us:
            return found
        session = Session(answer.ts_us)
        self._open.append(session)
        if len(self._open) > self._settings.max_sessions:
            self._drop_session(self._open.popleft())
        if answer.session_id:
            self._sessions.pop(answer.session_id, None)
            self._sessions[answer.session_id] = session
            if len(self._sessions) > self._settings.max_sessions:
                self._drop_session(self._sessions.pop(next(iter(self._sessions))))
        return session

    def _forget_oldest_list(self) -> None:
        oldest = self._requests.pop(next(iter(self._requests)))
        if oldest.session.lists[:1] == [oldest]:
            del oldest.session.lists[0]

    def _drop_session(self, session: Session) -> None:
        if not session.is_counted:
            session.is_counted = True
            session.by_arm.clear()
            self.dropped["sessions"] += 1

    def _add_event(self, event: Event) -> None:
        self.clock_us = max(self.clock_us, event.received_us)
        if event.request_id is None:
            self._count_without_request(event)
        elif (shown := self._requests.get(event.request_id)) is not None:
            self._count_event(event, shown)
        else:
            self._wait(event, event.request_id)

    def _wait(self, event: Event, request_id: str) -> None:
        self._waiting.setdefault(request_id, []).append(event)
        self._deadlines.append((event.received_us + WAIT_US, request_id))
        if len(self._deadlines) > self._settings.max_waiting:
            self._give_up_waiting()

    # ------------------------------------------------------------ what counts

    def _count_event(self, event: Event, shown: Shown) -> None:
        if event.session_id and shown.session_id and event.session_id != shown.session_id:
            self.read["other_session"] += 1
            return
        found = [item.product_id for item in event.items if item.product_id in shown.items]
        if not found:
            self._count_without_request(event)
            return
        for product in found:
            self._count_product(event, shown, product)

    def _count_without_request(self, event: Event) -> None:
        """Only carts and orders: a click elsewhere in the shop is no click on a recommendation."""
        session = self._sessions.get(event.session_id) if event.session_id else None
        is_found = False
        if session is not None and event.event in ("add_to_cart", "purchase"):
            for item in event.items:
                if shown := _find_last_list(session, item.product_id, event.ts_us):
                    self._count_product(event, shown, item.product_id)
                    is_found = True
        if not is_found:
            self.read["not_recommended"] += 1

    def _count_product(self, event: Event, shown: Shown, product: str) -> None:
        if event.ts_us < shown.ts_us - SKEW_US:
            self.read["before_list"] += 1
            return
        if event.ts_us > shown.ts_us + self._request_us:
            self.read["late"] += 1
            return
        kind = BITS[event.event]
        bit = 1 << (shown.items.index(product) * len(EVENT_NAMES) + kind)
        if shown.done & bit:
            self.read["counted_before"] += 1
            return
        shown.done |= bit
        self.read["counted"] += 1
        self._count_by_arm(event, shown.arm)
        self._count_outcome(event, shown, kind)

    def _count_outcome(self, event: Event, shown: Shown, kind: int) -> None:
        session = shown.session
        is_open = not session.is_counted and event.ts_us <= session.first_us + self._outcome_us
        if kind and is_open:
            session.by_arm[shown.arm][kind] += 1

    def _count_by_arm(self, event: Event, arm: Arm, n: int = 1) -> None:
        if event.received_us < self._count_from_us:
            return
        if event.event == IMPRESSION:
            self.impressions[arm] += n
        else:
            self.events[event.event, arm] += n

    # ------------------------------------------------------------ as time goes by

    def settle(self, now_us: int) -> None:
        """Count the sessions that are over, and forget what is too old."""
        end = now_us - self._outcome_us - self._late_us
        while self._open and self._open[0].first_us < end:
            self._count_session(self._open.popleft(), now_us)
        while self._deadlines and self._deadlines[0][0] < now_us:
            self._give_up_waiting()
        for sums in self.sums.values():
            sums.drop_before((now_us - self._window_us) // HOUR_US)
        oldest = now_us - self._request_us
        while self._requests and next(iter(self._requests.values())).ts_us < oldest:
            self._forget_oldest_list()
        while self._sessions and next(iter(self._sessions.values())).first_us < oldest:
            del self._sessions[next(iter(self._sessions))]

    def _count_session(self, session: Session, now_us: int) -> None:
        if session.is_counted:
            return
        session.is_counted = True
        if sum(one[0] for one in session.by_arm.values()) > self._settings.max_lists:
            self.dropped["robots"] += 1
            return
        if session.first_us < now_us - self._window_us:
            return
        for arm, (lists, *outcomes) in session.by_arm.items():
            self.sums.setdefault(arm, HourlySums()).add(session.hour, [lists, *outcomes])

    def _give_up_waiting(self) -> None:
        """Of the event that waits longest."""
        _, request_id = self._deadlines.popleft()
        for event in self._waiting.pop(request_id, ()):
            self.read["unknown_request"] += 1
            self._count_by_arm(event, UNKNOWN, len(event.items))

    @property
    def n_open(self) -> int:
        return len(self._open)

    def compare(self) -> Iterator[tuple[Pair, Bounds]]:
        """Versions with all their arms, and, where there are several arms, these."""
        n, alpha = self._settings.max_compared, self._settings.alpha
        versions: dict[Arm, HourlySums] = {}
        known = {arm: sums for arm, sums in self.sums.items() if arm != OTHER}
        for arm, sums in known.items():
            versions.setdefault(Arm(arm.model_version, ""), HourlySums()).merge(sums)
        yield from _compare_all(versions, n, alpha)
        if len({arm.variant for arm in known}) > 1:
            yield from _compare_all(known, n, alpha)


def _find_last_list(session: Session, product: str, ts_us: int) -> Shown | None:
    for shown in reversed(session.lists):
        if product in shown.items and shown.ts_us <= ts_us + SKEW_US:
            return shown
    return None


def _compare_all(
    arms: Mapping[Arm, HourlySums], n: int, alpha: float
) -> Iterator[tuple[Pair, Bounds]]:
    newest = sorted(arms, key=lambda arm: max(arms[arm].n.items(), default=(0, 0)))[-n:]
    for arm in newest:
        for against in newest:
            for outcome, name in enumerate(OUTCOMES):
                if arm != against and (bounds := compare(arms[arm], arms[against], outcome, alpha)):
                    yield Pair(name, arm, against), bounds
