"""KFP step: the report of a training run."""

from kfp import dsl

from components.step import step


@step
def report(
    bundle: dsl.Input[dsl.Model],
    baskets: dsl.Input[dsl.Dataset],
    reading: dsl.Input[dsl.Artifact],
    order_counts: dsl.Input[dsl.Artifact],
    basket_counts: dsl.Input[dsl.Artifact],
    line_checks: dsl.Input[dsl.Artifact],
    basket_checks: dsl.Input[dsl.Artifact],
    evaluation: dsl.Input[dsl.Artifact],
    verdict: dsl.Input[dsl.Artifact],
    weighting: dsl.Input[dsl.Artifact],
    best: dict,
    parameters: dict,
    page: dsl.Output[dsl.HTML],
    plots: dsl.Output[dsl.Artifact],
):
    """Write the report and its plots."""
    from pathlib import Path

    from components.report.report import RunFiles, write_report

    files = RunFiles(
        bundle=Path(bundle.path), baskets=Path(baskets.path), reading=Path(reading.path),
        order_counts=Path(order_counts.path), basket_counts=Path(basket_counts.path),
        line_checks=Path(line_checks.path), basket_checks=Path(basket_checks.path),
        evaluation=Path(evaluation.path), verdict=Path(verdict.path),
        tricks=Path(weighting.path), best=best, parameters=parameters,
    )  # fmt: skip
    write_report(files, Path(page.path), Path(plots.path))
