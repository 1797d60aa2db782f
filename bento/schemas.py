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

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)
"""Of everything that is asked: an unknown field or another type is a mistake."""

FilterText = Annotated[str, StringConstraints(min_length=1, max_length=256)]

Context = Literal["product_page", "cart", "checkout"]

Sort = Literal["relevance", "price", "price_descending", "popularity", "newest", "margin"]

PRICE_RATIO = 30.0
"""By default no 900 € companion for a 5 € product: of what was bought together in Online Retail,
one pair in 600 is further apart."""

Source = Literal["model", "attribute_neighbours", "category_bestsellers", "bestsellers"]

SOURCES: tuple[str, ...] = get_args(Source)

MAX_FIELD_ERRORS = 20
"""Of what is wrong with a request, so many are told."""

Match = Literal["id", "name", "id_start", "words", "typos", "some_words"]

ItemSource = Literal["model", "attribute_neighbours", "category_bestsellers", "bestsellers", "pin"]


class ProductAttributes(BaseModel):
    """What is written on a product that the model does not know, such as one that is brand new."""

    model_config = STRICT | ConfigDict(
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


class TextFilter(BaseModel):
    """Which texts a product may have, and which not."""

    model_config = STRICT

    include: list[FilterText] = Field(
        default=[], max_length=100, description="It has to have one of these; empty: any, or none."
    )
    exclude: list[FilterText] = Field(
        default=[], max_length=100, description="It must have none of these."
    )


class PriceFilter(BaseModel):
    """Which prices a product may have; one whose price is not known does not pass."""

    model_config = STRICT

    min: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise PydanticCustomError("bounds_crossed", "min to be at most max")
        return self


class Filters(BaseModel):
    """What has to be true of every product in the answer; all of it at once."""

    model_config = STRICT | ConfigDict(
        json_schema_extra={
            "example": {"category": {"exclude": ["Toys"]}, "price": {"max": 20}, "in_stock": True}
        },
    )

    category: TextFilter | None = None
    brand: TextFilter | None = None
    price: PriceFilter | None = None
    in_stock: bool | None = Field(
        default=None,
        description="true: not what is known to be out of stock; false: only that.",
    )
    attributes: dict[FilterText, TextFilter] = Field(
        default={}, max_length=20, description="By name: the shop's own attributes of its products."
    )


class BaseRequest(BaseModel):
    """What every question for recommendations may say about its answer."""

    model_config = STRICT

    k: int = Field(
        default=10,
        ge=1,
        le=100,
        description="How many; fewer come only when no more products may be shown.",
    )
    filters: Filters | None = None
    exclude: list[ProductId] = Field(
        default_factory=list,
        max_length=1000,
        description="Products that are not to be in the answer.",
    )
    sort: Sort = Field(
        default="relevance",
        description="Order of the `k` best: `price` from the cheapest, `price_descending`, "
        "`popularity` and `margin` from the highest, `newest`; what is not known comes last.",
    )
    explain: bool = Field(
        default=False, description="Say of every product why it is there, with the numbers."
    )
    session_id: str | None = Field(
        default=None, max_length=128, description="The visit, as the shop's events will name it."
    )
    variant: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Arm of an experiment that the shop runs; comes back in the answer.",
    )


