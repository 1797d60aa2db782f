"""Request bodies of the recommendation and search endpoints."""

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bento.schemas.base import Request, example
from components.model.kind_limits import MaxOwnKind, MaxSameKind

ProductId = Annotated[str, StringConstraints(min_length=1, max_length=256)]

FilterText = Annotated[str, StringConstraints(min_length=1, max_length=256)]

Context = Literal["product_page", "cart", "checkout"]

Sort = Literal["relevance", "price", "price_descending", "popularity", "newest", "margin"]

PRICE_RATIO = 30.0
"""Default limit of a companion's price, as a multiple of the dearest product asked for. In Online
Retail one pair in 600 is further apart."""


class ProductAttributes(Request):
    """Attributes of a product that the model does not know, such as a new one."""

    model_config = example(name="Blue regency teacup", category="Kitchen", price=2.95)

    name: str | None = Field(default=None, max_length=1000)
    category: str | None = Field(default=None, max_length=256)
    brand: str | None = Field(default=None, max_length=256)
    price: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Per unit, in the shop's currency."
    )

    @model_validator(mode="after")
    def _check_not_blank(self) -> Self:
        if not any((text or "").strip() for text in (self.name, self.category, self.brand)):
            raise PydanticCustomError("says_nothing", "a name, a category or a brand")
        return self


class TextFilter(Request):
    """The values that an attribute may have, and those that it may not have."""

    include: list[FilterText] = Field(
        default=[],
        max_length=100,
        description="The product has one of these values. Empty: no restriction.",
    )
    exclude: list[FilterText] = Field(
        default=[], max_length=100, description="The product has none of these values."
    )


class PriceFilter(Request):
    """A price range. Products without a known price do not pass."""

    min: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise PydanticCustomError("bounds_crossed", "min to be at most max")
        return self


class Filters(Request):
    """Conditions that every product in the answer meets, all at once."""

    model_config = example(category={"exclude": ["Toys"]}, price={"max": 20}, in_stock=True)

    category: TextFilter | None = None
    brand: TextFilter | None = None
    price: PriceFilter | None = None
    in_stock: bool | None = Field(
        default=None,
        description="true leaves out products known to be out of stock, as answers do by default; "
        "false shows only those.",
    )
    attributes: dict[FilterText, TextFilter] = Field(
        default={}, max_length=20, description="Filters on the shop's own attributes, by name."
    )


class BaseRequest(Request):
    """Fields that all recommendation requests share."""

    k: int = Field(
        default=10,
        ge=1,
        le=100,
        description="Number of products. The answer has fewer only if no more may be shown.",
    )
    filters: Filters | None = None
    include_out_of_stock: bool = Field(
        default=False,
        description="Also show products known to be out of stock. A `filters.in_stock` decides "
        "before it. Unknown stock is shown in any case.",
    )
    exclude: list[ProductId] = Field(
        default_factory=list, max_length=1000, description="Products to leave out."
    )
    sort: Sort = Field(
        default="relevance",
        description="Order of the `k` best products: `price` is cheapest first, "
        "`price_descending`, `popularity` and `margin` are highest first, `newest` is latest "
        "first. Products with an unknown value come last.",
    )
    explain: bool = Field(
        default=False, description="Add to every product the reason for it, with figures."
    )
    rules: bool = Field(
        default=True,
        description="Whether merchandising rules apply; false shows the model alone.",
    )
    session_id: str | None = Field(
        default=None,
        max_length=128,
        description="The visit, by its id in the shop's events. It decides the arm of an "
        "experiment.",
    )
    variant: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Arm of the shop's own experiment, which the answer repeats. During an "
        "experiment of the service: an arm that shall answer, outside of the experiment.",
    )


