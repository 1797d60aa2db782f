"""The HTTP contract: what is asked, what is answered, how a refusal is explained.

The service's OpenAPI document is made of these models and their examples.
"""

import json
import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

ProductId = Annotated[str, StringConstraints(min_length=1, max_length=256)]

Source = Literal["model", "attribute_neighbours", "category_bestsellers", "bestsellers"]

SOURCES: tuple[str, ...] = get_args(Source)


class ProductAttributes(BaseModel):
    """What is written on a product that the model does not know, such as one that is brand new."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={
            "example": {"name": "Blue regency teacup", "category": "Kitchen", "price": 2.95}
        },
    )

    name: str | None = Field(default=None, max_length=1000)
    category: str | None = Field(default=None, max_length=256)
    brand: str | None = Field(default=None, max_length=256)
    price: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Per unit, in the shop's currency."
    )

    @model_validator(mode="after")
    def _say_something(self) -> Self:
        if not any((text or "").strip() for text in (self.name, self.category, self.brand)):
            raise PydanticCustomError("says_nothing", "a name, a category or a brand")
        return self


class RecommendRequest(BaseModel):
    """One product, or the products of a cart, to find companions for."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={"example": {"items": ["85123A", "22423"], "k": 2}},
    )

    attributes: ProductAttributes | None = Field(
        default=None,
        description="Of the one product asked for; `items` then holds its id or nothing. They are "
        "heard when the model does not know that id.",
    )
    items: list[ProductId] = Field(
        default=[],
        validate_default=True,
        max_length=50,
        description="Product ids: one for a product page, several for a cart, at least one where "
        "there are no `attributes`; the latest last. Repetition does not matter, and order only "
        "where the model found that it tells something.",
    )
    k: int = Field(
        default=10,
        ge=1,
        le=100,
        description="How many companions; fewer come only when the catalogue has no more.",
    )

    @field_validator("items")
    @classmethod
    def _suit_attributes(cls, items: list[str], info: ValidationInfo) -> list[str]:
        # Of wrong attributes, which are missing here, their own complaint tells.
        described = info.data.get("attributes", True)
        if not items and not described:
            raise PydanticCustomError("items_missing", "1 to 50 product ids, or attributes")
        if isinstance(described, ProductAttributes) and len(set(items)) > 1:
            raise PydanticCustomError("items_many", "at most one product id beside attributes")
        return items


class SimilarRequest(BaseModel):
    """One product to find substitutes for."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={"example": {"item": "85123A", "k": 2}},
    )

    attributes: ProductAttributes | None = Field(
        default=None, description="Heard when the model does not know `item`, or there is none."
    )
    item: ProductId | None = Field(
        default=None, validate_default=True, description="The product's id."
    )
    k: int = Field(default=10, ge=1, le=100, description="How many substitutes, at most.")

    @field_validator("item")
    @classmethod
    def _or_attributes(cls, item: str | None, info: ValidationInfo) -> str | None:
        if item is None and not info.data.get("attributes", True):
            raise PydanticCustomError("item_missing", "a product id, or attributes")
        return item


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
    """Companions or substitutes, best first, never one of the products asked for."""

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
        "the model: what products with like attributes say, bestsellers of the same categories, "
        "bestsellers of the whole catalogue."
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
    complaints = error.errors(include_url=False)[:20]
    return [_field_error(complaint, error.title) for complaint in complaints]


REQUESTS: dict[str, type[BaseModel]] = {
    model.__name__: model for model in (RecommendRequest, SimilarRequest)
}


def _field_error(complaint: Any, request: str) -> FieldError:
    kind, message = complaint["type"], complaint["msg"]
    field = ".".join(str(part) for part in complaint["loc"]) or "body"
    if kind == "missing":
        return FieldError(field=field, found="nothing", expected="a value, as it is required")
    if kind == "extra_forbidden":
        model = REQUESTS[request] if len(complaint["loc"]) == 1 else ProductAttributes
        known = ", ".join(sorted(model.model_fields))
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
