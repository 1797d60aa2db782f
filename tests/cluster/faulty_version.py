"""The service in a pod, with the fault that its bundle names: `code_version` of its manifest.

`slow` answers one of five late, `erring` fails three of ten; every other bundle is served as it is.
"""

import asyncio
import dataclasses
import itertools
import json
import os
from pathlib import Path

from bento.endpoints import ROUTES
from bento.http.constants import RECOMMEND
from bento.service import Fbt as Fbt

SLOW_S = 0.7

_turns = itertools.count()


class InjectedError(Exception):
    """What the service is made to fail with."""


def add_fault(handler, fault):
    """The handler, behind the fault."""

    async def answer(service, request):
        turn = next(_turns)
        if fault == "slow" and turn % 5 == 0:
            await asyncio.sleep(SLOW_S)
        if fault == "erring" and turn % 10 < 3:
            raise InjectedError
        return handler(service, request)

    return answer


fault = json.loads(Path(os.environ["FBT_BUNDLE"], "bundle.json").read_text())["code_version"]
for at, route in enumerate(ROUTES):
    if route.pattern == RECOMMEND and fault in ("slow", "erring"):
        ROUTES[at] = dataclasses.replace(route, handler=add_fault(route.handler, fault))
