"""The API: every path with its handler, models and limits.

The first paragraph of a handler's docstring is its summary in the OpenAPI document, the rest its
description.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import Any

from starlette.responses import HTMLResponse, Response

from bento.events.routes import EVENT_ROUTES
from bento.http import examples
from bento.http.constants import BATCH, RECOMMEND, SIMILAR
from bento.http.errors import HttpError, to_json
from bento.http.openapi import PAGE, PAGE_POLICY, build_document
from bento.http.request_context import RequestContext
from bento.http.routing import INFRASTRUCTURE, Handler, Route
from bento.schemas.catalogue import CatalogueAnswer, CatalogueRequest
from bento.schemas.problems import FieldError, shorten
from bento.schemas.requests import BatchRequest, RecommendRequest, SearchRequest, SimilarRequest
from bento.schemas.responses import (
    AboutModel,
    BatchResponse,
    Product,
    Ready,
    RecommendResponse,
    SearchResponse,
)
from bento.schemas.rule_history import RuleHistory, RuleHistoryRequest
from bento.schemas.rules import Rule, RuleList, RuleRequest

THREAD_FROM_PRODUCTS = 20_000
"""From this size on, a comparison of one product with all takes more than a millisecond."""

BATCH_YIELD_EVERY = 10
"""Questions of a batch, a millisecond or two, after which other requests have their turn."""

MAX_BATCH_BYTES = 16 * 1024 * 1024
MAX_CATALOGUE_BYTES = 32 * 1024 * 1024

USER_HEADER = b"x-fbt-user"
PREVIEW_HEADER = b"x-fbt-preview"
"""Of requests by people who look, such as the workbench's: they are neither counted nor logged."""
UNNAMED_USER = "token"
MAX_USER_LENGTH = 128

ROUTES: list[Route] = []


def route(method: str, pattern: str, **more: Any) -> Callable[[Handler], Handler]:
    """Declare a handler's route; `more` are fields of `Route`."""

    def register(handler: Handler) -> Handler:
        ROUTES.append(Route(method, pattern, handler, **more))
        return handler

    return register


@route(
    "POST", RECOMMEND, body=RecommendRequest, answer=RecommendResponse, examples=examples.RECOMMEND
)
def recommend(service: Any, request: RequestContext) -> bytes:
    """Products that are bought together with the given products, best first.

    Products that the model does not know are listed in `unknown`. If it knows none of them, the
    answer comes from products with a similar description, by the product table or by `attributes`,
    or else from bestsellers; see `source`.
    """
    is_preview = PREVIEW_HEADER in request.headers
    answer: bytes = service.answer(request.data, request.request_id, is_preview)
    return answer


@route(
    "POST", BATCH, body=BatchRequest, answer=BatchResponse, examples=examples.BATCH,
    max_body=MAX_BATCH_BYTES, timeout_s=30,
)  # fmt: skip
async def recommend_batch(service: Any, request: RequestContext) -> bytes:
    """Up to 1,000 requests for /recommend at once; answers come in the order of the requests.

    One malformed question refuses the whole batch.
    """
    answers, is_preview = [], PREVIEW_HEADER in request.headers
    for number, question in enumerate(request.data.requests):
        if number % BATCH_YIELD_EVERY == 0:
            await asyncio.sleep(0)
        answers.append(service.answer(question, f"{request.request_id}.{number}", is_preview))
    return b'{"responses":[' + b",".join(answers) + b"]}"


@route("POST", SIMILAR, body=SimilarRequest, answer=RecommendResponse, examples=examples.SIMILAR)
async def similar(service: Any, request: RequestContext) -> bytes:
    """Products that could replace the given product, best first.

    They are bought together with the same products and have a similar description. For a product
    that the model does not know, the description decides, or else sales; see `source`.
    """
    # All products are compared.
    if service.manifest.n_items < THREAD_FROM_PRODUCTS:
        shown = service.answerer.similar(request.data, request.request_id)
    else:
        shown = await asyncio.to_thread(service.answerer.similar, request.data, request.request_id)
    is_preview = PREVIEW_HEADER in request.headers
    answer: bytes = service.render("similar", shown, request.data, request.request_id, is_preview)
    return answer


@route("GET", "/products", query=SearchRequest, answer=SearchResponse)
async def search_products(service: Any, request: RequestContext) -> bytes:
    """Search products by name, id, category or brand, tolerating typos.

    The best match comes first, the best seller among equals; `match` is the kind of match.
    """
    return await asyncio.to_thread(service.search, request.data)


@route("GET", "/products/{product_id:path}", answer=Product, refusals=[404])
def product(service: Any, request: RequestContext) -> bytes:
    """A product's record, and whether the model knows it."""
    product_id = request.path["product_id"]
    record: bytes | None = service.product(product_id)
    if record is None:
        found, expected = shorten(product_id), "a product of the catalogue"
        raise HttpError(404, FieldError(field="product_id", found=found, expected=expected))
    return record


