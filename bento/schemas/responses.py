"""Response bodies of the recommendation, search and status endpoints."""

from typing import Any, Literal, get_args

from pydantic import Field

from bento.schemas.base import Response, example

Source = Literal["model", "attribute_neighbours", "category_bestsellers", "bestsellers"]

SOURCES: tuple[str, ...] = get_args(Source)

ItemSource = Literal[Source, "embeddings", "pin"]

ITEM_SOURCES: tuple[str, ...] = get_args(ItemSource)

Match = Literal["id", "name", "id_start", "words", "typos", "some_words"]

Mark = Literal["thin_evidence", "sensitive", "out_of_season"]

ProposedBy = Literal["counts", "neighbours", "embeddings"]

SCORE_PARTS = {
    "in_out": "of a product page, input vector times output vector",
    "popularity": "of a page, log of the share of orders, weighted",
    "trend": "of a page, trend of sales, weighted",
    "counts": "orders with both, by their size-weighted probability",
    "neighbours": "of a cart, regression weights of co-purchased products",
    "cosine": "of a cart, between the orders of both; of `/similar`, between input vectors",
    "vectors": "of a cart, the largest softmax probability by vectors",
    "blend": "sum of those before",
    "log_odds": "of a cart, by the re-ranker alone",
    "expected_gain": "NDCG@10 expected of the product in first place",
    "chance_taken_off": "what chance would earn of it, times the popularity discount",
    "description": "of `/similar`, likeness of name, category, brand and price",
}
"""Names stay the same between releases."""


def _describe_parts() -> str:
    return "; ".join(f"`{name}`: {text}" for name, text in SCORE_PARTS.items())


_TEACUP = {
    "product_id": "22699",
    "name": "Roses regency teacup and saucer",
    "category": "Kitchen",
    "brand": None,
    "price": 2.95,
    "image_url": None,
    "in_stock": True,
}


class Because(Response):
    """The products bought together that led to this one."""

    product_id: str = Field(description="The product asked for with the strongest evidence.")
    bought_together: int = Field(description="Orders with both.")
    support: float = Field(description="Share of all orders that have both.")
    confidence: float = Field(description="Share of the orders with `product_id` that have both.")
    lift: float = Field(
        description="`confidence` over the share of all orders that have the product. Large orders "
        "raise it for every pair; `times_more_often` is adjusted for that."
    )
    expected: float | None = Field(
        default=None,
        description="Orders that would have both by chance, given the sizes of the orders with "
        "`product_id`; null in models that did not count it.",
    )
    times_more_often: float | None = Field(
        default=None, description="`bought_together` over `expected`; null as that."
    )


class ProductCard(Response):
    """A product's record in the catalogue; unknown values are null."""

    product_id: str
    name: str | None = None
    category: str | None = None
    brand: str | None = None
    price: float | None = Field(default=None, description="Per unit, in the shop's currency.")
    image_url: str | None = None
    in_stock: bool | None = None
    attributes: dict[str, str] = Field(
        default={}, description="The shop's own attributes, by name."
    )


class Product(ProductCard):
    """A product's record in the catalogue and in the model."""

    model_config = example(**_TEACUP, known_to_model=True, orders=1204)

    known_to_model: bool = Field(
        description="Whether enough orders have it for the model to recommend companions."
    )
    orders: int | None = Field(
        description="Training orders with it; null if the model does not know it."
    )


class FoundProduct(ProductCard):
    """A product found by a search."""

    match: Match = Field(
        description="The kind of match: `id`, the whole `name`, the start of the id, all `words`, "
        "all words with `typos`, or `some_words` only."
    )


class SearchResponse(Response):
    """Products found, the best match first, then the most bought."""

    model_config = example(items=[{**_TEACUP, "match": "words"}])

    items: list[FoundProduct]


class RecommendedProduct(ProductCard):
    """A recommended product with its score."""

    score: float | None = Field(
        description="Higher is better; null for a product pinned by a rule. Comparable only within "
        "one answer.",
    )
    source: ItemSource = Field(
        description="`model`: bought together with a product asked for at least twice and, with "
        "95 % confidence, more often than by chance (of `/similar`: alike). `embeddings`: near by "
        "vectors and popularity, not proven by orders. Else the fallback, or `pin` if a rule put "
        "it there."
    )
    because_of: Because | None = Field(
        default=None, description="Given with `explain`; null if nothing was bought together."
    )
    proposed_by: ProposedBy | None = Field(
        default=None,
        description="Given with `explain` for companions of source `model` or `embeddings`: the "
        "candidate source. "
        "`counts` of orders with both, `neighbours` (in a cart: a regression over co-purchased "
        "products) or `embeddings` (vectors and popularity).",
    )
    marks: list[Mark] | None = Field(
        default=None,
        description="Given with `explain`: what a person should look at first. `thin_evidence`: "
        "among the first five by the model, but fewer than 5 orders have both. `sensitive`: "
        "tobacco, alcohol, infant formula, medicine or adult goods, of another class than the "
        "products asked for. `out_of_season`: at this time of the year it sells far less than in "
        "the rest.",
    )
    moved_by: list[str] | None = Field(
        default=None,
        description="Given with `explain`: ids of the rules that put it where it is. A pin, boosts "
        "and buries of it, an `exempt` that let it in, and each `set` whose settings the list "
        "follows.",
    )
    score_parts: dict[str, float] | None = Field(
        default=None,
        description="Given with `explain` for products of source `model` or `embeddings`: "
        f"parts of the score, by stable names. {_describe_parts()}. Similar products score the sum "
        "of their parts. Companions score `blend` or, where a re-ranker or a popularity discount "
        "orders them, `expected_gain` less `chance_taken_off`; the parts before need not add up to "
        "that. Products without proof score less than their parts: no more than those before them.",
    )


