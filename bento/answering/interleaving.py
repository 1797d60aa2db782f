"""Team-draft interleaving: one list of two arms' lists, to compare them within each answer.

Radlinski, Kurup and Joachims, "How does clickthrough data reflect retrieval quality?", 2008,
algorithm 2.
"""

import hashlib
from collections.abc import Hashable, Sequence
from typing import TypeVar

from bento.answering.answer import Answer, AnswerItem
from bento.answering.sources import PIN

INTERLEAVED = "interleaved"
"""The `variant` of answers that two arms made together."""

NO_TEAM = ""
"""Of a product that was not drafted: pinned, or left over when the other list had ended."""

Value = TypeVar("Value", bound=Hashable)


def draft_teams(
    lists: Sequence[Sequence[Value]], n: int, seed: str
) -> list[tuple[Value, int | None]]:
    """Up to `n` values of two lists, each with the place of the list that drafted it.

    The list with the smaller team picks its best value that is left; a coin decides equal teams.
    Once a list has nothing left, the rest of the other one is in no team: it had no rival.
    """
    coins = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=16).digest())
    left, sizes = [list(one) for one in lists], [0, 0]
    drafted: list[tuple[Value, int | None]] = []
    while len(drafted) < n and left[0] and left[1]:
        if sizes[0] == sizes[1]:
            team, coins = coins & 1, coins >> 1
        else:
            team = int(sizes[1] < sizes[0])
        best = left[team][0]
        drafted.append((best, team))
        sizes[team] += 1
        for one in left:
            if best in one:
                one.remove(best)
    rest = left[0] or left[1]
    return drafted + [(value, None) for value in rest[: n - len(drafted)]]


def interleave(
    answers: Sequence[Answer], names: Sequence[str], k: int, seed: str
) -> tuple[Answer, list[str]]:
    """An answer, and for each of its products the name of the arm that drafted it.

    Products that rules pinned, in either list, keep their positions. Scores of two models cannot be
    compared: there are none. All else is the first answer's.
    """
    lists = [answer.list_product_ids() for answer in answers]
    found = [
        dict(zip(ids, answer.shown, strict=True))
        for ids, answer in zip(lists, answers, strict=True)
    ]
    pins = _find_pins(found)
    unpinned = [[one for one in ids if one not in pins] for ids in lists]
    drafted = draft_teams(unpinned, k, seed)
    for product_id, place in sorted(pins.items(), key=lambda pin: pin[1]):
        drafted.insert(place, (product_id, None))
    drafted = drafted[:k]
    givers = [
        team if team is not None else int(product_id not in found[0])
        for product_id, team in drafted
    ]
    first = answers[0]
    mixed = first._replace(
        shown=[
            found[giver][product_id]._replace(score=None)
            for (product_id, _), giver in zip(drafted, givers, strict=True)
        ],
        catalogues=[answers[giver].catalogue for giver in givers],
        message=first.message if len(drafted) == len(first.shown) else "",
        rules={**answers[1].rules, **first.rules},
        acting_rules={*first.acting_rules, *answers[1].acting_rules},
    )
    return mixed, [NO_TEAM if team is None else names[team] for _, team in drafted]


def _find_pins(found: Sequence[dict[str, AnswerItem]]) -> dict[str, int]:
    """Places of pinned products."""
    pins: dict[str, int] = {}
    for items in found:
        for place, (product_id, item) in enumerate(items.items()):
            if item.source == PIN:
                pins.setdefault(product_id, place)
    return pins