class RecommendRequest(BaseRequest):
    """One product, or the products of a cart, to find companions for."""

    model_config = STRICT | ConfigDict(
        json_schema_extra={"example": {"items": ["85123A", "22423"], "k": 2}},
    )

    attributes: ProductAttributes | None = Field(
        default=None,
        description="Of the one product asked for; `items` then holds its id or nothing. They are "
        "heard when the model does not know that id.",
    )
    items: list[ProductId] = Field(
        default_factory=list,
        validate_default=True,
        max_length=50,
        description="Product ids: one for a product page, several for a cart, at least one where "
        "there are no `attributes`; the latest last. Repetition does not matter, and order only "
        "where the model found that it tells something.",
    )
    context: Context | None = Field(
        default=None,
        description="Whose weights rank: those of a `product_page` (the last of `items` is the "
        "page's product), of a `cart`, or of a `checkout`, which is a cart to which nothing dearer "
        "than its dearest product is added unless `price_ratio` says so. Default: a product page "
        "for one product, a cart for several.",
    )
    diversity: float = Field(
        default=0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much likeness between the answer's products counts against them: 0 not "
        "at all, 1 as the only thing (maximal marginal relevance over vectors and categories).",
    )
    min_score: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="The lowest `score` to show; what is left is not filled up. Scores compare "
        "within one answer: who wants evidence asks for `strict`.",
    )
    strict: bool = Field(
        default=False,
        description="Few and sure: only products that were bought together with one of `items` "
        "more than once and more often than by chance, and no fallback. Else always `k`.",
    )
    price_ratio: float | None = Field(
        default=PRICE_RATIO,
        gt=0,
        allow_inf_nan=False,
        description="How many times as dear as the dearest of `items` a product may be. By "
        "default dearer ones come behind all others; when given, they do not come at all; null "
        "allows any price. Unknown prices pass.",
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


class BatchRequest(BaseModel):
    """Many questions at once."""

    model_config = STRICT | ConfigDict(
        json_schema_extra={
            "example": {"requests": [{"items": ["85123A"], "k": 1}, {"items": ["22423"], "k": 1}]}
        },
    )

    requests: list[RecommendRequest] = Field(min_length=1, max_length=1000)


class SimilarRequest(BaseRequest):
    """One product to find substitutes for."""

    model_config = STRICT | ConfigDict(
        json_schema_extra={"example": {"item": "85123A", "k": 2}},
    )

    attributes: ProductAttributes | None = Field(
        default=None, description="Heard when the model does not know `item`, or there is none."
    )
    item: ProductId | None = Field(
        default=None, validate_default=True, description="The product's id."
    )

    @field_validator("item")
    @classmethod
    def _or_attributes(cls, item: str | None, info: ValidationInfo) -> str | None:
        if item is None and not info.data.get("attributes", True):
            raise PydanticCustomError("item_missing", "a product id, or attributes")
        return item


ProposedBy = Literal["counts", "neighbours", "embeddings"]


class Because(BaseModel):
    """Why a product is in the answer: what was bought together with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: str = Field(description="The product asked for that speaks most for it.")
    bought_together: int = Field(description="Orders with both.")
    support: float = Field(description="Share of all orders that have both.")
    confidence: float = Field(description="Share of the orders with `product_id` that have both.")
    lift: float = Field(description="How many times as often as by chance they are in one order.")


class ProductCard(BaseModel):
    """What the catalogue knows of a product; what it does not know is null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: str
    name: str | None = None
    category: str | None = None
    brand: str | None = None
    price: float | None = Field(default=None, description="Per unit, in the shop's currency.")
    image_url: str | None = None
    in_stock: bool | None = None
    attributes: dict[str, str] = Field(default={}, description="The shop's own, by name.")


class Product(ProductCard):
    """A product card, and what the model knows of it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "product_id": "22699",
                "name": "Roses regency teacup and saucer",
                "category": "Kitchen",
                "brand": None,
                "price": 2.95,
                "image_url": None,
                "in_stock": True,
                "known_to_model": True,
                "orders": 1204,
            }
        },
    )

    known_to_model: bool = Field(
        description="Whether it was bought often enough to learn what it is bought with."
    )
    orders: int | None = Field(
        description="Training orders with it; null where the model does not know it."
    )


class SearchRequest(BaseModel):
    """What is typed to find products."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    q: str = Field(
        min_length=1,
        max_length=256,
        description="Some of a name, category or brand, or an id; the last word may be unfinished, "
        "and words of five letters or more may be misspelt.",
        examples=["regency teacup"],
    )
    limit: int = Field(default=10, ge=1, le=100, description="How many products at most.")

    @field_validator("q")
    @classmethod
    def _not_blank(cls, q: str) -> str:
        if not q.strip():
            raise PydanticCustomError("q_blank", "1 to 256 characters that are not all blank")
        return q


class FoundProduct(ProductCard):
    """A product card with what it was found by."""

    match: Match = Field(
        description="By its `id`, its whole `name`, the start of its id, all `words` typed, such "
        "words with `typos`, or `some_words` only."
    )


class SearchResponse(BaseModel):
    """Products found: what fits best comes first, then what is bought most."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "items": [
                    {
                        "product_id": "22699",
                        "name": "Roses regency teacup and saucer",
                        "category": "Kitchen",
                        "brand": None,
                        "price": 2.95,
                        "image_url": None,
                        "in_stock": True,
                        "match": "words",
                    }
                ]
            }
        },
    )

    items: list[FoundProduct]


class RecommendedProduct(ProductCard):
    """A product card with its score."""

    score: float | None = Field(
        description="Higher is better; null for what a rule put in. Comparable within one answer, "
        "not between answers.",
    )
    source: ItemSource = Field(
        description="`model`, the fallback it came from, or `pin`: a rule put it in its place."
    )
    because_of: Because | None = Field(
        default=None, description="When explained; null where nothing was ever bought together."
    )
    proposed_by: ProposedBy | None = Field(
        default=None,
        description="Of an explained companion of source `model`, the part that proposed it: "
        "`counts` of orders with both, or without any, `neighbours` (in a cart: a regression over "
        "products bought with those asked for) or `embeddings` (vectors and popularity).",
    )


class Fallback(BaseModel):
    """Which fallback answered, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    used: Source
    reason: str


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
                "variant": "default",
                "source": "model",
                "fallback": None,
                "message": None,
                "unknown": [],
                "items": [
                    {
                        "product_id": "22699",
                        "name": "Roses regency teacup and saucer",
                        "category": "Kitchen",
                        "brand": None,
                        "price": 2.95,
                        "image_url": None,
                        "in_stock": True,
                        "score": 7.4213,
                        "source": "model",
                        "because_of": {
                            "product_id": "22423",
                            "bought_together": 412,
                            "support": 0.0206,
                            "confidence": 0.2174,
                            "lift": 9.82,
                        },
                    }
                ],
            }
        },
    )

    request_id: str = Field(description="The request's X-Request-Id if it had one, else made up.")
    model_version: str = Field(description="The registered model version that answered.")
    variant: str = Field(description="The request's `variant`, else that of the deployment.")
    items: list[RecommendedProduct]
    source: Source = Field(
        description="`model`, or the fallback used because every product asked for is unknown to "
        "the model: what products with like attributes say, bestsellers of the same categories, "
        "bestsellers of the whole catalogue."
    )
    fallback: Fallback | None = Field(description="Whether and why a fallback answered.")
    message: str | None = Field(description="Why there are fewer than `k`, where there are.")
    unknown: list[str] = Field(description="Products asked for that the model does not know.")


