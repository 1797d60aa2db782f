"""bundle.json: everything about a model that is not an array."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION = 1


class IndexStats(BaseModel):
    """Parameters and measurements of an hnswlib index that its file does not hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    m: int
    ef_construction: int
    ef: int
    """Search breadth: the smallest candidate that reached the target recall."""
    recall_at_10: float
    """Share of the exact ten best that the index finds at `ef`, over sampled products."""


class SearchStats(BaseModel):
    """Costs of ranking one item page when the bundle was made, in milliseconds of CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exact_ms: float
    companions_ms: float | None = None
    """None, as the recall is, where the catalogue is too small to try."""
    companions_recall_at_10: float | None = None
    """Share of the exact ten best that are companions or companions of companions."""
    index_ms: float | None = None
    """None where no index was tried: building it takes longer than it could save."""
    tried: IndexStats | None = None
    """The index that was tried, used or not."""

    @property
    def is_index_faster(self) -> bool:
        return self.index_ms is not None and self.index_ms < self.exact_ms

    def describe(self) -> str:
        """The measurements in a sentence."""
        parts = [f"exact search takes {self.exact_ms:.2f} ms of CPU a page"]
        if self.companions_ms is not None and self.companions_recall_at_10 is not None:
            found = f"finds {self.companions_recall_at_10:.1%} of the exact ten best"
            parts.append(f"search among companions, which {found}, {self.companions_ms:.2f} ms")
        if self.index_ms is not None and self.tried is not None:
            found = f"finds {self.tried.recall_at_10:.1%} of the exact ten best"
            parts.append(f"an index, which {found} at ef {self.tried.ef}, {self.index_ms:.2f} ms")
        return ", ".join(parts)


class CartWeights(BaseModel):
    """Weights of the parts of a cart's scores, see `CartRanker`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vectors: float = Field(default=1.0, ge=0)
    """Of the largest softmax probability that any product of the cart gives a candidate."""
    cooccurrence: float = Field(default=0.0, ge=0)
    """Of the size-weighted probabilities, summed over the cart."""
    neighbours: float = Field(default=0.0, ge=0)
    """Of the regressions, summed over the cart."""
    cosine: float = Field(default=0.0, ge=0)
    """Of the cosines between the baskets of two products, summed over the cart."""
    trend: float = Field(default=0.0, ge=0)
    """Exponent of how much more often a candidate was bought lately than before."""


class Blend(BaseModel):
    """Weights that were tuned on validation baskets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta_single: float = 0.75
    """Weight of log popularity on item pages."""
    page_cooccurrence: float = Field(default=0.0, ge=0)
    """Weight of co-occurrence on item pages, see `ItemRanker`."""
    page_trend: float = Field(default=0.0, ge=0)
    """Weight of how much more often a candidate was bought lately, on item pages."""
    cart_weights: CartWeights = CartWeights()
    cart_recency: float = Field(default=1.0, gt=0, le=1)
    """Factor of a cart product's weight for every product added later; 1 ignores the order."""
    cart_mix: float = Field(default=0.0, ge=0)
    """Weight of the blend beside the re-ranker of carts, see `mix_scores`."""


class Manifest(Blend):
    """Content of bundle.json."""

    format_version: int = FORMAT_VERSION
    created_at: str
    """ISO 8601, UTC."""
    n_items: int
    """Products with vectors; the first rows of the product table."""
    n_products: int
    """All rows of the product table."""
    n_orders: int
    """Training baskets, the base of support and lift."""
    dims: int
    beta_cart: float = 0.25
    """Weight of log popularity in the softmax of carts."""
    index: IndexStats | None = None
    """None where item pages are ranked without an index."""
    among_companions: bool = False
    """Whether item pages are ranked among companions and their companions only."""
    search: SearchStats | None = None
    """None where the catalogue is too small for an index to pay on any machine."""
    data_window: tuple[str, str] | None = None
    """First and last order, ISO 8601; None for data without timestamps."""
    git_revision: str = ""
    code_version: str = ""
    seed: int = 0
    config: dict[str, Any] = Field(default_factory=dict)
    """The training configuration that the sweep chose."""
    ranking: dict[str, Any] = Field(default_factory=dict)
    """Measurements on validation baskets, see `train_ranking`."""
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 of every other file of the bundle, by name."""

    @property
    def search_recall(self) -> float | None:
        """Share of the exact ten best that search finds; None where it is exact."""
        if self.among_companions and self.search:
            return self.search.companions_recall_at_10
        return self.index.recall_at_10 if self.index else None
