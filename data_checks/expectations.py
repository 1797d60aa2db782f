"""Suites of checks, read from YAML and run by Great Expectations."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict

from data_checks.settings import CheckSettings

Validator = Callable[[Mapping[str, Sequence[Any]], "Sequence[Expectation]"], list[dict[str, Any]]]
"""Takes columns by name and the checks; gives a result for each of the checks."""
Severity = Literal["critical", "warning"]
Unit = Literal["count", "share", "number", "times", "days"]

SUITES = Path(__file__).with_name("suites")

BACK_ENDS = ("boto3", "botocore", "google.cloud.storage", "pyspark", "sqlalchemy")
"""Great Expectations imports these if installed, though pandas tables never need them: a quarter of
its start-up. Importing pyspark also ends a `python -c` with exit code 0 where grpc is missing."""


class Expectation(BaseModel):
    """A check; suites/order_lines.yaml explains the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    severity: Severity
    why: str
    remedy: str
    unit: Unit = "count"
    column: str = ""
    min_value: float | None = None
    max_value: float | None = None
    absent: str = "the table holds nothing to compute this from"
    examples: dict[str, str] = {}

    @property
    def number(self) -> str:
        """Name of the checked number of the profile."""
        return self.column or self.name

    def to_gx(self) -> dict[str, Any]:
        """A profile is one row, so the maximum of a column is the number."""
        bounds = {"min_value": self.min_value, "max_value": self.max_value}
        return {
            "type": "expect_column_max_to_be_between",
            "kwargs": {"column": self.number, **bounds},
            "severity": self.severity,
            "meta": {"name": self.name},
        }


def load_suite(settings: CheckSettings, *names: str) -> list[Expectation]:
    """Checks of the YAML files of these names, with thresholds from the settings."""
    import yaml  # type: ignore[import-untyped]

    texts = [(SUITES / f"{name}.yaml").read_text(encoding="utf-8") for name in names]
    return [_fill_in(fields, settings) for text in texts for fields in yaml.safe_load(text)]


def _fill_in(fields: dict[str, Any], settings: CheckSettings) -> Expectation:
    bounds = {name: fields[name] for name in ("min_value", "max_value") if name in fields}
    thresholds = {k: getattr(settings, v) for k, v in bounds.items() if isinstance(v, str)}
    return Expectation(**fields | thresholds)


def validate(
    columns: Mapping[str, Sequence[Any]], suite: Sequence[Expectation]
) -> list[dict[str, Any]]:
    """Results in the suite's order, as Great Expectations' JSON.

    Raises RuntimeError when a check could not be computed.
    """
    import pandas as pd

    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # it logs every step
    with _hide_modules(*BACK_ENDS):
        import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("tables")
    asset = source.add_dataframe_asset("table")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch(
        {"dataframe": pd.DataFrame(dict(columns))}
    )
    gx_suite = gx.ExpectationSuite(name="suite", expectations=[check.to_gx() for check in suite])
    outcome: Any = batch.validate(gx_suite, result_format="SUMMARY")
    return _sort_results(outcome.to_json_dict()["results"], suite)


def compare(
    columns: Mapping[str, Sequence[Any]], suite: Sequence[Expectation]
) -> list[dict[str, Any]]:
    """The same as `validate`, without the two seconds that Great Expectations takes to start."""
    return [
        {
            "success": is_within(max(columns[check.number]), check.min_value, check.max_value),
            "result": {"observed_value": max(columns[check.number])},
        }
        for check in suite
    ]


def is_within(number: float, least: float | None, most: float | None) -> bool:
    return (least is None or number >= least) and (most is None or number <= most)


def _sort_results(results: Any, suite: Sequence[Expectation]) -> list[dict[str, Any]]:
    by_name = {result["expectation_config"]["meta"]["name"]: result for result in results}
    for name, result in by_name.items():
        if result["exception_info"].get("raised_exception"):
            reason = result["exception_info"]["exception_message"]
            raise RuntimeError(f"check {name!r} could not be computed: {reason}")
    return [by_name[check.name] for check in suite]


@contextmanager
def _hide_modules(*names: str) -> Iterator[None]:
    """Imports of these modules fail within the block."""
    modules = cast(dict[str, Any], sys.modules)
    before = {name: modules[name] for name in names if name in modules}
    modules.update(dict.fromkeys(names))
    try:
        yield
    finally:
        for name in names:
            del modules[name]
        modules.update(before)
