"""KFP step: the start of a run."""

from typing import NamedTuple

from components.step import step


@step
def start(
    orders: str,
    products: str,
    columns: str,
    ts_format: str,
    non_products: str,
    half_life_days: float,
    min_product_orders: int,
    variant_exceptions: str,
    trials: int,
    shards: int,
    sweep_share: float,
    min_coverage: float,
    champion_margin: float,
    seed: int,
) -> NamedTuple(
    "Start",
    [
        ("parameters", dict),
        ("fingerprint", str),
        ("exceptions", str),
        ("champion", str),
        ("run_key", str),
    ],
):
    """Check every parameter, look at the sources, find the champion."""
    given = dict(locals())
    from components.orders.source import shown
    from pipelines.parameters import checked_parameters
    from pipelines.start import begin

    found = begin(checked_parameters(given))
    given |= {"orders": shown(orders), "products": shown(products)}
    return given, found.fingerprint, found.exceptions, found.champion, found.run_key
