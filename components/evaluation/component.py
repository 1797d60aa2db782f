"""KFP steps: a bundle is measured, judged, and let through or not."""

from kfp import dsl

from components.step import step


@step
def evaluate(
    bundle: dsl.Input[dsl.Model],
    baskets: dsl.Input[dsl.Dataset],
    champion: dsl.Input[dsl.Artifact],
    seed: int,
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Rank the test baskets with the model, the baselines and the champion."""
    from components.evaluation import evaluate
    from components.results import log_metrics, write_json

    found = evaluate.evaluate(bundle.path, baskets.path, champion.path, seed)
    write_json(found, evaluation.path)
    log_metrics(metrics, {"test": found["tasks"], "paired": found["paired"]})


@step
def judge(
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    min_coverage: float,
    champion_margin: float,
    seed: int,
    verdict: dsl.Output[dsl.Artifact],
) -> None:
    """Let a real service process answer, and hold everything against the rules."""
    from pathlib import Path

    from components.evaluation import gate
    from components.evaluation.serving import check_serving
    from components.results import read_json, write_json

    settings = gate.GateSettings(min_coverage=min_coverage, champion_margin=champion_margin)
    serving = check_serving(Path(bundle.path), n_requests=200, seed=seed)
    write_json(gate.judge(read_json(evaluation.path), serving, settings), verdict.path)


@step
def gate(verdict: dsl.Input[dsl.Artifact]) -> None:
    """End the run here unless every rule passed."""
    from components.evaluation import gate
    from components.results import read_json

    gate.raise_unless_passed(read_json(verdict.path))
