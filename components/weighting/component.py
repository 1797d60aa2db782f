"""KFP step: choose the basket weighting."""

from kfp import dsl

from components.step import step


@step
def choose_weighting(
    baskets: dsl.Input[dsl.Dataset],
    min_product_orders: int,
    popularity_discount: float,
    seed: int,
    measured: dsl.Output[dsl.Artifact],
) -> dict:
    """Weigh training baskets by size, age and item order as validation baskets rank best."""
    from components.results import write_json
    from components.weighting import choose

    weighting, rows = choose.choose_weighting(
        baskets.path, min_product_orders, seed, popularity_discount
    )
    write_json(rows, measured.path)
    return weighting.model_dump()
