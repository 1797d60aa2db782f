"""KFP step: clean order lines."""

from kfp import dsl

from components.step import step


@step
def read_orders(
    orders: str,
    products: str,
    columns: str,
    timezone: str,
    ts_format: str,
    decimal: str,
    encoding: str,
    non_products: str,
    fingerprint: str,
    order_lines: dsl.Output[dsl.Dataset],
    quarantine: dsl.Output[dsl.Dataset],
    product_table: dsl.Output[dsl.Dataset],
    reading: dsl.Output[dsl.Artifact],
    counts: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Clean order lines; `fingerprint` only makes the cache see a changed source."""
    from pathlib import Path

    from components.orders.clean import OrderSettings, clean_orders
    from components.results import log_metrics, write_json

    settings = OrderSettings(
        columns=columns, timezone=timezone, ts_format=ts_format, decimal=decimal,
        encoding=encoding, non_products=non_products,
    )  # fmt: skip
    paths = [Path(one.path) for one in (order_lines, quarantine, product_table)]
    found = clean_orders(orders, products, settings, *paths)
    write_json(found.readings_json(), reading.path)
    write_json(found.counts, counts.path)
    log_metrics(metrics, found.counts)
