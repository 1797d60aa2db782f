"""The HTTP contract: what is asked, what is answered, how a refusal is explained.

The service's OpenAPI document is made of these models and their examples.
"""

import json
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

ProductId = Annotated[str, StringConstraints(min_length=1, max_length=256)]

Source = Literal["model", "category_bestsellers", "bestsellers"]

SOURCES: tuple[str, ...] = get_args(Source)


class RecommendRequest(BaseModel):
    """One product, or the products of a cart, to find companions for."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={"example": {"items": ["85123A", "22423"], "k": 2}},
    )

    items: list[ProductId] = Field(
        min_length=1,
        max_length=50,
        description="Product ids: one for a product page, several for a cart. Order and repetition "
        "do not matter.",
    )
    k: int = Field(
        default=10,
        ge=1,
        le=100,
        description="How many companions; fewer come only when the catalogue has no more.",
    )


class RecommendedProduct(BaseModel):
    """A product card with its score. What the catalogue does not know is null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: str
    name: str | None = None
    category: str | None = None
    brand: str | None = None
    price: float | None = Field(default=None, description="Per unit, in the shop's currency.")
    image_url: str | None = None
    score: float | None = Field(
        description="Higher is better. Comparable within one answer, not between answers.",
    )


class RecommendResponse(BaseModel):
    """Companions, best first, never one of the products asked for."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        json_schema_extra={
            "example": {
                "request_id": "f2a1c9d07b5e4a3f8a4f0a1b2c3d4e5f",
                "model_version": "3",
                "source": "model",
                "items": [
                    {
                        "product_id": "22699",
                        "name": "Roses regency teacup and saucer",
                        "category": "Kitchen",
                        "brand": None,
                        "price": 2.95,
                        "image_url": None,
                        "score": 7.4213,
                    },
                    {
                        "product_id": "22697",
                        "name": "Green regency teacup and saucer",
                        "category": "Kitchen",
                        "brand": None,
                        "price": 2.95,
                        "image_url": None,
                        "score": 7.1052,
                    },
                ],
                "unknown": [],
            }
        },
    )

    request_id: str = Field(description="The request's X-Request-Id if it had one, else made up.")
    model_version: str = Field(description="The registered model version that answered.")
    items: list[RecommendedProduct]
    source: Source = Field(
        description="`model`, or the fallback used because every product asked for is unknown to "
        "the model: bestsellers of their categories, or of the whole catalogue."
    )
    unknown: list[str] = Field(description="Products asked for that the model does not know.")


class FieldError(BaseModel):
    """One thing wrong with a request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str = Field(description="Where: a field, or a place in it such as `items.3`.")
    found: str
    expected: str


class Problem(BaseModel):
    """Why a request was refused (RFC 9457, application/problem+json)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Bad Request",
                "status": 400,
                "detail": "k: found 101, expected less than or equal to 100",
                "errors": [{"field": "k", "found": "101", "expected": "less than or equal to 100"}],
            }
        },
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = Field(default_factory=list)


def field_errors(error: ValidationError) -> list[FieldError]:
    """What is wrong with a request, where, and what was expected; at most 20 complaints."""
    return [_field_error(complaint) for complaint in error.errors(include_url=False)[:20]]


def _field_error(complaint: Any) -> FieldError:
    kind, message = complaint["type"], complaint["msg"]
    field = ".".join(str(part) for part in complaint["loc"]) or "body"
    if kind == "missing":
        return FieldError(field=field, found="nothing", expected="a value, as it is required")
    if kind == "extra_forbidden":
        known = " and ".join(RecommendRequest.model_fields)
        return FieldError(field=field, found="an unknown field", expected=f"only {known}")
    if kind == "json_invalid":
        found = message.removeprefix("Invalid JSON: ")
        return FieldError(field=field, found=found, expected="a JSON object in UTF-8")
    expected = re.sub(r"^\w+ should (be|have) | after validation, not .*$", "", message)
    return FieldError(field=field, found=_as_json(complaint["input"]), expected=expected)


def _as_json(found: Any, limit: int = 80) -> str:
    if isinstance(found, list):
        return f"a list of {len(found)}"
    if isinstance(found, dict):
        return "an object"
    text = json.dumps(found, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
