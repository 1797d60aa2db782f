"""Thresholds of the data checks."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from components.sources.time_formats import Timezone

Share = Annotated[float, Field(ge=0, le=1)]


def _compiles(pattern: str) -> str:
    import pyarrow as pa
    import pyarrow.compute as pc

    pc.match_substring_regex(pa.array([""]), pattern)  # raises ArrowInvalid, which is a ValueError
    return pattern


class CheckSettings(BaseModel):
    """Thresholds of all checks; the suites name them. Untidy but usable data passes by default."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    row_limit: int = Field(20_000_000, ge=1_000)
    """Rows (baskets: items) above which a stable sample of orders is checked; 150 bytes each."""
    timezone: Timezone = "UTC"
    """IANA name of the shop's zone, in which days begin."""

    min_multi_item_orders: int = Field(100, ge=1)
    """Orders with two or more products."""
    min_products: int = Field(10, ge=2)
    """Different products bought."""
    min_usable_share: Share = 0.5
    """Share of sales read that are not in quarantine."""
    min_catalogue_join: Share = 0.5
    """Share of bought products in the product table; below it, the ids look different."""
    min_split_baskets: int = Field(10, ge=1)
    """Baskets in each of train, validation and test."""

    max_quarantined_share: Share = 0.05
    """Share of sales read that are in quarantine."""
    max_cancelled_share: Share = 0.03
    """Share of lines read that are cancellations."""
    max_non_product_share: Share = 0.03
    """Share of sales read that are postage, fees and the like."""
    max_unreadable_share: Share = 0.01
    """Share of sales read without an id, or without a readable quantity."""
    max_duplicate_share: Share = 0.01
    """Share of lines that repeat a product of their order."""
    max_quantity: float = Field(10_000, gt=0)
    """Pieces on one line."""
    max_price_spread: float = Field(10_000, gt=1)
    """Highest price as a multiple of the median price."""
    max_zero_price_share: Share = 0.01
    """Share of priced lines that cost nothing."""
    max_missing_price_share: Share = 0.05
    """Share of lines without price, where there are prices at all."""
    max_missing_user_share: Share = 0.2
    """Share of lines without customer, where there are customers at all."""
    max_missing_ts_share: Share = 0.01
    """Share of rows without a time, where there are times at all."""
    max_gap_days: int = Field(14, ge=1)
    """Days from one day with orders to the next."""
    max_busiest_day_share: Share = 0.2
    """Share of lines on the busiest day, where the data spans four weeks."""
    max_mixed_order_share: Share = 0.002
    """Share of orders with lines a day apart, or of several customers."""
    max_single_item_share: Share = 0.8
    """Share of orders with only one product."""
    max_basket_items: int = Field(1_000, ge=2)
    """Products in the largest basket."""
    max_id_twins_share: Share = 0.005
    """Share of product ids that equal another but for letter case and outer spaces."""
    non_product_pattern: Annotated[str, AfterValidator(_compiles)] = (
        r"(?i)^\s*(postage|post|shipping|delivery|carriage|freight|discount|voucher|coupon"
        r"|gift[ _-]?card.*|bank charges|fees?|adjust.*|test\d*|manual|samples?|tip)\s*$"
    )
    """RE2 pattern of product ids that look like fees."""
    max_suspect_share: Share = 0.001
    """Share of lines whose product id matches `non_product_pattern`."""
    min_catalogue_coverage: Share = 0.95
    """Share of bought products in the product table."""
    min_named_share: Share = 0.9
    """Share of bought products with a name."""

    min_train_share: Share = 0.6
    """Share of baskets for training."""
    max_train_share: Share = 0.95
    """Share of baskets for training."""
    max_cold_share: Share = 0.2
    """Share of purchases in test baskets of products without training baskets."""

    min_volume_ratio: float = Field(0.5, ge=0, le=1)
    """Rows as a multiple of the previous run's."""
    max_volume_ratio: float = Field(2.0, ge=1)
    """Rows as a multiple of the previous run's."""
    max_drift: float = Field(0.25, gt=0)
    """Population stability index; by convention, above 0.25 is another population."""
