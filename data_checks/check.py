"""The checks on order lines and on baskets: profile, verdicts, and what is kept of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.contracts import BASKETS, ORDER_LINES, open_table
from data_checks.drift import drift
from data_checks.expectations import Expectation, validate
from data_checks.formatting import format_bounds, format_number
from data_checks.profile import Profile, profile_baskets, profile_order_lines
from data_checks.quarantine import example_lines, read_reasons, reason_counts
from data_checks.result import CheckReport, CheckResult, QuarantineSummary, SkippedCheck, Table
from data_checks.settings import CheckSettings
from data_checks.suites import baskets_suite, order_lines_suite, schema_columns, schema_suite


def check_order_lines(
    order_lines: str | Path,
    quarantine: str | Path,
    products: str | Path,
    previous: dict[str, Any] | None,
    settings: CheckSettings,
) -> CheckReport:
    """Check an ORDER_LINES table; `previous` is the profile that an earlier run wrote."""
    lines = Path(order_lines)
    reasons = read_reasons(Path(quarantine))
    checks = _check_schema(lines, ORDER_LINES)
    skipped: list[SkippedCheck] = []
    profile, before = None, parse_profile(previous, "order_lines")
    if all(check["passed"] for check in checks):
        profile = profile_order_lines(lines, Path(quarantine), Path(products), settings)
        judged, skipped = _judge(profile, before, order_lines_suite(settings))
        checks += judged
    kept_out: QuarantineSummary = {
        "n_lines": len(reasons.codes),
        "reasons": reason_counts(reasons),
        "examples": example_lines(Path(quarantine), reasons),
    }
    return CheckReport("order_lines", checks, skipped, profile, before is None, kept_out)


def check_baskets(
    baskets: str | Path,
    products: str | Path,
    previous: dict[str, Any] | None,
    settings: CheckSettings,
) -> CheckReport:
    """Check a BASKETS table; `previous` is the profile that an earlier run wrote."""
    checks = _check_schema(Path(baskets), BASKETS)
    skipped: list[SkippedCheck] = []
    profile, before = None, parse_profile(previous, "baskets")
    if all(check["passed"] for check in checks):
        profile = profile_baskets(Path(baskets), Path(products), settings)
        judged, skipped = _judge(profile, before, baskets_suite(settings))
        checks += judged
    return CheckReport("baskets", checks, skipped, profile, before is None)


def previous_profile(folder: str | Path, table: Table) -> dict[str, Any] | None:
    """The profile of `table` in an earlier run's folder, or None where there is none."""
    path = Path(folder) / "profile" / f"{table}.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON; remove it to go without drift checks") from error
    return dict(found)


def parse_profile(found: dict[str, Any] | None, table: Table) -> Profile | None:
    """The profile, or None when there is none or it is of another version."""
    if not found or found.get("version") != Profile.model_fields["version"].default:
        return None
    profile = Profile.model_validate(found)
    if profile.table != table:
        raise ValueError(f"previous profile is of {profile.table}, expected {table}")
    return profile


def _check_schema(path: Path, schema: pa.Schema) -> list[CheckResult]:
    suite = schema_suite(schema)
    found = open_table(path, pa.schema([], metadata=schema.metadata)).schema
    columns = schema_columns(found, schema)
    missing = [name for name in schema.names if name not in columns["column"]]
    wrong = [type_ for type_ in columns["found"] if type_ not in columns["expected"]]
    observed = [f"missing: {', '.join(missing)}" if missing else "all", ", ".join(wrong) or "all"]
    expected = [", ".join(schema.names), ", ".join(schema_columns(schema, schema)["expected"])]
    return list(map(_to_result, suite, validate(columns, suite), observed, expected))


def _judge(
    profile: Profile, before: Profile | None, suite: Sequence[Expectation]
) -> tuple[list[CheckResult], list[SkippedCheck]]:
    numbers = profile.numbers | drift(before, profile)
    there = [item for item in suite if numbers.get(item["kwargs"]["column"]) is not None]
    results = validate({name: [value] for name, value in numbers.items()}, there)
    checks = [
        _to_result(item, result, _format_observed(item, result), format_bounds(item))
        for item, result in zip(there, results, strict=True)
    ]
    absent: list[SkippedCheck] = [
        {
            "name": item["meta"]["name"],
            "title": item["meta"]["title"],
            "reason": item["meta"]["absent"] if numbers["rows"] else "the table has no rows",
        }
        for item in suite
        if item not in there
    ]
    return checks, absent


def _format_observed(item: Expectation, result: dict[str, Any]) -> str:
    return format_number(result["result"]["observed_value"], item["meta"]["unit"])


def _to_result(
    item: Expectation, result: dict[str, Any], observed: str, expected: str
) -> CheckResult:
    meta = item["meta"]
    return {
        "name": meta["name"],
        "title": meta["title"],
        "severity": item["severity"],
        "passed": bool(result["success"]),
        "observed": observed,
        "expected": expected,
        "why": meta["why"],
        "remedy": meta["remedy"],
    }
