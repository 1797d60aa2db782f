"""The service's documentation: an OpenAPI document and the page that shows it.

BentoML makes both, but its document describes errors that this service does not send, in a
dialect without null, and its page loads a tracker.
"""

import base64
import hashlib
import inspect
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bento.http.operations import OPERATIONS, JsonObject, Operation
from bento.http.routing import Route
from bento.schemas import Problem

REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "description": "Comes back in the answer and in the logs. What is not 1 to 128 of "
    "`A-Z a-z 0-9 . _ : -` is replaced by a new one.",
    "schema": {"type": "string"},
    "example": "shop-1.2:3_4",
}

REFUSALS: Mapping[int, str] = {
    400: "The request is malformed; `errors` says what and where",
    401: "The bearer token is missing or another one",
    403: "The service was started without an admin token",
    404: "There is none of that id",
    405: "The path does not have this method; `Allow` says which it has",
    408: "The request was not complete in time",
    409: "There are as many as there may be",
    413: "The body is too large",
    429: "Too many requests of one client; `Retry-After` says when to ask again",
    500: "The service failed; its log says why under the request's id",
    503: "The service is overloaded, or a database it needs is away; `Retry-After` says when to "
    "ask again",
    504: "No answer could be had in time",
}
"""What is answered with a problem, and what it means."""

HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    405: {"Allow": "The methods that the path has."},
    429: {"Retry-After": "Seconds."},
    503: {"Retry-After": "Seconds; missing where another try is of no use."},
}
"""Of refusals, beside those of every answer."""

TOKEN = "adminToken"

SCRIPT = b"""
SwaggerUIBundle({url: "./docs.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null})
"""

PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>fbt</title>
<link rel="stylesheet" href="./static_content/swagger-ui.css">
<link rel="icon" href="data:,">
<div id="swagger-ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script>%b</script>
</html>
""" % (SCRIPT,)
"""Swagger UI as BentoML ships it; nothing comes from elsewhere."""

PAGE_POLICY = (
    b"default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self' data:; "
    b"style-src 'self' 'unsafe-inline'; script-src 'self' 'sha256-%b'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
) % base64.b64encode(hashlib.sha256(SCRIPT).digest())
"""Content-Security-Policy of the page: what it needs and nothing else."""


def document(service: Any, version: str, routes: Iterable[Route]) -> JsonObject:
    """OpenAPI 3.1 of BentoML's `service`: its probes, and the API as it really answers.

    `version` is that of the model.
    """
    described = [route for route in routes if (route.method, route.pattern) in OPERATIONS]
    made_by_bentoml = service.openapi_spec.asdict()
    paths = dict(made_by_bentoml["paths"])
    for path in {route.path for route in described}:
        paths[path] = {
            route.method.lower(): _operation(service, route)
            for route in described
            if route.path == path
        }
    return {
        **made_by_bentoml,
        "openapi": "3.1.0",
        "info": {
            "title": "fbt",
            "version": version,
            "description": f"{inspect.getdoc(service.inner)}\n\n{EVERYWHERE}",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": _schemas(),
            "responses": {str(status): _refusal(status) for status in REFUSALS},
            "securitySchemes": {
                TOKEN: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token that the service was started with.",
                }
            },
        },
    }


EVERYWHERE = """\
What is wrong is answered with a problem (RFC 9457): its `errors` say of every field what was found
and what was expected. A path that is not here is answered 404, and 405 a method that a path does
not have. What can be got can be asked about, with HEAD."""


def list_statuses(route: Route, operation: Operation) -> list[int]:
    """Every status of a refusal that the operation can answer with."""
    found = {408, 413, 500, *operation.refusals}
    if operation.request is not None:
        found.add(400)
    if route.protected:
        found |= {401, 403}
    if not route.always:
        found |= {429, 503}
    if route.waits:
        found.add(504)
    return sorted(found)


def _operation(service: Any, route: Route) -> JsonObject:
    operation = OPERATIONS[route.method, route.pattern]
    words = operation.words or inspect.getdoc(getattr(service.inner, operation.name).func)
    summary, _, description = str(words).partition("\n\n")
    described: JsonObject = {
        "tags": [operation.tag],
        "operationId": operation.name,
        "summary": summary,
        "description": description or summary,
        "parameters": [*operation.parameters, REQUEST_ID],
        "responses": {
            str(int(operation.status)): _success(operation, summary),
            **{
                str(status): _ref("responses", status) for status in list_statuses(route, operation)
            },
        },
    }
    if operation.request is not None:
        described["requestBody"] = {"required": True, "content": _build_request(operation)}
    if route.protected:
        described["security"] = [{TOKEN: []}]
    return described


def _build_request(operation: Operation) -> JsonObject:
    assert operation.request is not None
    examples = {name: {"value": body} for name, body in operation.examples.items()}
    return _content(operation.request, examples=examples)


def _success(operation: Operation, summary: str) -> JsonObject:
    described: JsonObject = {"description": summary, "headers": _headers({})}
    if operation.answer is not None:
        more = {} if operation.example is None else {"example": operation.example}
        described["content"] = _content(operation.answer, operation.media_type, **more)
    elif operation.status != HTTPStatus.NO_CONTENT:
        kind = "object" if operation.media_type == "application/json" else "string"
        described["content"] = {operation.media_type: {"schema": {"type": kind}}}
    return described


def _refusal(status: int) -> JsonObject:
    title = HTTPStatus(status).phrase
    example = {"type": "about:blank", "title": title, "status": status, "detail": REFUSALS[status]}
    return {
        "description": REFUSALS[status],
        "headers": _headers(HEADERS.get(status, {})),
        "content": _content(
            Problem, "application/problem+json", example={**example, "errors": EXAMPLES[status]}
        ),
    }


EXAMPLES: Mapping[int, list[JsonObject]] = {status: [] for status in REFUSALS} | {
    400: [{"field": "k", "found": "101", "expected": "less than or equal to 100"}],
    401: [
        {
            "field": "Authorization",
            "found": "no bearer token",
            "expected": "Bearer and the admin token",
        }
    ],
    404: [{"field": "rule_id", "found": "7", "expected": "the id of one in GET /rules"}],
    405: [{"field": "method", "found": "GET", "expected": "one of POST"}],
    409: [{"field": "rules", "found": "10000", "expected": "fewer rules"}],
    413: [{"field": "body", "found": "300000 bytes", "expected": "at most 262144 bytes"}],
    429: [
        {
            "field": "requests",
            "found": "more than the limit",
            "expected": "the next one in 1 s",
        }
    ],
}
"""What `errors` may say."""


def _headers(more: Mapping[str, str]) -> JsonObject:
    every = {"X-Request-Id": "The request's own, or a new one.", **more}
    return {
        name: {"description": text, "schema": {"type": "string"}} for name, text in every.items()
    }


def _schemas() -> JsonObject:
    asked = {one.request for one in OPERATIONS.values() if one.request is not None}
    answered = {one.answer for one in OPERATIONS.values() if one.answer is not None}
    models: list[Any] = [(model, "validation") for model in asked]
    models += [(model, "serialization") for model in answered | {Problem}]
    models.sort(key=lambda pair: pair[0].__name__)
    _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")
    found: JsonObject = schemas["$defs"]
    return found


def _content(
    model: type[BaseModel], media_type: str = "application/json", **more: Any
) -> JsonObject:
    return {media_type: {"schema": _ref("schemas", model.__name__), **more}}


def _ref(kind: str, name: object) -> JsonObject:
    return {"$ref": f"#/components/{kind}/{name}"}
