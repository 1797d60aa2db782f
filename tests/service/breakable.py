"""The service, with a fault inside of what its own metrics measure: FBT_FAULT says which.

`slow` answers one of five late, `erring` fails three of ten, `failing` all.
"""

import asyncio
import dataclasses
import itertools
import os

from bento.endpoints import ROUTES
from bento.http.constants import RECOMMEND
from bento.service import Fbt as Fbt

SLOW_S = 0.7
"""So late that even a busy test machine is faster without."""

_turns = itertools.count()


class InjectedError(Exception):
    """What the service is made to fail with."""


def faulty(handler):
    """The handler, behind the fault."""

    async def answer(service, request):
        fault = os.environ["FBT_FAULT"]
        if fault == "slow" and next(_turns) % 5 == 0:
            await asyncio.sleep(SLOW_S)
        if fault == "failing" or (fault == "erring" and next(_turns) % 10 < 3):
            raise InjectedError
        return handler(service, request)

    return answer


for at, route in enumerate(ROUTES):
    if route.pattern == RECOMMEND:
        ROUTES[at] = dataclasses.replace(route, handler=faulty(route.handler))
