"""KFP steps around the MLflow registry."""

from kfp import dsl

from components.step import step


@step
def fetch_champion(run_id: str, champion: dsl.Output[dsl.Artifact]):
    """Bring the champion's bundle and data profile, for comparison; nothing when there is none.

    Args:
        run_id: Of the champion's run in MLflow, and when it was judged (`RUN@TIME`). A version's
            number would not do: caches would take another registry's version 3 for this one's.
        champion: A folder with `bundle/`, `profile/` and `judging/`, or an empty one.
    """
    from pathlib import Path

    from components.registry import registry

    registry.fetch_champion(run_id, Path(champion.path))


@step
def register(
    bundle: dsl.Input[dsl.Model],
    page: dsl.Input[dsl.HTML],
    plots: dsl.Input[dsl.Artifact],
    reading: dsl.Input[dsl.Artifact],
    line_page: dsl.Input[dsl.HTML],
    basket_page: dsl.Input[dsl.HTML],
    line_checks: dsl.Input[dsl.Artifact],
    basket_checks: dsl.Input[dsl.Artifact],
    line_profile: dsl.Input[dsl.Artifact],
    basket_profile: dsl.Input[dsl.Artifact],
    evaluation: dsl.Input[dsl.Artifact],
    verdict: dsl.Input[dsl.Artifact],
    parameters: dict,
    run_key: str,
) -> str:
    """Make a version of everything that the run left behind, and call it challenger."""
    from pathlib import Path

    from components.registry.version import register_run

    artefacts = {
        "bundle": bundle, "report.html": page, "plots": plots,
        "reading.json": reading,
        "checks/order_lines.html": line_page, "checks/baskets.html": basket_page,
        "checks/order_lines.json": line_checks, "checks/baskets.json": basket_checks,
        "profile/order_lines.json": line_profile, "profile/baskets.json": basket_profile,
        "evaluation.json": evaluation, "verdict.json": verdict,
    }  # fmt: skip
    paths = {name: Path(one.path) for name, one in artefacts.items()}
    return register_run(paths, parameters, run_key)