@route("GET", "/model", answer=AboutModel)
def model(service: Any, _request: RequestContext) -> Any:
    """The model that answers: its version, data, measured quality and files."""
    return service.describe_model()


@route(
    "POST", "/catalogue", body=CatalogueRequest, answer=CatalogueAnswer, protected=True,
    max_body=MAX_CATALOGUE_BYTES, examples=examples.CATALOGUE,
)  # fmt: skip
async def change_catalogue(service: Any, request: RequestContext) -> Any:
    """Change products' records and stock, or delete products.

    Every serving process applies the change within five seconds; it outlasts the current model.
    """
    return await service.store.write(lambda store: store.change_products(request.data))


@route("GET", "/rules", answer=RuleList, protected=True)
async def rules(service: Any, _request: RequestContext) -> Any:
    """All rules, oldest first, past and future ones included."""
    return await service.store.read(lambda store: store.rules())


@route("GET", "/rules/history", query=RuleHistoryRequest, answer=RuleHistory, protected=True)
async def rule_history(service: Any, request: RequestContext) -> Any:
    """All changes of rules, newest first: who changed which rule when, from what to what."""
    return await service.store.read(lambda store: store.rule_history(request.data))


@route(
    "POST", "/rules", body=RuleRequest, answer=Rule, status=201, protected=True,
    names_user=True, refusals=[409], examples=examples.RULE,
)  # fmt: skip
async def add_rule(service: Any, request: RequestContext) -> Any:
    """Add a rule: pin, block, boost, bury, exempt or set.

    Every serving process applies it within five seconds.
    """
    user = find_user(request)
    return await service.store.write(lambda store: store.add_rule(request.data, user))


@route("GET", "/rules/{rule_id}", answer=Rule, protected=True, refusals=[404])
async def rule(service: Any, request: RequestContext) -> Any:
    """One rule."""
    return await service.store.read(lambda store: store.rule(request.path["rule_id"]))


@route(
    "PUT", "/rules/{rule_id}", body=RuleRequest, answer=Rule, protected=True, names_user=True,
    refusals=[404], examples=examples.RULE,
)  # fmt: skip
async def replace_rule(service: Any, request: RequestContext) -> Any:
    """Replace a rule."""
    rule_id, user = request.path["rule_id"], find_user(request)
    return await service.store.write(lambda store: store.replace_rule(rule_id, request.data, user))


@route(
    "DELETE", "/rules/{rule_id}", status=204, protected=True, names_user=True,
    refusals=[404],
)  # fmt: skip
async def delete_rule(service: Any, request: RequestContext) -> Response:
    """Delete a rule."""
    rule_id, user = request.path["rule_id"], find_user(request)
    await service.store.write(lambda store: store.delete_rule(rule_id, user))
    return Response(status_code=204)


def find_user(request: RequestContext) -> str:
    """The name for the audit trail: the header X-Fbt-User, or `token`."""
    with contextlib.suppress(UnicodeDecodeError):
        name = request.headers.get(USER_HEADER, b"").decode().strip()
        if name.isprintable() and 0 < len(name) <= MAX_USER_LENGTH:
            return name
    return UNNAMED_USER


ROUTES += EVENT_ROUTES


@route("GET", "/readyz", answer=Ready, always=True, tag=INFRASTRUCTURE)
async def ready(service: Any, _request: RequestContext) -> Any:
    """Whether the service can answer, and the state of its parts.

    It is ready without its database, too, whose state is in `details`.
    """
    details = {name: await check_part(provider) for name, provider in service.details.items()}
    return {
        "status": "ready",
        "model_version": service.model_version,
        "variant": service.variant,
        "details": details,
    }


READY = ROUTES[-1]


async def check_part(provider: Any) -> Any:
    """The state of a part; one that fails or hangs does not make the service unready."""
    try:
        async with asyncio.timeout(1):
            state = provider()
            return await state if asyncio.iscoroutine(state) else state
    except Exception as error:
        return {"error": type(error).__name__}


@route("GET", "/docs.json", always=True, tag=INFRASTRUCTURE)
def document(service: Any, _request: RequestContext) -> bytes:
    """This document."""
    return render_document(service)


@functools.cache
def render_document(service: Any) -> bytes:
    return to_json(build_document(service.bento_service, service.model_version, ROUTES))


@route("GET", "/", always=True, tag=INFRASTRUCTURE, media_type="text/html")
def page(_service: Any, _request: RequestContext) -> Response:
    """This document as a page."""
    return HTMLResponse(PAGE, headers={"content-security-policy": PAGE_POLICY})
