"""The one shape of all formats, before it is checked."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class BodyError(ValueError):
    """The body as a whole is unusable."""

    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__(f"{field}: found {found}, expected {expected}")
        self.field, self.found, self.expected = field, found, expected


class SentBatch(NamedTuple):
    events: list[dict[str, Any] | None]
    """Fields of SentEvent, unchecked; None for an event that fbt does not store."""
    sent_at: Any
    """The client's clock when it sent; None where times need no correction."""
    n_ignored_fields: int
    names: Mapping[str, str] = {}
    """The format's own names of fields, for errors."""


def find_list(body: Mapping[str, Any], name: str, limit: int) -> list[Any]:
    """Raises BodyError."""
    found = body.get(name)
    if not isinstance(found, list):
        text = "nothing" if found is None else f"a {type(found).__name__}"
        raise BodyError(name, text, "a list of events")
    if not 0 < len(found) <= limit:
        raise BodyError(name, f"a list of {len(found)}", f"1 to {limit} events")
    return found
