"""The KFP steps that need the whole project."""

from typing import NamedTuple

from kfp import dsl

from components.step import step


@step
def start(
    orders: str,
    products: str,
    columns: str,
    timezone: str,
    ts_format: str,
    decimal: str,
    encoding: str,
    non_products: str,
    half_life_days: float,
    min_product_orders: int,
    variant_exceptions: str,
    feedback: str,
    popularity_discount: float,
    max_own_kind: int,
    max_same_kind: int,
    trials: int,
    shards: int,
    sweep_share: float,
    min_coverage: float,
    champion_margin: float,
    min_judged_grade: float,
    as_of: str,
    seed: int,
) -> NamedTuple(
    "Start",
    [
        ("parameters", dict),
        ("fingerprint", str),
        ("exceptions", str),
        ("champion", str),
        ("run_key", str),
    ],
):
    """Check the parameters and the sources, and find the champion."""
    given = dict(locals())
    from components.sources.database import hide_credentials
    from pipelines.parameters import parse_parameters
    from pipelines.start import inspect_inputs

    found = inspect_inputs(parse_parameters(given))
    given |= {"orders": hide_credentials(orders), "products": hide_credentials(products)}
    return given, found.fingerprint, found.exceptions, found.champion, found.run_key


@step
def judge(
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    champion: dsl.Input[dsl.Artifact],
    min_coverage: float,
    champion_margin: float,
    min_judged_grade: float,
    seed: int,
    verdict: dsl.Output[dsl.Artifact],
) -> None:
    """Test the bundle in a real service process, and apply the gate's rules."""
    from pathlib import Path

    from components.evaluation import gate
    from components.judging.graded import look_up_grades
    from components.results import read_json, write_json
    from pipelines.serving_check import check_serving

    settings = gate.GateSettings(
        min_coverage=min_coverage, champion_margin=champion_margin,
        min_judged_grade=min_judged_grade,
    )  # fmt: skip
    serving = check_serving(Path(bundle.path), n_requests=200, seed=seed)
    judged = look_up_grades(Path(bundle.path), Path(champion.path))
    write_json(gate.judge(read_json(evaluation.path), serving, settings, judged), verdict.path)


@step
def measure(
    archive: str,
    products: str,
    order_lines: str,
    experiments: str,
    days: float,
    window_h: float,
    page: dsl.Output[dsl.HTML],
) -> list:
    """Write the report of online measures, and record them with the registry's versions."""
    from pipelines.online import measure_archive

    return measure_archive(archive, products, order_lines, experiments, days, window_h, page.path)
