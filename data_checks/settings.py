"""The thresholds that decide which checks pass."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


def _compiles(pattern: str) -> str:
    import pyarrow as pa
    import pyarrow.compute as pc

    pc.match_substring_regex(pa.array([""]), pattern)  # raises ArrowInvalid, which is a ValueError
    return pattern


class CheckSettings(BaseModel):
    """Thresholds of all checks, for order lines and for baskets.

    Shares are between 0 and 1. The defaults let real, untidy shop data pass with warnings and stop
    what no model can be learned from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    row_limit: int = Field(20_000_000, ge=1_000)
    """Rows (for baskets: products in them) above which a stable sample of whole orders is checked.
    About 150 bytes of memory each."""

    min_multi_item_orders: int = Field(100, ge=1)
    """Orders with two or more products that must be there, or nothing can be learned. Critical."""
    min_products: int = Field(10, ge=2)
    """Different products that must have been bought. Critical."""
    min_usable_share: Share = 0.5
    """Share of all lines read that must have survived the quarantine. Critical."""
    min_catalogue_join: Share = 0.5
    """Share of bought products the product table must know; below it, the ids do not join at all.
    Critical."""
    min_split_baskets: int = Field(10, ge=1)
    """Baskets that each of train, validation and test must hold. Critical."""

    max_quarantined_share: Share = 0.05
    """Share of all lines read that may be quarantined, whatever the reason."""
    max_cancelled_share: Share = 0.03
    """Share of all lines read that may be cancellations."""
    max_non_product_share: Share = 0.03
    """Share of all lines read that may be postage, fees and the like."""
    max_unreadable_share: Share = 0.01
    """Share of all lines read that may lack an id, a number or a date one can read."""
    max_duplicate_share: Share = 0.01
    """Share of order lines that may repeat a product of the same order."""
    max_quantity: float = Field(10_000, gt=0)
    """Largest plausible quantity on one line, in pieces."""
    max_price_spread: float = Field(10_000, gt=1)
    """Highest price as a multiple of the median price."""
    max_zero_price_share: Share = 0.01
    """Share of priced order lines that may cost nothing."""
    max_missing_price_share: Share = 0.05
    """Share of order lines without price, where the shop has prices at all."""
    max_missing_user_share: Share = 0.2
    """Share of order lines without customer, where the shop has customers at all."""
    max_missing_ts_share: Share = 0.01
    """Share of order lines (or baskets) without a time, where the shop has times at all."""
    max_gap_days: int = Field(14, ge=1)
    """Longest stretch, in days, from one day with orders to the next."""
    max_busiest_day_share: Share = 0.2
    """Share of order lines on the busiest day, where the data spans at least four weeks."""
    max_mixed_order_share: Share = 0.002
    """Share of orders whose lines are more than a day apart, or belong to several customers."""
    max_single_item_share: Share = 0.8
    """Share of orders that may hold only one product."""
    max_basket_items: int = Field(1_000, ge=2)
    """Products in the largest plausible basket."""
    max_id_twins_share: Share = 0.005
    """Share of product ids that equal another one but for letter case and outer spaces."""
    non_product_pattern: Annotated[str, AfterValidator(_compiles)] = (
        r"(?i)^\s*(postage|post|shipping|delivery|carriage|freight|discount|voucher|coupon"
        r"|gift[ _-]?card.*|bank charges|fees?|adjust.*|test\d*|manual|samples?|tip)\s*$"
    )
    """RE2 pattern of product ids that look like fees and should not be left in the order lines."""
    max_suspect_share: Share = 0.001
    """Share of order lines whose product id may still match `non_product_pattern`."""
    min_catalogue_coverage: Share = 0.95
    """Share of bought products that the product table should know."""
    min_named_share: Share = 0.9
    """Share of bought products that should have a name."""

    min_train_share: Share = 0.6
    """Smallest share of baskets to learn from."""
    max_train_share: Share = 0.95
    """Largest share of baskets to learn from."""
    max_cold_share: Share = 0.2
    """Share of products bought in test baskets that may be unknown to the training baskets, counted
    per purchase."""

    min_volume_ratio: float = Field(0.5, ge=0, le=1)
    """Smallest number of rows as a multiple of the previous run's."""
    max_volume_ratio: float = Field(2.0, ge=1)
    """Largest number of rows as a multiple of the previous run's."""
    max_drift: float = Field(0.25, gt=0)
    """Largest population stability index against the previous run. By the usual reading below 0.1
    is stable and above 0.25 is another population."""
