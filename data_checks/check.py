"""Checks of the order lines and of the baskets."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.contracts import BASKETS, ORDER_LINES, open_table
from data_checks.drift import compare_profiles
from data_checks.expectations import Expectation, Validator, load_suite, validate
from data_checks.formatting import format_bounds, format_examples, format_number
from data_checks.profile import Profile, profile_baskets, profile_order_lines
from data_checks.quarantine import summarize_quarantine
from data_checks.result import CheckReport, CheckResult, SkippedCheck, Table
from data_checks.settings import CheckSettings


def check_order_lines(
    order_lines: str | Path,
    quarantine: str | Path,
    products: str | Path,
    previous: dict[str, Any] | None,
    settings: CheckSettings,
    judge: Validator = validate,
) -> CheckReport:
    """`previous` is the profile that an earlier run wrote."""
    lines, aside = Path(order_lines), Path(quarantine)
    profile = partial(profile_order_lines, lines, aside, Path(products), settings)
    report = _check_table("order_lines", lines, ORDER_LINES, profile, previous, settings, judge)
    return replace(report, quarantine=summarize_quarantine(aside))


def check_baskets(
    baskets: str | Path,
    products: str | Path,
    previous: dict[str, Any] | None,
    settings: CheckSettings,
) -> CheckReport:
    """`previous` is the profile that an earlier run wrote."""
    profile = partial(profile_baskets, Path(baskets), Path(products), settings)
    return _check_table("baskets", Path(baskets), BASKETS, profile, previous, settings)


def read_previous_profile(folder: str | Path, table: Table) -> dict[str, Any] | None:
    """The profile in an earlier run's folder; None where there is none."""
    path = Path(folder) / "profile" / f"{table}.json"
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON; remove it to go without drift checks") from error


def _check_table(
    table: Table,
    path: Path,
    schema: pa.Schema,
    compute_profile: Callable[[], Profile],
    previous: dict[str, Any] | None,
    settings: CheckSettings,
    judge: Validator = validate,
) -> CheckReport:
    before, profile = _parse_profile(previous, table), None
    results, skipped = _check_schema(path, schema, settings, judge), list[SkippedCheck]()
    if all(result["passed"] for result in results):
        profile = compute_profile()
        suite = load_suite(settings, table, "both_tables")
        more, skipped = _check_profile(profile, before, suite, judge)
        results += more
    return CheckReport(table, results, skipped, profile, first_run=before is None)


def _parse_profile(found: dict[str, Any] | None, table: Table) -> Profile | None:
    """None when there is none, or one of another version."""
    if not found or found.get("version") != Profile.model_fields["version"].default:
        return None
    profile = Profile.model_validate(found)
    if profile.table != table:
        raise ValueError(f"previous profile is of {profile.table}, expected {table}")
    return profile


def _check_schema(
    path: Path, schema: pa.Schema, settings: CheckSettings, judge: Validator
) -> list[CheckResult]:
    found = open_table(path, pa.schema([], metadata=schema.metadata)).schema
    types = {field.name: _describe_type(field.type) for field in schema}
    missing = [name for name in types if name not in found.names]
    there = {n: _describe_type(found.field(n).type) for n in types if n not in missing}
    wrong = [f"{name}: {type_}" for name, type_ in there.items() if type_ != types[name]]
    texts = {
        "columns": (f"missing: {', '.join(missing)}" if missing else "all", ", ".join(types)),
        "types": (", ".join(wrong) or "all", ", ".join(f"{n}: {t}" for n, t in types.items())),
    }
    suite = load_suite(settings, "schema")
    results = judge({"columns": [len(missing)], "types": [len(wrong)]}, suite)
    return [_to_result(c, r, *texts[c.name]) for c, r in zip(suite, results, strict=True)]


def _describe_type(kind: pa.DataType) -> str:
    """Equal for types that the readers of a table take as equal."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {_describe_type(kind.value_type)}"
    if pa.types.is_timestamp(kind):
        return "time with zone" if kind.tz else "time without zone"
    return str(kind)


def _check_profile(
    profile: Profile, before: Profile | None, suite: list[Expectation], judge: Validator
) -> tuple[list[CheckResult], list[SkippedCheck]]:
    numbers = profile.numbers | compare_profiles(before, profile)
    there = [check for check in suite if numbers.get(check.number) is not None]
    found = judge({name: [value] for name, value in numbers.items()}, there)
    results = []
    for check, result in zip(there, found, strict=True):
        observed = format_number(result["result"]["observed_value"], check.unit)
        examples = [] if result["success"] else format_examples(check, profile.examples)
        results.append(_to_result(check, result, observed, format_bounds(check), examples))
    skipped: list[SkippedCheck] = [
        {
            "name": check.name,
            "title": check.title,
            "reason": check.absent if numbers["rows"] else "the table has no rows",
        }
        for check in suite
        if check not in there
    ]
    return results, skipped


def _to_result(
    check: Expectation, result: dict[str, Any], observed: str, expected: str,
    examples: Sequence[str] = (),
) -> CheckResult:  # fmt: skip
    return {
        "name": check.name,
        "title": check.title,
        "severity": check.severity,
        "passed": bool(result["success"]),
        "observed": observed,
        "expected": expected,
        "examples": list(examples),
        "why": check.why,
        "remedy": check.remedy,
    }