class RecommendRequest(BaseRequest):
    """A product or a cart to find companions for."""

    model_config = example(items=["85123A", "22423"], k=2)

    attributes: ProductAttributes | None = Field(
        default=None,
        description="Attributes of the one product asked for, whose id `items` may hold. They are "
        "used if the model does not know that id.",
    )
    items: list[ProductId] = Field(
        default_factory=list,
        validate_default=True,
        max_length=50,
        description="Product ids: one for a product page, several for a cart, the latest last. "
        "May be empty only with `attributes`. Repetitions are ignored; the order counts only if "
        "the model was trained to use it.",
    )
    context: Context | None = Field(
        default=None,
        description="Selects the ranking: `product_page` (the last of `items` is the page's "
        "product), `cart`, or `checkout`: a cart where no companion is dearer than the dearest "
        "product in it, unless `price_ratio` is given. Default: `product_page` for one product, "
        "`cart` for several.",
    )
    diversity: float = Field(
        default=0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Trade-off between relevance (0) and dissimilarity of the products shown (1): "
        "maximal marginal relevance over vectors and categories.",
    )
    max_own_kind: MaxOwnKind | None = Field(
        default=None,
        description="Most products of each kind asked for among the first five; a kind is a "
        "category or, without categories, products of similar name. -1 is no limit, null the "
        "service's. Where too little fits, the best of the others fill up.",
    )
    max_same_kind: MaxSameKind | None = Field(
        default=None, description="As `max_own_kind`, of any kind."
    )
    min_score: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Minimum `score`; the answer is not filled up. Scores are comparable only "
        "within one answer. To require evidence, use `strict`.",
    )
    strict: bool = Field(
        default=False,
        description="Show only products of source `model` (and pins): bought together with one of "
        "`items` at least twice and, with 95 % confidence, more often than by chance in baskets of "
        "the same sizes. The answer may then be short.",
    )
    price_ratio: float | None = Field(
        default=PRICE_RATIO,
        gt=0,
        allow_inf_nan=False,
        description="Price limit as a multiple of the dearest of `items`. The default moves "
        "dearer products to the end; a given value leaves them out; null means no limit. Products "
        "without a known price pass.",
    )

    @field_validator("items")
    @classmethod
    def _check_items(cls, items: list[str], info: ValidationInfo) -> list[str]:
        # Invalid attributes are missing here and have an error of their own.
        attributes = info.data.get("attributes", True)
        if not items and not attributes:
            raise PydanticCustomError("items_missing", "1 to 50 product ids, or attributes")
        if isinstance(attributes, ProductAttributes) and len(set(items)) > 1:
            raise PydanticCustomError("items_many", "at most one product id beside attributes")
        return items


class BatchRequest(Request):
    """Many recommendation requests at once."""

    model_config = example(requests=[{"items": ["85123A"], "k": 1}, {"items": ["22423"], "k": 1}])

    requests: list[RecommendRequest] = Field(min_length=1, max_length=1000)


class SimilarRequest(BaseRequest):
    """A product to find substitutes for."""

    model_config = example(item="85123A", k=2)

    attributes: ProductAttributes | None = Field(
        default=None, description="Used if the model does not know `item`, or `item` is missing."
    )
    item: ProductId | None = Field(
        default=None, validate_default=True, description="The product's id."
    )

    @field_validator("item")
    @classmethod
    def _check_item(cls, item: str | None, info: ValidationInfo) -> str | None:
        if item is None and not info.data.get("attributes", True):
            raise PydanticCustomError("item_missing", "a product id, or attributes")
        return item


class SearchRequest(BaseModel):
    """A product search."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    q: str = Field(
        min_length=1,
        max_length=256,
        description="Words of a name, category or brand, or an id. The last word may be "
        "incomplete; words of five or more letters may contain typos.",
        examples=["regency teacup"],
    )
    limit: int = Field(default=10, ge=1, le=100, description="Maximum number of products.")

    @field_validator("q")
    @classmethod
    def _check_not_blank(cls, q: str) -> str:
        if not q.strip():
            raise PydanticCustomError("q_blank", "1 to 256 characters that are not all blank")
        return q
