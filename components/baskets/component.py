"""KFP step: order lines to baskets."""

from kfp import dsl

from components.step import step


@step
def build_baskets(
    order_lines: dsl.Input[dsl.Dataset],
    half_life_days: float,
    timezone: str,
    baskets: dsl.Output[dsl.Dataset],
    counts: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Group, de-duplicate, cap, weigh and split."""
    from pathlib import Path

    from components.baskets import build
    from components.results import log_metrics, write_json

    settings = build.BasketSettings(half_life_days=half_life_days, timezone=timezone)
    found = build.build_baskets(Path(order_lines.path), Path(baskets.path), settings)
    write_json(found, counts.path)
    log_metrics(metrics, found)