class LeftOut(Response):
    """A product that a rule removed."""

    product_id: str
    rule_id: str = Field(description="The oldest of the rules that block it here.")


class Fallback(Response):
    """The fallback that answered, and the reason."""

    used: Source
    reason: str


_ANSWER: dict[str, Any] = {
    "request_id": "f2a1c9d07b5e4a3f8a4f0a1b2c3d4e5f",
    "model_version": "3",
    "variant": "default",
    "source": "model",
    "fallback": None,
    "message": None,
    "unknown": [],
    "items": [
        {
            **_TEACUP,
            "score": 7.4213,
            "source": "model",
            "because_of": {
                "product_id": "22423",
                "bought_together": 412,
                "support": 0.0206,
                "confidence": 0.2174,
                "lift": 9.82,
                "expected": 51.3,
                "times_more_often": 8.03,
            },
            "marks": [],
        }
    ],
}


class RecommendResponse(Response):
    """Companions or substitutes, best first, without the products asked for."""

    model_config = example(**_ANSWER)

    request_id: str = Field(description="The request's X-Request-Id header, or a generated id.")
    model_version: str = Field(description="The registered model version that answered.")
    variant: str = Field(
        description="The arm of an experiment, else the request's `variant`, else the deployment's."
    )
    items: list[RecommendedProduct]
    source: Source = Field(
        description="`model`, or the fallback used because the model knows none of the products "
        "asked for: companions of products with similar attributes, bestsellers of the same "
        "categories, or bestsellers of the whole catalogue."
    )
    fallback: Fallback | None = Field(description="The fallback that answered, if one did.")
    message: str | None = Field(description="The reason for fewer than `k` products, if so.")
    unknown: list[str] = Field(description="Products asked for that the model does not know.")
    left_out: list[LeftOut] | None = Field(
        default=None,
        description="Given with `explain`: products that the answer would have without rules that "
        "block, best first.",
    )


class BatchResponse(Response):
    """Answers in the order of the requests."""

    model_config = example(responses=[_ANSWER])

    responses: list[RecommendResponse]


class AboutIndex(Response):
    """Parameters and recall of the approximate nearest-neighbour index."""

    m: int
    ef_construction: int
    ef: int
    recall_at_10: float = Field(description="Share of the exact top ten that it finds.")


class AboutModel(Response):
    """The model that answers, its training data and its validation metrics."""

    model_config = example(
        model_version="3",
        variant="default",
        created_at="2026-01-01T04:00:00+00:00",
        data_window=["2024-12-01T08:26:00+00:00", "2025-12-09T12:50:00+00:00"],
        n_items=3812,
        n_products=4213,
        n_changed=17,
        n_orders=21873,
        dims=64,
        format_version=1,
        git_revision="3c666acbd3c5",
        code_version="b1946ac92492",
        config={"epochs": 15},
        ranking={"ndcg": 0.19},
        index=None,
        files={"in_vectors.npy": "9f86d081884c7d659a2feaa0c55ad015"},
    )

    model_version: str = Field(description="The registered model version that answers.")
    variant: str = Field(description="The deployment's.")
    created_at: str = Field(description="Time of the bundle build, ISO 8601, UTC.")
    data_window: tuple[str, str] | None = Field(
        description="First and last training order, ISO 8601; null for data without times."
    )
    n_items: int = Field(description="Products that the model knows.")
    n_products: int = Field(description="Products in the catalogue, later additions included.")
    n_changed: int = Field(description="Products changed since the build by `POST /catalogue`.")
    n_orders: int = Field(description="Training orders, the base of support and lift.")
    dims: int
    format_version: int = Field(description="The bundle's.")
    git_revision: str = Field(description="Of the training code; may be empty.")
    code_version: str = Field(description="Hash of the training code; may be empty.")
    config: dict[str, Any] = Field(description="The training configuration.")
    ranking: dict[str, Any] = Field(description="Metrics on validation baskets.")
    index: AboutIndex | None = Field(description="null if search is exact.")
    files: dict[str, str] = Field(description="sha256 of every file of the bundle.")


class Ready(Response):
    """The service is ready; the state of its parts."""

    model_config = example(
        status="ready",
        model_version="3",
        variant="default",
        details={"database": {"state": "fresh", "revision": 42}},
    )

    status: Literal["ready"]
    model_version: str
    variant: str
    details: dict[str, Any] = Field(description="The state of each part, by its name.")
