"""Errors that pages show."""

from typing import Literal

Part = Literal["service", "registry", "database"]


class PartUnavailable(RuntimeError):
    """A neighbour does not answer: the page says so, and works again once it does."""

    def __init__(self, part: Part, reason: str) -> None:
        super().__init__(f"the {part} does not answer: {reason}")
        self.part, self.reason = part, reason


class NotFound(LookupError):
    """The page says what was asked for and what there is."""


class BadInput(ValueError):
    """The message names the field, what was found and what was expected."""


class Conflict(RuntimeError):
    """Somebody else was faster; the message says who and what."""
