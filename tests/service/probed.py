"""The service, with endpoints more: each does one thing that the service's own must never do."""

import asyncio
import time

from bento.endpoints import ROUTES
from bento.http.routing import Route
from bento.service import Fbt as Fbt


def echo(_service, request):
    return {"path": request.path, "query": request.query, "client": request.client}


def secret(_service, request):
    return {"bytes": len(request.body)}


def broken(_service, _request):
    raise ValueError("a product of a client: 4711")


def busy(_service, request):
    """Hold the event loop."""
    time.sleep(float(request.query["s"][0]))
    return {}


async def waiting(_service, request):
    await asyncio.sleep(float(request.query["s"][0]))
    return {}


ROUTES += [
    Route("GET", "/things/{thing_id}", echo),
    Route("DELETE", "/things/{thing_id}", secret, protected=True),
    Route("PUT", "/things/{thing_id}/parts/{rest:path}", echo),
    Route("POST", "/secret", secret, protected=True, max_body=10),
    Route("GET", "/broken", broken),
    Route("GET", "/busy", busy),
    Route("GET", "/waiting", waiting, timeout_s=0.5),
]
