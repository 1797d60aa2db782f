"""Endpoints of events, of the service and of `bento.ingest`."""

from typing import Any

from bento.events.read_body import MAX_BODY_BYTES
from bento.http import examples
from bento.http.request_context import RequestContext
from bento.http.routing import Route
from bento.schemas.events import ErasedSession, EventBatch, EventsAnswer, EventsQuery


async def send_events(service: Any, request: RequestContext) -> bytes:
    """Shoppers' events: up to 1,000 impressions, clicks, products put into the cart and orders.

    The answer comes when the accepted ones are stored. Malformed events are named in `refused`, and
    the others kept; without a good one, the answer is 400. An event is known by its `event_id`: the
    first one stays. Bodies may come as text/plain, as `navigator.sendBeacon` sends them, and in
    gzip. With FBT_EVENTS_KEY, requests name it in the header X-Fbt-Key, as `key` or `api_secret`,
    or as the user of basic authentication.
    """
    answer: bytes = await service.events.collect(request)
    return answer


async def erase_session(service: Any, request: RequestContext) -> Any:
    """Erase a session: its events and its logged recommendations.

    What was compacted to Parquet before is erased by `fbt events erase`.
    """
    return await service.events.erase(request.path["session_id"])


def admit(service: Any, request: RequestContext) -> None:
    service.events.admit(request)


EVENT_ROUTES = (
    Route(
        "POST", "/events", send_events, body=EventBatch, parses_body=False, query=EventsQuery,
        answer=EventsAnswer, status=202, refusals=(401, 404, 415), admit=admit,
        examples=examples.EVENTS, max_body=MAX_BODY_BYTES,
    ),
    Route(
        "DELETE", "/events/sessions/{session_id}", erase_session, answer=ErasedSession,
        protected=True, refusals=(404,), timeout_s=60,
    ),
)  # fmt: skip
