"""What the OpenAPI document says of every endpoint, beside what its route says already.

A route without an entry here is not documented, and a test complains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from bento.answering.catalogue_changes import CatalogueAnswer, CatalogueRequest
from bento.answering.rules import Rule, RuleList, RuleRequest
from bento.schemas import (
    AboutModel,
    BatchRequest,
    BatchResponse,
    Product,
    Ready,
    RecommendRequest,
    RecommendResponse,
    SearchResponse,
    SimilarRequest,
)

API, INFRASTRUCTURE = "Service APIs", "Infrastructure"
"""Tags; BentoML's, so that its own paths stand with ours."""

JsonObject = dict[str, Any]
"""A piece of the document."""


@dataclass(frozen=True)
class Operation:
    """An endpoint as a reader sees it."""

    name: str
    """Its operationId; that of the service's method, where it has one."""
    answer: type[BaseModel] | None = None
    """Of success, as JSON."""
    words: str = ""
    """A line, and after an empty one what else there is to say; else the method's docstring."""
    request: type[BaseModel] | None = None
    examples: Mapping[str, JsonObject] = field(default_factory=dict)
    """Bodies to try, by what they are for."""
    example: JsonObject | None = None
    """An answer, where the model of answers has none."""
    status: int = HTTPStatus.OK
    parameters: Sequence[JsonObject] = ()
    refusals: Sequence[int] = ()
    """Statuses that its route does not imply."""
    tag: str = API
    media_type: str = "application/json"
    """Of the answer."""


def path_parameter(name: str, description: str, example: str) -> JsonObject:
    """A part of the path."""
    schema = {"type": "string", "minLength": 1}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
        "example": example,
    }


RULE_ID = path_parameter("rule_id", "As `GET /rules` lists it.", "0f5c1e3a9b7d4f60a1c2d3e4f5a6b7c8")

USER = {
    "name": "X-Fbt-User",
    "in": "header",
    "required": False,
    "description": "Who changes something, for the record: up to 128 printable characters.",
    "schema": {"type": "string"},
    "example": "ann",
}

QUESTIONS: Mapping[str, JsonObject] = {
    "a product page": {"items": ["85123A"], "k": 4},
    "a cart, filtered and explained": {
        "items": ["85123A", "22423"],
        "k": 4,
        "filters": {"category": {"exclude": ["Toys"]}, "price": {"max": 20}, "in_stock": True},
        "explain": True,
    },
    "the checkout, few and sure": {"items": ["85123A"], "context": "checkout", "strict": True},
    "a brand new product": {
        "items": ["brand new"],
        "attributes": {"name": "Blue regency teacup", "category": "Kitchen", "price": 2.95},
    },
}

RULES_TO_TRY: Mapping[str, JsonObject] = {
    "pin beside one product": {
        "action": "pin",
        "target": {"product_id": "22423"},
        "when": {"product_id": "85123A"},
        "position": 1,
        "ends_at": "2030-01-01T00:00:00Z",
        "note": "The cake stand beside the teacup, until stock is gone",
    },
    "block a brand": {"action": "block", "target": {"brand": "Recalled & Co"}},
    "bury a category": {"action": "bury", "target": {"category": "Gift wrap"}, "factor": 3},
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/recommend"): Operation(
        "recommend", RecommendResponse, request=RecommendRequest, examples=QUESTIONS
    ),
    ("POST", "/recommend/batch"): Operation(
        "recommend_batch",
        BatchResponse,
        request=BatchRequest,
        examples={"two pages": {"requests": [{"items": ["85123A"]}, {"items": ["22423"]}]}},
        example={"responses": [RecommendResponse.model_config["json_schema_extra"]["example"]]},  # type: ignore[index]
    ),
    ("POST", "/similar"): Operation(
        "similar",
        RecommendResponse,
        request=SimilarRequest,
        examples={
            "instead of a product": {"item": "85123A", "k": 4},
            "instead of what is described": {"attributes": {"name": "Blue regency teacup"}},
        },
    ),
    ("GET", "/products"): Operation(
        "search_products",
        SearchResponse,
        "Products by name, id, category or brand, whatever the spelling.\n\n"
        "What fits best comes first, then what is bought most; `match` says how each was found.",
        parameters=[
            {
                "name": "q",
                "in": "query",
                "required": True,
                "description": "What is looked for. The last word may be the beginning of one.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 256},
                "example": "tea cup",
            },
            {
                "name": "limit",
                "in": "query",
                "required": False,
                "description": "The most products to find.",
                "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
                "example": 5,
            },
        ],
        refusals=[400],
    ),
    ("GET", "/products/{product_id:rest}"): Operation(
        "product",
        Product,
        "A product's card, and whether the model knows it.",
        parameters=[path_parameter("product_id", "The product's id, percent-encoded.", "85123A")],
        refusals=[404],
    ),
    ("GET", "/model"): Operation(
        "model",
        AboutModel,
        "What answers.\n\nThe model's version, data, measured quality and files.",
    ),
    ("POST", "/catalogue"): Operation(
        "change_catalogue",
        CatalogueAnswer,
        "Change product cards and stock, or delete products.\n\n"
        "Every process that serves knows it within five seconds, and keeps it for the next model.",
        request=CatalogueRequest,
        examples={
            "out of stock": {"upsert": [{"product_id": "85123A", "in_stock": False}]},
            "a price and a deletion": {
                "upsert": [{"product_id": "85123A", "price": 2.75}],
                "delete": ["22423"],
            },
        },
    ),
    ("GET", "/rules"): Operation(
        "rules",
        RuleList,
        "All rules, oldest first, whether their time has come or not.",
        example={
            "revision": 42,
            "rules": [Rule.model_config["json_schema_extra"]["example"]],  # type: ignore[index]
            "malformed": [],
        },
    ),
    ("POST", "/rules"): Operation(
        "add_rule",
        Rule,
        "Pin, block, boost or bury.\n\nEvery process that serves heeds it within five seconds.",
        request=RuleRequest,
        examples=RULES_TO_TRY,
        status=HTTPStatus.CREATED,
        parameters=[USER],
        refusals=[HTTPStatus.CONFLICT],
    ),
    ("GET", "/rules/{rule_id}"): Operation(
        "rule", Rule, "One rule.", parameters=[RULE_ID], refusals=[HTTPStatus.NOT_FOUND]
    ),
    ("PUT", "/rules/{rule_id}"): Operation(
        "replace_rule",
        Rule,
        "Put another rule in the place of one.",
        request=RuleRequest,
        examples=RULES_TO_TRY,
        parameters=[RULE_ID, USER],
        refusals=[HTTPStatus.NOT_FOUND],
    ),
    ("DELETE", "/rules/{rule_id}"): Operation(
        "delete_rule",
        None,
        "End a rule.",
        status=HTTPStatus.NO_CONTENT,
        parameters=[RULE_ID, USER],
        refusals=[HTTPStatus.NOT_FOUND],
    ),
    ("GET", "/readyz"): Operation(
        "ready",
        Ready,
        "Whether the service can answer, and how its parts are.\n\n"
        "A database that is away does not make it unready: `details` says so.",
        tag=INFRASTRUCTURE,
    ),
    ("GET", "/docs.json"): Operation(
        "document", None, "This document.", tag=INFRASTRUCTURE, example={"openapi": "3.1.0"}
    ),
    ("GET", "/"): Operation(
        "page", None, "This document as a page.", tag=INFRASTRUCTURE, media_type="text/html"
    ),
}
"""By method and route."""
