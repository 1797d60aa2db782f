"""KFP step: refit on training and validation baskets."""

from kfp import dsl

from components.step import step


@step
def refit(
    baskets: dsl.Input[dsl.Dataset],
    vectors: dsl.Input[dsl.Model],
    ranking: dsl.Input[dsl.Model],
    product_table: dsl.Input[dsl.Dataset],
    weighting: dict,
    seed: int,
    sorted_vectors: dsl.Output[dsl.Model],
    cooccurrence: dsl.Output[dsl.Model],
    neighbours: dsl.Output[dsl.Model],
    pages: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Count training and validation baskets, and precompute the recommendations of all products."""
    from pathlib import Path

    from components.baskets.weighting import BasketWeighting
    from components.refit import refit
    from components.results import log_metrics

    outputs = (sorted_vectors, cooccurrence, neighbours, pages)
    found = refit.refit(
        baskets.path, Path(vectors.path), Path(ranking.path), Path(product_table.path),
        refit.ModelPaths(*(Path(one.path) for one in outputs)), seed, BasketWeighting(**weighting),
    )  # fmt: skip
    log_metrics(metrics, {"cpu_s": found})
