"""KFP step: baskets to neighbours."""

from kfp import dsl

from components.step import step


@step
def train_neighbours(
    baskets: dsl.Input[dsl.Dataset],
    vectors: dsl.Input[dsl.Model],
    neighbours: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Fit a small regression per product."""
    from pathlib import Path

    from components.neighbours import model
    from components.results import log_metrics

    found = model.train_neighbours(baskets.path, Path(vectors.path), Path(neighbours.path))
    log_metrics(metrics, found)
