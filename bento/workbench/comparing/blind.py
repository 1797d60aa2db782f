"""Blind comparison: which version is on which side is known to this process alone."""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from typing import Literal

Side = Literal["left", "right"]

N_REMEMBERED = 10_000


class BlindSides:
    """Sides are drawn once for a person, a pair of versions and a product: loading the page again
    changes nothing. After a restart they are drawn anew."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._revealed: OrderedDict[tuple[str, ...], None] = OrderedDict()

    def is_swapped(self, session: str, versions: tuple[str, str], asked: tuple[str, ...]) -> bool:
        """Whether the second of `versions` is on the left; their order does not matter."""
        message = "\0".join((session, *sorted(versions), *asked)).encode(errors="replace")
        drawn = hmac.digest(self._secret, message, hashlib.sha256)[0] & 1
        return bool(drawn) ^ (versions[0] > versions[1])

    def reveal(self, session: str, versions: tuple[str, str], asked: tuple[str, ...]) -> None:
        self._revealed[(session, *sorted(versions), *asked)] = None
        while len(self._revealed) > N_REMEMBERED:
            self._revealed.popitem(last=False)

    def is_revealed(self, session: str, versions: tuple[str, str], asked: tuple[str, ...]) -> bool:
        return (session, *sorted(versions), *asked) in self._revealed
