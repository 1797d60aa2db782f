"""The API: which path is answered by what."""

import asyncio
import functools
from collections.abc import Awaitable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bento.answering.catalogue_changes import CatalogueRequest
from bento.answering.rules import RuleRequest
from bento.http.openapi import PAGE, PAGE_POLICY, document
from bento.http.paths import BATCH, RECOMMEND, SIMILAR
from bento.http.routing import HTML, HttpError, Request, Response, Route, to_json
from bento.schemas import (
    MAX_FIELD_ERRORS,
    BatchRequest,
    FieldError,
    RecommendRequest,
    SearchRequest,
    SimilarRequest,
    field_errors,
    shorten,
)
from bento.store.changes_api import ChangeRefused, get_user

Model = TypeVar("Model", bound=BaseModel)
Result = TypeVar("Result")

PRODUCTS = "/products"
PRODUCT = "/products/{product_id:rest}"
RULES = "/rules"
RULE = "/rules/{rule_id}"

THREAD_FROM_PRODUCTS = 20_000
"""Products from which comparing one with all takes more than a millisecond."""

BATCH_YIELD_EVERY = 10
"""Questions of a batch that are answered before others have their turn: a millisecond or two."""

MAX_BATCH_BYTES = 16 * 1024 * 1024
MAX_CATALOGUE_BYTES = 32 * 1024 * 1024


def parse(body: bytes, model: type[Model]) -> Model:
    """The request in a body. Raises Refused (400), naming every field that is wrong."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, field_errors(error, model)) from None


def parse_query(query: Mapping[str, Sequence[str]], model: type[Model]) -> Model:
    """The request in a URL's query. Raises Refused (400), naming every parameter that is wrong."""
    many = [
        FieldError(field=shorten(name), found=f"{len(values)} of it", expected="one")
        for name, values in query.items()
        if len(values) > 1
    ]
    if many:
        raise HttpError(HTTPStatus.BAD_REQUEST, many[:MAX_FIELD_ERRORS])
    try:
        return model.model_validate({name: value for name, (value,) in query.items()})
    except ValidationError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, field_errors(error, model)) from None


def recommend(service: Any, request: Request) -> Response:
    """POST /recommend."""
    asked = parse(request.body, RecommendRequest)
    return Response(service.answer(asked, request.request_id))


async def recommend_batch(service: Any, request: Request) -> Response:
    """POST /recommend/batch: a few at a time, so that others are answered in between."""
    asked, found = parse(request.body, BatchRequest).requests, []
    for number, one in enumerate(asked):
        if number % BATCH_YIELD_EVERY == 0:
            await asyncio.sleep(0)
        found.append(service.answer(one, f"{request.request_id}.{number}"))
    return Response(b'{"responses":[' + b",".join(found) + b"]}")


async def search(service: Any, request: Request) -> Response:
    """GET /products."""
    asked = parse_query(request.query, SearchRequest)
    return Response(await asyncio.to_thread(service.search, asked))


def product(service: Any, request: Request) -> Response:
    """GET /products/{product_id}."""
    product_id = request.path["product_id"]
    if (card := service.product(product_id)) is None:
        error = FieldError(
            field="product_id", found=shorten(product_id), expected="a product of the catalogue"
        )
        raise HttpError(HTTPStatus.NOT_FOUND, [error])
    return Response(card)


def model(service: Any, _request: Request) -> Response:
    """GET /model: what serves."""
    return Response(to_json(service.about()))


async def change_catalogue(service: Any, request: Request) -> Response:
    """POST /catalogue."""
    asked = parse(request.body, CatalogueRequest)
    return Response(to_json(await call_store(service.changes.change_catalogue(asked))))


async def rules(service: Any, _request: Request) -> Response:
    """GET /rules."""
    return Response(to_json(await call_store(service.changes.rules())))


async def rule(service: Any, request: Request) -> Response:
    """GET /rules/{rule_id}."""
    return Response(to_json(await call_store(service.changes.rule(request.path["rule_id"]))))


async def add_rule(service: Any, request: Request) -> Response:
    """POST /rules."""
    asked = parse(request.body, RuleRequest)
    added = await call_store(service.changes.add_rule(asked, get_user(request.headers)))
    return Response(to_json(added), status=HTTPStatus.CREATED)


async def replace_rule(service: Any, request: Request) -> Response:
    """PUT /rules/{rule_id}."""
    asked, by = parse(request.body, RuleRequest), get_user(request.headers)
    found = await call_store(service.changes.replace_rule(request.path["rule_id"], asked, by))
    return Response(to_json(found))


async def delete_rule(service: Any, request: Request) -> Response:
    """DELETE /rules/{rule_id}."""
    by = get_user(request.headers)
    await call_store(service.changes.delete_rule(request.path["rule_id"], by))
    return Response(b"", status=HTTPStatus.NO_CONTENT)


async def call_store(change: Awaitable[Result]) -> Result:
    """What a read or write of the database gave. Raises Refused as it was refused."""
    try:
        return await change
    except ChangeRefused as refused:
        later = refused.retry_after_s
        headers = [] if later is None else [(b"retry-after", b"%d" % later)]
        raise HttpError(refused.status, refused.errors, headers=headers) from None


async def similar(service: Any, request: Request) -> Response:
    """POST /similar: all products are compared, which for many is left to another thread."""
    asked = parse(request.body, SimilarRequest)
    if service.manifest.n_items < THREAD_FROM_PRODUCTS:
        return Response(service.answer_similar(asked, request.request_id))
    found = await asyncio.to_thread(service.selection.similar, asked)
    return Response(service.render_answer("similar", found, asked, request.request_id))


async def ready(service: Any, _request: Request) -> Response:
    """GET /readyz: that the service is ready, and how its parts are."""
    details = {name: await detail(provider) for name, provider in service.details.items()}
    return Response(
        to_json(
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
    return Response(render_document(service))


@functools.cache
def render_document(service: Any) -> bytes:
    """The document as it is sent: made once, for it takes as long as many answers."""
    return to_json(document(service.bento_service, service.model_version, ROUTES))


def docs_page(_service: Any, _request: Request) -> Response:
    """GET /: the document as a page."""
    return Response(PAGE, HTML, headers=[(b"content-security-policy", PAGE_POLICY)])


ROUTES = [
    Route("POST", RECOMMEND, recommend),
    Route("POST", BATCH, recommend_batch, max_body=MAX_BATCH_BYTES, timeout_s=30),
    Route("POST", SIMILAR, similar),
    Route("GET", PRODUCTS, search),
    Route("GET", PRODUCT, product),
    Route("GET", "/model", model),
    Route("POST", "/catalogue", change_catalogue, protected=True, max_body=MAX_CATALOGUE_BYTES),
    Route("GET", RULES, rules, protected=True),
    Route("POST", RULES, add_rule, protected=True),
    Route("GET", RULE, rule, protected=True),
    Route("PUT", RULE, replace_rule, protected=True),
    Route("DELETE", RULE, delete_rule, protected=True),
    Route("GET", "/readyz", ready, always=True),
    Route("GET", "/docs.json", docs_json, always=True),
    Route("GET", "/", docs_page, always=True),
]
"""What is answered here; `Route` says what can be said of one."""
