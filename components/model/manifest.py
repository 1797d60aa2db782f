"""bundle.json: everything about a model that is not an array."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from components.model.kind_limits import KindLimits
from components.model.reranking import Calibration

MANIFEST_FILE = "bundle.json"
FORMAT_VERSION = 1
READ_FORMATS = range(1, FORMAT_VERSION + 1)

PopularityDiscount = Annotated[float, Field(ge=0, le=1)]
"""Share of what a product would earn by chance that is taken off."""


class IndexStats(BaseModel):
    """Of an hnswlib index, beside its file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    m: int
    ef_construction: int
    ef: int
    """Search breadth: the smallest that reached the target recall."""
    recall_at_10: float


class SearchStats(BaseModel):
    """Milliseconds of CPU per item page when the bundle was made; None where not tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exact_ms: float
    companions_ms: float | None = None
    companions_recall_at_10: float | None = None
    index_ms: float | None = None
    tried: IndexStats | None = None
    """Used or not."""

    @property
    def is_index_faster(self) -> bool:
        return self.index_ms is not None and self.index_ms < self.exact_ms

    def describe(self) -> str:
        parts = [f"exact search takes {self.exact_ms:.2f} ms of CPU a page"]
        if self.companions_ms is not None and self.companions_recall_at_10 is not None:
            found = f"finds {self.companions_recall_at_10:.1%} of the exact ten best"
            parts.append(f"search among companions, which {found}, {self.companions_ms:.2f} ms")
        if self.index_ms is not None and self.tried is not None:
            found = f"finds {self.tried.recall_at_10:.1%} of the exact ten best"
            parts.append(f"an index, which {found} at ef {self.tried.ef}, {self.index_ms:.2f} ms")
        return ", ".join(parts)


class SubstituteSearch(BaseModel):
    """How substitutes are searched; milliseconds of CPU a question when the bundle was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: IndexStats
    exact_ms: float
    index_ms: float
    by_index: bool
    """Whether the index answers; else it lies in the bundle and is not loaded."""

    def describe(self) -> str:
        return (
            f"exact search takes {self.exact_ms:.2f} ms of CPU, the index of the input vectors, "
            f"which finds {self.index.recall_at_10:.1%} of the exact ten best at ef "
            f"{self.index.ef}, {self.index_ms:.2f} ms"
        )


class CartWeights(BaseModel):
    """Of the parts of a cart's scores, see `CartRanker`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vectors: float = Field(default=1.0, ge=0)
    cooccurrence: float = Field(default=0.0, ge=0)
    neighbours: float = Field(default=0.0, ge=0)
    cosine: float = Field(default=0.0, ge=0)
    """Between the baskets of two products."""
    trend: float = Field(default=0.0, ge=0)
    """Exponent, not weight."""


class Blend(BaseModel):
    """Weights tuned on validation baskets, see `ItemRanker` and `CartRanker`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta_single: float = 0.75
    """Of log popularity on item pages."""
    page_cooccurrence: float = Field(default=0.0, ge=0)
    page_trend: float = Field(default=0.0, ge=0)
    cart_weights: CartWeights = CartWeights()
    cart_recency: float = Field(default=1.0, gt=0, le=1)
    """Factor of a product's weight for every product added later; 1 ignores the order."""
    cart_mix: float = Field(default=0.0, ge=0)
    """Of the blend beside the re-ranker, see `mix_log_odds`."""
    page_calibration: Calibration = Calibration()
    """Of a re-ranker's mixed log odds."""
    cart_calibration: Calibration = Calibration()
    popularity_discount: PopularityDiscount = 0.0
    """Applied to the expected gains of re-rankers."""


class Manifest(Blend):
    """Content of bundle.json."""

    format_version: int = FORMAT_VERSION
    created_at: str
    """ISO 8601, UTC."""
    n_items: int
    """Products with vectors, the first of `n_products`."""
    n_products: int
    n_orders: int
    """Training baskets."""
    dims: int
    beta_cart: float = 0.25
    """Of log popularity in the softmax of carts."""
    index: IndexStats | None = None
    """None where item pages are ranked without one."""
    max_own_kind: int | None = Field(default=None, ge=0)
    """Most of a kind asked for among the first five products; None is no limit."""
    max_same_kind: int | None = Field(default=None, ge=1)
    """As `max_own_kind`, of any kind."""
    among_companions: bool = False
    """Whether item pages are ranked among companions and theirs only."""
    search: SearchStats | None = None
    """None for small catalogues."""
    substitutes: SubstituteSearch | None = None
    """None in older bundles, which have no index of IN vectors."""
    data_window: tuple[str, str] | None = None
    """First and last order, ISO 8601; None for data without timestamps."""
    git_revision: str = ""
    code_version: str = ""
    seed: int = 0
    config: dict[str, Any] = Field(default_factory=dict)
    """Of training, as the sweep chose it."""
    ranking: dict[str, Any] = Field(default_factory=dict)
    """See `train_ranking`."""
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 by name."""

    @property
    def kind_limits(self) -> KindLimits:
        return KindLimits(self.max_own_kind, self.max_same_kind)

    @property
    def search_recall(self) -> float | None:
        """Share of the exact ten best that search finds, the lower of item pages and substitutes.

        None where both are exact.
        """
        found = [self.index.recall_at_10 if self.index else None]
        if self.among_companions and self.search:
            found = [self.search.companions_recall_at_10]
        if self.substitutes and self.substitutes.by_index:
            found.append(self.substitutes.index.recall_at_10)
        return min((one for one in found if one is not None), default=None)
