"""The OpenAPI document, built from the routes and their models, and the page that shows it.

BentoML's own document has wrong errors, and its page loads a tracker.
"""

import base64
import hashlib
import inspect
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bento.http.routing import Route
from bento.schemas.problems import Problem

JsonObject = dict[str, Any]

INTRODUCTION = """\
Errors are problem JSON (RFC 9457): `errors` names every wrong field, the value found and the value
expected. An unknown path is answered 404, an unknown method of a path 405. Every GET has a HEAD."""

REFUSALS: Mapping[int, str] = {
    400: "The request is malformed; `errors` names every wrong field",
    401: "The bearer token or the key is missing or wrong",
    403: "The service was started without an admin token",
    404: "Nothing has this id",
    405: "The path does not have this method; `Allow` lists its methods",
    408: "The request was not complete in time",
    409: "The maximum number is reached",
    413: "The body is too large",
    415: "The body has another type or encoding",
    429: "This client sends too many requests; try again after the seconds in `Retry-After`",
    500: "The service failed; its log has the reason under the request's id",
    503: "The service is overloaded or its database does not answer; try again after the seconds "
    "in `Retry-After`",
    504: "The answer took too long",
}

REFUSAL_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "What is asked for."},
    405: {"Allow": "The methods of the path."},
    429: {"Retry-After": "Seconds."},
    503: {"Retry-After": "Seconds; missing where a retry cannot help."},
}

PATH_PARAMETERS = {
    "product_id": ("The product's id, percent-encoded.", "85123A"),
    "session_id": ("The visit's id, percent-encoded.", "s-83f1"),
    "rule_id": ("An id from `GET /rules`.", "0f5c1e3a9b7d4f60a1c2d3e4f5a6b7c8"),
}
"""Description and example."""

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
"""Swagger UI as BentoML ships it."""

PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' "
    f"'sha256-{base64.b64encode(hashlib.sha256(SCRIPT).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def build_document(service: Any, version: str, routes: Iterable[Route]) -> JsonObject:
    """OpenAPI 3.1 of our routes and of BentoML's probes; `version` is the model's."""
    routes = list(routes)
    bentoml_document = service.openapi_spec.asdict()
    paths = dict(bentoml_document["paths"])
    for path in {route.path for route in routes}:
        paths[path] = {
            route.method.lower(): build_operation(route) for route in routes if route.path == path
        }
    token = {"type": "http", "scheme": "bearer", "description": "The service's FBT_ADMIN_TOKEN."}
    return {
        **bentoml_document,
        "openapi": "3.1.0",
        "info": {
            "title": "fbt",
            "version": version,
            "description": f"{inspect.getdoc(service.inner)}\n\n{INTRODUCTION}",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": build_schemas(routes),
            "responses": {str(status): build_refusal(status) for status in REFUSALS},
            "securitySchemes": {TOKEN: token},
        },
    }


def build_operation(route: Route) -> JsonObject:
    summary, _, description = (inspect.getdoc(route.handler) or "").partition("\n\n")
    success: JsonObject = {"description": summary, "headers": build_headers({})}
    if route.answer is not None:
        success["content"] = build_content(route.answer, route.media_type)
    elif route.status != HTTPStatus.NO_CONTENT:
        kind = "object" if route.media_type == "application/json" else "string"
        success["content"] = {route.media_type: {"schema": {"type": kind}}}
    operation: JsonObject = {
        "tags": [route.tag],
        "operationId": route.handler.__name__,
        "summary": summary,
        "description": description or summary,
        "parameters": list_parameters(route),
        "responses": {
            str(int(route.status)): success,
            **{str(status): build_ref("responses", status) for status in list_refusals(route)},
        },
    }
    if route.body is not None:
        examples = {name: {"value": body} for name, body in route.examples.items()}
        content = build_content(route.body, examples=examples)
        operation["requestBody"] = {"required": True, "content": content}
    if route.protected:
        operation["security"] = [{TOKEN: []}]
    return operation


def list_refusals(route: Route) -> list[int]:
    statuses = {408, 413, 500, *route.refusals}
    if route.body is not None or route.query is not None:
        statuses.add(400)
    if route.protected:
        statuses |= {401, 403}
    if not route.always:
        statuses |= {429, 503}
    if route.is_async:
        statuses.add(504)
    return sorted(statuses)


def list_parameters(route: Route) -> list[JsonObject]:
    names = re.findall(r"\{(\w+)\}", route.path)
    parameters = [
        build_parameter("path", name, *PATH_PARAMETERS.get(name, ("", ""))) for name in names
    ]
    if route.query is not None:
        parameters += list_query_parameters(route.query)
    if route.names_user:
        description = "The user who makes the change, for the audit trail: up to 128 printable "
        description += "characters."
        parameters.append(build_parameter("header", "X-Fbt-User", description, "ann"))
    description = "Returned in the answer and written to the logs. Anything but 1 to 128 of "
    description += "`A-Z a-z 0-9 . _ : -` is replaced by a new id."
    return [*parameters, build_parameter("header", "X-Request-Id", description, "shop-1.2:3_4")]


def build_parameter(place: str, name: str, description: str, example: str) -> JsonObject:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": {"type": "string", **({"minLength": 1} if place == "path" else {})},
        "example": example,
    }


def list_query_parameters(model: type[BaseModel]) -> list[JsonObject]:
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", []),
            "description": field.pop("description"),
            "schema": field,
        }
        for name, field in schema["properties"].items()
    ]


def build_refusal(status: int) -> JsonObject:
    example = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": REFUSALS[status],
        "errors": [],
    }
    return {
        "description": REFUSALS[status],
        "headers": build_headers(REFUSAL_HEADERS.get(status, {})),
        "content": build_content(Problem, "application/problem+json", example=example),
    }


def build_headers(more: Mapping[str, str]) -> JsonObject:
    headers = {"X-Request-Id": "The request's own, or a new one.", **more}
    return {
        name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()
    }


def build_schemas(routes: Iterable[Route]) -> JsonObject:
    models: set[tuple[Any, Any]] = {(Problem, "serialization")}
    for route in routes:
        models |= {(route.body, "validation"), (route.answer, "serialization")}
    used = sorted((pair for pair in models if pair[0]), key=lambda pair: pair[0].__name__)
    _, schemas = models_json_schema(used, ref_template="#/components/schemas/{model}")
    return dict(schemas["$defs"])


def build_content(
    model: type[BaseModel], media_type: str = "application/json", **more: Any
) -> JsonObject:
    return {media_type: {"schema": build_ref("schemas", model.__name__), **more}}


def build_ref(kind: str, name: object) -> JsonObject:
    return {"$ref": f"#/components/{kind}/{name}"}
