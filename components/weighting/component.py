"""KFP step: which tricks of time and position pay."""

from kfp import dsl

from components.step import step


@step
def choose_tricks(
    baskets: dsl.Input[dsl.Dataset],
    min_product_orders: int,
    seed: int,
    measured: dsl.Output[dsl.Artifact],
) -> dict:
    """Try tricks of time and position on validation baskets, one after the other."""
    from components.results import write_json
    from components.weighting import choose

    tricks, rows = choose.choose_tricks(baskets.path, min_product_orders, seed)
    write_json(rows, measured.path)
    return tricks.model_dump()
