"""Fixed-size keys of ids: any text is one, and erasing leaves no id behind in an index."""

import hashlib
from collections.abc import Sequence

from components.events.event import Event
from components.events.sink import Outcome


def hash_id(text: str) -> bytes:
    """16 bytes. Lone surrogates, which JSON allows, are no reason to fail."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Distinct:
    """The first event of each id in one call, by key, and the outcomes of the others."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.first: dict[bytes, Event] = {}
        self.keys = [hash_id(event.event_id) for event in events]
        self._events = events
        for key, event in zip(self.keys, events, strict=True):
            self.first.setdefault(key, event)

    def tell_outcomes(self, stored_before: dict[bytes, bytes]) -> list[Outcome]:
        """One for each event, given the digests of those that were stored before the call."""
        if not stored_before and len(self.first) == len(self._events):
            return [Outcome.STORED] * len(self._events)
        digests = dict(stored_before)
        return [
            self._tell(key, event, digests)
            for key, event in zip(self.keys, self._events, strict=True)
        ]

    def _tell(self, key: bytes, event: Event, digests: dict[bytes, bytes]) -> Outcome:
        if key not in digests:
            digests[key] = event.digest
            return Outcome.STORED
        return Outcome.DUPLICATE if event.digest == digests[key] else Outcome.CONFLICT
