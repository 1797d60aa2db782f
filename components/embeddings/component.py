"""KFP steps: the sweep in shards, and the final training."""

from typing import List  # noqa: UP035 - kfp names parameter types by it

from kfp import dsl

from components.step import step


@step
def plan_sweep(trials: int, shards: int, seed: int) -> List[dict]:  # noqa: UP006
    """Split the trials over shards."""
    from components.embeddings.sweep import plan_shards

    return plan_shards(trials, shards, seed)


@step
def sweep(
    shard: dict,
    baskets: dsl.Input[dsl.Dataset],
    min_product_orders: int,
    sample_share: float,
    popularity_discount: float,
) -> List[dict]:  # noqa: UP006
    """Try hyper-parameters on a sample of the training baskets."""
    import os

    from components.embeddings.sweep import SweepSettings, run_shard
    from components.results import drop_nulls

    settings = SweepSettings(
        min_product_orders=min_product_orders, sample_share=sample_share,
        popularity_discount=popularity_discount,
    )  # fmt: skip
    tracking = os.environ.get("MLFLOW_TRACKING_URI")
    return drop_nulls(run_shard(shard, baskets.path, settings, tracking))


@step
def pick(results: List[List[dict]]) -> dict:  # noqa: UP006
    """Take the cheapest of the best trials."""
    from components.embeddings import sweep

    return sweep.pick(results)


@step
def train(
    baskets: dsl.Input[dsl.Dataset],
    best: dict,
    weighting: dict,
    min_product_orders: int,
    popularity_discount: float,
    seed: int,
    vectors: dsl.Output[dsl.Model],
    cooccurrence: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Train vectors and count co-occurrence on all training baskets."""
    from components.baskets.weighting import BasketWeighting
    from components.embeddings.model import train_model
    from components.results import log_metrics

    settings = {**best["config"], "seed": seed}
    found = train_model(
        baskets.path, settings, min_product_orders, vectors.path, cooccurrence.path,
        BasketWeighting(**weighting), popularity_discount,
    )  # fmt: skip
    log_metrics(metrics, found)
