"""The service's documentation: an OpenAPI document and the page that shows it.

BentoML makes both, but its document describes errors that this service does not send, in a
dialect without null, and its page loads a tracker.
"""

import base64
import hashlib
import inspect
from typing import Any

from pydantic.json_schema import models_json_schema

from bento.schemas import Problem, RecommendRequest, RecommendResponse, SimilarRequest

REQUEST_ID_HEADER = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "description": "Comes back in the answer and in the logs; made up when missing.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
}

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


READY = {
    "tags": ["Infrastructure"],
    "operationId": "ready",
    "summary": "Whether the service can answer, and how its parts are.",
    "responses": {
        "200": {
            "description": "It can",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["status", "model_version", "variant", "details"],
                        "properties": {
                            "status": {"const": "ready"},
                            "model_version": {"type": "string"},
                            "variant": {"type": "string"},
                            "details": {
                                "type": "object",
                                "description": "What every part says of itself, by its name.",
                            },
                        },
                    }
                }
            },
        }
    },
}


def document(service: Any) -> dict[str, Any]:
    """OpenAPI 3.1 of a running service: BentoML's probes, and the API as it really answers."""
    made_by_bentoml = service.bento_service.openapi_spec.asdict()
    _, schemas = models_json_schema(
        [
            (RecommendRequest, "validation"),
            (SimilarRequest, "validation"),
            (RecommendResponse, "serialization"),
            (Problem, "serialization"),
        ],
        ref_template="#/components/schemas/{model}",
    )
    return {
        **made_by_bentoml,
        "openapi": "3.1.0",
        "info": {
            "title": "fbt",
            "version": service.model_version,
            "description": inspect.getdoc(type(service)),
        },
        "paths": {
            **made_by_bentoml["paths"],
            "/readyz": {"get": READY},
            "/recommend": {"post": _operation(service, "recommend", RecommendRequest)},
            "/similar": {"post": _operation(service, "similar", SimilarRequest)},
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(service: Any, name: str, request: Any) -> dict[str, Any]:
    method = getattr(type(service), name).func
    summary, _, description = str(inspect.getdoc(method)).partition("\n\n")
    return {
        "tags": ["Service APIs"],
        "operationId": name,
        "summary": summary,
        "description": description,
        "parameters": [REQUEST_ID_HEADER],
        "requestBody": {"required": True, "content": _content(request)},
        "responses": {
            "200": {"description": summary, "content": _content(RecommendResponse)},
            "400": _problem("The request is malformed; `errors` says what and where"),
            "408": _problem("The request was not complete in time"),
            "413": _problem("The body is too large"),
            "429": _problem("Too many requests of one client; Retry-After says when to ask again"),
            "500": _problem("The service failed"),
            "503": _problem("The service is overloaded; Retry-After says when to ask again"),
        },
    }


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": _content(Problem, "application/problem+json")}


def _content(model: Any, media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
