"""Asks a neighbour for a part of a page; the rest of the page shows without it, too."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from starlette.requests import Request

from bento.client import FbtError, Unreachable
from bento.schemas.responses import Ready
from bento.schemas.rules import Rule
from bento.store.errors import RuleUnknown
from bento.store.store import Store
from bento.workbench.context import get_workbench
from bento.workbench.errors import PartUnavailable

Result = TypeVar("Result")

DATABASE_S = 1.5
"""So long a page waits for details of rules; a network that drops packets would take longer."""

SERVED_S = 2.5
"""So long a change of rules waits until the service has it, usually a second."""


class Missing(NamedTuple):
    """Shown in the place of a part, until its neighbour answers."""

    part: str
    reason: str


async def ask_part(answer: Awaitable[Result]) -> Result | Missing:
    try:
        return await answer
    except Unreachable as error:
        return Missing("service", str(error))
    except PartUnavailable as error:
        return Missing(error.part, error.reason)


async def find_rules(request: Request, rule_ids: Iterable[str]) -> dict[str, Rule] | Missing:
    """By their ids, without those deleted meanwhile."""
    wanted = sorted(set(rule_ids))
    if not wanted:
        return {}

    def read(store: Store) -> dict[str, Rule]:
        found = {}
        for rule_id in wanted:
            try:
                found[rule_id] = store.rule(rule_id)
            except RuleUnknown:
                continue
        return found

    try:
        async with asyncio.timeout(DATABASE_S):
            return await ask_part(get_workbench(request).database.call(read))
    except TimeoutError:
        return Missing("database", f"no answer within {DATABASE_S} s")


async def wait_until_served(request: Request, revision: int) -> None:
    """So that the page after a change of rules shows it; a service that is slow or away is not
    waited for."""
    service = get_workbench(request).service
    with contextlib.suppress(TimeoutError, FbtError):
        async with asyncio.timeout(SERVED_S):
            while not has_revision(await service.ready(), revision):
                await asyncio.sleep(0.1)


def has_revision(ready: Ready, revision: int) -> bool:
    """True, too, where the service says nothing of its database: nothing would ever come."""
    state = ready.details.get("database")
    served = state.get("revision") if isinstance(state, Mapping) else None
    return not isinstance(served, int) or served >= revision
