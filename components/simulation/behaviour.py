"""How simulated shoppers behave."""

from pydantic import BaseModel, ConfigDict, Field

Probability = float


def _probability(default: float) -> float:
    return Field(default=default, ge=0, le=1)


class Behaviour(BaseModel):
    """Probabilities are per shopper, page or product as said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pages: float = Field(default=3, ge=1)
    """Product pages of a session, on average; their number is geometric."""
    max_pages: int = Field(default=12, ge=1)
    follow: Probability = _probability(0.4)
    """That the next page is a companion of this one, else any product by popularity and season."""

    list_seen: Probability = _probability(0.8)
    """That a page's list comes into the viewport."""
    position_bias: float = Field(default=0.7, ge=0)
    """The product in place p, from 0, is looked at with probability (p + 1)**-position_bias."""
    fatigue: Probability = _probability(0.93)
    """Every list seen before multiplies the probability to look at a product by this."""

    click_floor: Probability = _probability(0.005)
    click_scale: float = Field(default=1.5, ge=0)
    """A product looked at is clicked with probability floor + 1 - exp(-scale * affinity)."""
    click_wanted: Probability = _probability(0.3)
    """The least probability of a click on a product that the shopper came for."""
    spread: float = Field(default=0.5, ge=0)
    """Standard deviation of the logarithm of how eager shoppers are: it scales clicks, so that a
    session's clicks go together."""
    add: Probability = _probability(0.3)
    """That a clicked product is put into the cart."""
    checkout: Probability = _probability(0.3)
    """That a session without an order of its own buys what it put into the cart."""

    order: Probability = _probability(0.25)
    """That a session came to buy, whatever is recommended."""
    buy_page: Probability = _probability(0.6)
    """That it came for the product of a page."""
    buy_companions: Probability = _probability(0.35)
    """That it came for a companion, too; drawn twice a page."""

    weekend: float = Field(default=1.5, gt=0)
    """Sessions on a Saturday or Sunday, over those of another day."""
    order_delay_h: float = Field(default=0, ge=0)
    """Mean hours from the last page to the order, exponential."""

    bots: Probability = _probability(0)
    """Share of sessions that click everything, ten a second, and buy nothing."""
    bot_pages: int = Field(default=60, ge=1)
    blocked: Probability = _probability(0)
    """Share of sessions whose events never arrive; their orders are in the order lines alone."""
