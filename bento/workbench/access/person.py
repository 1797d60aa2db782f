"""People and what they may do."""

from enum import IntEnum
from typing import NamedTuple


class Role(IntEnum):
    """Each may do what the former may."""

    viewer = 1
    """Looks, and judges."""
    editor = 2
    """Writes rules."""
    releaser = 3
    """Promotes and rolls back."""


class Person(NamedTuple):
    name: str
    role: Role
    can_log_out: bool = False

    def may(self, role: str) -> bool:
        """For templates: `person.may("editor")`."""
        return self.role >= Role[role]
