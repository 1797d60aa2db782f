"""KFP steps: evaluate a bundle, and stop the run if it fails the gate."""

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
    from components.evaluation import evaluate, gate
    from components.results import log_metrics, write_json

    found = evaluate.evaluate(bundle.path, baskets.path, champion.path, seed)
    write_json(found, evaluation.path)
    log_metrics(
        metrics, {"test": found["tasks"], **{one: found[one] for one in gate.PAIRED.values()}}
    )


@step
def gate(verdict: dsl.Input[dsl.Artifact]) -> None:
    """End the run here unless every rule passed."""
    from components.evaluation import gate
    from components.results import read_json

    gate.check_verdict(read_json(verdict.path))
