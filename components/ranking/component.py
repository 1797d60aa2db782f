"""KFP step: the blend and the re-rankers."""

from kfp import dsl

from components.step import step


@step
def train_ranking(
    baskets: dsl.Input[dsl.Dataset],
    vectors: dsl.Input[dsl.Model],
    cooccurrence: dsl.Input[dsl.Model],
    neighbours: dsl.Input[dsl.Model],
    product_table: dsl.Input[dsl.Dataset],
    weighting: dict,
    variant_exceptions: str,
    feedback: str,
    popularity_discount: float,
    fingerprint: str,
    seed: int,
    ranking: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Tune the blend on validation baskets, and fit re-rankers.

    `fingerprint` only invalidates the cache when exceptions or feedback change.
    """
    from pathlib import Path

    from components.baskets.weighting import BasketWeighting
    from components.ranking import model
    from components.ranking.variant_exceptions import read_exceptions
    from components.results import log_metrics

    found = model.train_ranking(
        baskets.path, Path(vectors.path), Path(cooccurrence.path), Path(neighbours.path),
        Path(product_table.path), Path(ranking.path), seed, BasketWeighting(**weighting),
        read_exceptions(variant_exceptions), popularity_discount, feedback,
    )  # fmt: skip
    log_metrics(metrics, found)
