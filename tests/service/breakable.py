"""The service, with a fault inside of what its own metrics measure: FBT_FAULT says which.

`slow` answers late, `erring` fails three of ten, `failing` all.
"""

import asyncio
import itertools
import os

from bento.service import Fbt

SLOW_S = 0.2

_turns = itertools.count()


class Faulty:
    """In front of everything but the metrics."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        fault = os.environ["FBT_FAULT"]
        if scope["type"] != "http" or scope["path"] != "/recommend":
            return await self.app(scope, receive, send)
        if fault == "slow":
            await asyncio.sleep(SLOW_S)
        if fault == "failing" or (fault == "erring" and next(_turns) % 10 < 3):
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"injected"})
            return None
        return await self.app(scope, receive, send)


# Before the one that answers.
Fbt.middlewares.insert(0, (Faulty, {}))
