"""Expectations as plain dicts, and the one place that hands them to Great Expectations."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypedDict, cast

Severity = Literal["critical", "warning"]
Unit = Literal["count", "share", "number", "times", "days"]

BACK_ENDS = ("boto3", "botocore", "google.cloud.storage", "pyspark", "sqlalchemy")
"""What Great Expectations imports if it is installed, and what small pandas tables never need:
a quarter of its start-up. Importing pyspark this way also ends a `python -c` on the spot, with
exit code 0, where grpc is not installed."""


class Words(TypedDict):
    """What a person needs to know about a check beside its figures."""

    title: str
    why: str
    remedy: str


class Expectation(TypedDict):
    """One expectation in the shape in which Great Expectations loads suites.

    `meta` holds the check's `name`, its `Words`, the `unit` of its figures and `absent`, the
    reason to print when there is nothing to check.
    """

    type: str
    kwargs: dict[str, Any]
    severity: Severity
    meta: dict[str, Any]


def between(
    name: str,
    unit: Unit,
    severity: Severity,
    words: Words,
    *,
    least: float | None = None,
    most: float | None = None,
    column: str = "",
    absent: str = "the table holds nothing to compute this from",
) -> Expectation:
    """Expect the profile's number `name` (or `column`) within [least, most].

    A profile is one row, so its maximum is the number: the cheapest expectation with bounds.
    """
    return {
        "type": "expect_column_max_to_be_between",
        "kwargs": {"column": column or name, "min_value": least, "max_value": most},
        "severity": severity,
        "meta": {"name": name, "unit": unit, "absent": absent, **words},
    }


def expect_zero(name: str, words: Words) -> Expectation:
    """Expect the profile's count `name` to be zero, or stop the run."""
    return between(name, "count", "critical", words, most=0)


def validate(
    columns: Mapping[str, Sequence[Any]], suite: Sequence[Expectation]
) -> list[dict[str, Any]]:
    """The suite's results on a small table, in the suite's order, as Great Expectations' JSON.

    Raises RuntimeError when an expectation could not be computed: that is no verdict on the data.
    """
    import pandas as pd

    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # it tells of every step
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
    named = gx.ExpectationSuite(name="suite", expectations=[dict(item) for item in suite])
    outcome: Any = batch.validate(named, result_format="SUMMARY")
    return _sort_results(outcome.to_json_dict()["results"], suite)


def _sort_results(results: Any, suite: Sequence[Expectation]) -> list[dict[str, Any]]:
    by_name = {result["expectation_config"]["meta"]["name"]: result for result in results}
    for name, result in by_name.items():
        if result["exception_info"].get("raised_exception"):
            raise RuntimeError(
                f"check {name!r} broke: {result['exception_info']['exception_message']}"
            )
    return [by_name[item["meta"]["name"]] for item in suite]


@contextmanager
def _hide_modules(*names: str) -> Iterator[None]:
    """Let imports of the named modules fail within the block."""
    modules = cast(dict[str, Any], sys.modules)
    before = {name: modules[name] for name in names if name in modules}
    modules.update(dict.fromkeys(names))
    try:
        yield
    finally:
        for name in names:
            del modules[name]
        modules.update(before)
