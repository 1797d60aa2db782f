"""Metrics of experiments: means per session, and ratios of two sums of sessions."""

from typing import NamedTuple, get_args

from components.experiments.experiment import MetricName

METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)


class Metric(NamedTuple):
    name: str
    words: str
    """As in `+4 % WORDS`."""
    numerator: str
    """Column of SESSIONS."""
    denominator: str | None = None
    """Default: sessions."""
    covariate: str | None = None
    """Known before the first list, for CUPED."""
    scale: float = 1

    @property
    def columns(self) -> tuple[str, ...]:
        named = (self.numerator, self.denominator, self.covariate)
        return tuple(one for one in named if one)


CLICKED, BOUGHT = "earlier_clicks", "earlier_order_value"

METRICS: dict[str, Metric] = {
    one.name: one
    for one in (
        Metric("clicks", "clicks per session", "clicks", None, CLICKED),
        Metric("adds", "additions to the cart per session", "adds", None, CLICKED),
        Metric("purchases", "recommended products bought per session", "purchases", None, BOUGHT),
        Metric("revenue", "revenue of recommendations per session", "revenue", None, BOUGHT),
        Metric("orders", "orders per session", "orders", None, BOUGHT),
        Metric("order_value", "order value per session", "order_value", None, BOUGHT),
        Metric("click_rate", "click-through", "clicks", "impressions", CLICKED),
        Metric("add_rate", "add-to-cart rate", "adds", "impressions", CLICKED),
        Metric("purchase_rate", "purchase rate", "purchases", "impressions", BOUGHT),
        Metric(
            "revenue_per_1000", "revenue per 1,000 impressions", "revenue", "impressions", BOUGHT,
            1000,
        ),
        Metric("attach_rate", "attach rate", "attached_orders", "orders", BOUGHT),
        Metric("average_order_value", "average order value", "order_value", "orders", BOUGHT),
    )
}  # fmt: skip


def find_metric(name: str) -> Metric:
    """Raises ValueError."""
    if name not in METRICS:
        raise ValueError(f"metric: found {name!r}, expected one of {', '.join(METRICS)}")
    return METRICS[name]
