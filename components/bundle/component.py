"""KFP step: trained arrays to a bundle."""

from kfp import dsl

from components.step import step


@step
def build_bundle(
    vectors: dsl.Input[dsl.Model],
    cooccurrence: dsl.Input[dsl.Model],
    neighbours: dsl.Input[dsl.Model],
    ranking: dsl.Input[dsl.Model],
    product_table: dsl.Input[dsl.Dataset],
    basket_counts: dsl.Input[dsl.Artifact],
    best: dict,
    seed: int,
    max_own_kind: int,
    max_same_kind: int,
    bundle: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Put the model into one directory."""
    from pathlib import Path

    from components.bundle import build
    from components.model.kind_limits import NO_LIMITS
    from components.results import log_metrics

    manifest = build.build_bundle(
        Path(vectors.path), Path(cooccurrence.path), Path(neighbours.path), Path(ranking.path),
        Path(product_table.path), Path(basket_counts.path), best, seed, Path(bundle.path),
        NO_LIMITS.override(max_own_kind, max_same_kind),
    )  # fmt: skip
    log_metrics(metrics, manifest.model_dump())
