"""Limits of kinds, as people set them; without numpy, as clients read them."""

from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

N_VISIBLE = 5
"""Places that a shopper sees at once."""


def _refuse_zero(value: int) -> int:
    """Raises PydanticCustomError."""
    if value == 0:
        raise PydanticCustomError("kind_limit", "1 or more, or -1 for no limit")
    return value


NO_LIMIT = -1
"""Where people set limits; empty values mean something else there."""

MaxOwnKind = Annotated[int, Field(ge=NO_LIMIT, le=100)]
MaxSameKind = Annotated[int, Field(ge=NO_LIMIT, le=100), AfterValidator(_refuse_zero)]


class KindLimits(NamedTuple):
    """Most products of one kind among the first N_VISIBLE; None is no limit."""

    max_own_kind: int | None = None
    """Of each kind that was asked for."""
    max_same_kind: int | None = None
    """Of any kind."""

    def override(self, max_own_kind: int | None, max_same_kind: int | None) -> "KindLimits":
        """With those that are given; NO_LIMIT lifts one."""
        given = KindLimits(max_own_kind, max_same_kind)
        pairs = zip(given, self, strict=True)
        return KindLimits(
            *(old if new is None else None if new == NO_LIMIT else new for new, old in pairs)
        )

    @property
    def are_lifted(self) -> bool:
        return self.max_own_kind is None and self.max_same_kind is None


NO_LIMITS = KindLimits()
DEFAULT_LIMITS = KindLimits(max_own_kind=1, max_same_kind=2)
