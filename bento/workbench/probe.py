"""The probe of a cluster, which logs in nowhere: the process answers.

Neighbours that are away make no pod unready: pages say so, and others go on.
"""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


async def answer_probe(_request: Request) -> Response:
    return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})


PROBE = Route("/healthz", answer_probe)