class BatchResponse(BaseModel):
    """Answers in the order of the questions."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "responses": [RecommendResponse.model_config["json_schema_extra"]["example"]],  # type: ignore[index]
            }
        },
    )

    responses: list[RecommendResponse]


class AboutIndex(BaseModel):
    """How the search index was built, and what it was measured to find."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    m: int
    ef_construction: int
    ef: int
    recall_at_10: float = Field(description="Share of the exact ten best that it finds.")


class AboutModel(BaseModel):
    """What answers: the model, what it was learned from, and how good it was measured to be."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        json_schema_extra={
            "example": {
                "model_version": "3",
                "variant": "default",
                "created_at": "2026-01-01T04:00:00+00:00",
                "data_window": ["2024-12-01T08:26:00+00:00", "2025-12-09T12:50:00+00:00"],
                "n_items": 3812,
                "n_products": 4213,
                "n_changed": 17,
                "n_orders": 21873,
                "dims": 64,
                "format_version": 1,
                "git_revision": "3c666acbd3c5",
                "code_version": "b1946ac92492",
                "config": {"epochs": 15},
                "ranking": {"ndcg": 0.19},
                "index": None,
                "files": {"in_vectors.npy": "9f86d081884c7d659a2feaa0c55ad015"},
            }
        },
    )

    model_version: str = Field(description="The registered model version that answers.")
    variant: str = Field(description="That of the deployment.")
    created_at: str = Field(description="When the bundle was made, ISO 8601, UTC.")
    data_window: tuple[str, str] | None = Field(
        description="First and last order learned from, ISO 8601; null for data without times."
    )
    n_items: int = Field(description="Products that the model knows.")
    n_products: int = Field(description="Products of the catalogue, those added since included.")
    n_changed: int = Field(description="Products changed since by `POST /catalogue`.")
    n_orders: int = Field(description="Orders learned from, the base of support and lift.")
    dims: int
    format_version: int = Field(description="Of the bundle.")
    git_revision: str = Field(description="Of the code that trained; may be empty.")
    code_version: str = Field(description="Hash of that code; may be empty.")
    config: dict[str, Any] = Field(description="The training configuration.")
    ranking: dict[str, Any] = Field(description="What was measured on validation baskets.")
    index: AboutIndex | None = Field(description="null where search is exact.")
    files: dict[str, str] = Field(description="sha256 of every file of the bundle.")


class Ready(BaseModel):
    """That the service can answer, and how its parts are."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        json_schema_extra={
            "example": {
                "status": "ready",
                "model_version": "3",
                "variant": "default",
                "details": {"database": {"state": "fresh", "revision": 42}},
            }
        },
    )

    status: Literal["ready"]
    model_version: str
    variant: str
    details: dict[str, Any] = Field(description="What every part says of itself, by its name.")


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


def field_errors(error: ValidationError, model: type[BaseModel]) -> list[FieldError]:
    """What is wrong with a `model`, where, and what was expected; at most MOST_COMPLAINTS."""
    complaints = error.errors(include_url=False)[:MAX_FIELD_ERRORS]
    return [_field_error(one, model) for one in complaints]


def shorten(text: str, limit: int = 80) -> str:
    """A text of any length, to be shown."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _field_error(complaint: Any, model: type[BaseModel]) -> FieldError:
    kind, message = complaint["type"], complaint["msg"]
    field = ".".join(shorten(str(part)) for part in complaint["loc"]) or "body"
    if kind == "missing":
        return FieldError(field=field, found="nothing", expected="a value, as it is required")
    if kind == "extra_forbidden":
        known = ", ".join(sorted(_model_at(model, complaint["loc"][:-1]).model_fields))
        return FieldError(field=field, found="an unknown field", expected=f"only {known}")
    if kind == "json_invalid":
        found = message.removeprefix("Invalid JSON: ")
        return FieldError(field=field, found=found, expected="a JSON object in UTF-8")
    expected = re.sub(r"^\w+ should (be|have) | after validation, not .*$", "", message)
    return FieldError(field=field, found=_as_json(complaint["input"]), expected=expected)


def _model_at(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that is found at a place inside of another."""
    for part in place:
        field = model.model_fields.get(str(part))
        inner = _models_in(field.annotation) if field else []
        model = inner[0] if inner else model
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _as_json(found: Any) -> str:
    if isinstance(found, list):
        return f"a list of {len(found)}"
    if isinstance(found, dict):
        return "an object"
    return shorten(json.dumps(found, ensure_ascii=False))
