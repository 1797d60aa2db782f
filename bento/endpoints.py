"""The API: which path is answered by what."""

import asyncio
import functools
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bento.openapi import PAGE, PAGE_POLICY, document
from bento.routing import HTML, Refused, Request, Response, Route, as_json
from bento.schemas import RecommendRequest, SimilarRequest, field_errors

Model = TypeVar("Model", bound=BaseModel)

RECOMMEND = "/recommend"
SIMILAR = "/similar"


def parse(body: bytes, model: type[Model]) -> Model:
    """The request in a body. Raises Refused (400), naming every field that is wrong."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, field_errors(error)) from None


def recommend(service: Any, request: Request) -> Response:
    """POST /recommend."""
    asked = parse(request.body, RecommendRequest)
    return Response(as_json(service.answer(asked, request.request_id)))


def similar(service: Any, request: Request) -> Response:
    """POST /similar."""
    asked = parse(request.body, SimilarRequest)
    return Response(as_json(service.answer_similar(asked, request.request_id)))


async def ready(service: Any, _request: Request) -> Response:
    """GET /readyz: that the service is ready, and how its parts are."""
    details = {name: await detail(provider) for name, provider in service.details.items()}
    return Response(
        as_json(
            {
                "status": "ready",
                "model_version": service.model_version,
                "variant": service.variant,
                "details": details,
            }
        )
    )


async def detail(provider: Any) -> Any:
    """What a part says of itself; one that fails or hangs does not make the service unready."""
    try:
        async with asyncio.timeout(1):
            said = provider()
            return await said if asyncio.iscoroutine(said) else said
    except Exception as error:
        return {"error": type(error).__name__}


def docs_json(service: Any, _request: Request) -> Response:
    """GET /docs.json: the OpenAPI document."""
    return Response(document_of(service))


@functools.cache
def document_of(service: Any) -> bytes:
    """The document as it is sent: made once, for it takes as long as many answers."""
    return as_json(document(service))


def docs_page(_service: Any, _request: Request) -> Response:
    """GET /: the document as a page."""
    return Response(PAGE, HTML, headers=[(b"content-security-policy", PAGE_POLICY)])


ROUTES = [
    Route("POST", RECOMMEND, recommend),
    Route("POST", SIMILAR, similar),
    Route("GET", "/readyz", ready, always=True),
    Route("GET", "/docs.json", docs_json, always=True),
    Route("GET", "/", docs_page, always=True),
]
"""What is answered here; `Route` says what can be said of one."""
