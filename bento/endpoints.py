"""The API as an ASGI middleware, in front of BentoML's own way to the same methods.

BentoML's way from bytes to a method and back costs several times what a recommendation does, and
knows no problem JSON. The APIs are declared on the service, so that probes, per-route metrics and
clients stay BentoML's; only their paths are answered here.
"""

import logging
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, TypeVar

import bentoml
import pydantic_core
from pydantic import BaseModel, ValidationError

from bento.openapi import PAGE, document
from bento.schemas import FieldError, Problem, RecommendRequest, SimilarRequest, field_errors

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Request = TypeVar("Request", bound=BaseModel)

RECOMMEND = "/recommend"
SIMILAR = "/similar"

MAX_BODY_BYTES = 256 * 1024
"""A full cart of the longest ids, every character escaped, is 150 kB."""

JSON = b"application/json"
PROBLEM_JSON = b"application/problem+json"
HTML = b"text/html; charset=utf-8"

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_log = logging.getLogger("bentoml.fbt")


class ClientGone(Exception):
    """The client hung up before its request was complete."""


class Refused(Exception):
    """The request is answered with a problem instead of a recommendation."""

    def __init__(self, status: HTTPStatus, errors: list[FieldError]) -> None:
        super().__init__(status.phrase)
        self.problem = Problem(
            title=status.phrase,
            status=status,
            detail="; ".join(f"{e.field}: found {e.found}, expected {e.expected}" for e in errors),
            errors=errors,
        )


class Endpoints:
    """Answers the paths of ROUTES for the running service; passes everything else on."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever happens: BentoML leaves a client hanging when a middleware raises."""
        respond = ROUTES.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if respond is None:
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        request_id = request_id_of(headers)
        try:
            body = await body_of(headers, receive)
            status, kind, content = 200, *respond(body, request_id)
        except ClientGone:
            return None
        except Refused as refused:
            status, kind, content = refused.problem.status, PROBLEM_JSON, as_json(refused.problem)
        except Exception:
            _log.exception("request %s failed", request_id)
            status, kind, content = 500, PROBLEM_JSON, as_json(failed(request_id))
        headers_out = [(b"content-type", kind), (b"x-request-id", request_id.encode())]
        await send_whole(send, status, headers_out, content)


def recommend(body: bytes, request_id: str) -> tuple[bytes, bytes]:
    """POST /recommend."""
    request = parse(body, RecommendRequest)
    return JSON, as_json(bentoml.get_current_service().answer(request, request_id))


def similar(body: bytes, request_id: str) -> tuple[bytes, bytes]:
    """POST /similar."""
    request = parse(body, SimilarRequest)
    return JSON, as_json(bentoml.get_current_service().answer_similar(request, request_id))


def docs_json(_body: bytes, _request_id: str) -> tuple[bytes, bytes]:
    """GET /docs.json: the OpenAPI document."""
    return JSON, as_json(document(bentoml.get_current_service()))


def docs_page(_body: bytes, _request_id: str) -> tuple[bytes, bytes]:
    """GET /: the document as a page."""
    return HTML, PAGE


ROUTES: dict[tuple[str, str], Callable[[bytes, str], tuple[bytes, bytes]]] = {
    ("POST", RECOMMEND): recommend,
    ("POST", SIMILAR): similar,
    ("GET", "/docs.json"): docs_json,
    ("GET", "/"): docs_page,
}
"""What is answered here: from the body and the request id to a content type and a content."""


def request_id_of(headers: dict[bytes, bytes]) -> str:
    """The client's X-Request-Id where it is short and plain, else a new one."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if _SANE_ID.fullmatch(given) else uuid.uuid4().hex


async def body_of(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    """The request's body. Raises Refused (413) as soon as it is known to be too large."""
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise too_large(length.decode())
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise too_large(f"more than {MAX_BODY_BYTES}")
        if not message.get("more_body", False):
            return bytes(body)


def parse(body: bytes, model: type[Request]) -> Request:
    """The request in a body. Raises Refused (400), naming every field that is wrong."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, field_errors(error)) from None


def too_large(found: str) -> Refused:
    """The refusal of a body of `found` bytes."""
    error = FieldError(
        field="body", found=f"{found} bytes", expected=f"at most {MAX_BODY_BYTES} bytes"
    )
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, [error])


def failed(request_id: str) -> Problem:
    """What the client is told of a failure that is not its own."""
    return Problem(
        title=HTTPStatus.INTERNAL_SERVER_ERROR.phrase,
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        detail=f"The service failed; its log says why under request id {request_id}",
    )


def as_json(content: Any) -> bytes:
    """Compact UTF-8. A number that JSON cannot say becomes null."""
    encoded: bytes = pydantic_core.to_json(content, inf_nan_mode="null")
    return encoded


async def send_whole(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], content: bytes
) -> None:
    """Send one response that has a length and comes in one piece."""
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": content})
