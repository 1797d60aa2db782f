"""What the checks of one table found, and how it is kept."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from components.model.atomic import atomic_write
from components.progress import log_progress
from data_checks.expectations import Severity
from data_checks.profile import Profile

Table = Literal["order_lines", "baskets"]


class ChecksFailed(ValueError):
    """Critical checks failed. The message names each with observed, expected and remedy."""


class CheckResult(TypedDict):
    """The verdict of one check, in words ready to show."""

    name: str
    title: str
    severity: Severity
    passed: bool
    observed: str
    expected: str
    why: str
    remedy: str


class SkippedCheck(TypedDict):
    """A check that had nothing to look at."""

    name: str
    title: str
    reason: str


class QuarantineSummary(TypedDict):
    """The quarantine: lines per reason, and the first few lines of each."""

    n_lines: int
    reasons: dict[str, int]
    examples: list[dict[str, Any]]


@dataclass(frozen=True)
class CheckReport:
    """A table that was checked. `profile` is None when its columns are not even the right ones."""

    table: Table
    checks: list[CheckResult]
    skipped: list[SkippedCheck]
    profile: Profile | None
    first_run: bool
    kept_out: QuarantineSummary | None = None

    @property
    def passed(self) -> bool:
        return not self.failed("critical")

    def failed(self, severity: Severity) -> list[CheckResult]:
        """Failed checks of that severity."""
        return [c for c in self.checks if c["severity"] == severity and not c["passed"]]

    def as_json(self) -> dict[str, Any]:
        """What checks.json holds.

        {"table": "order_lines" | "baskets", "passed": bool (no critical check failed),
        "first_run": bool (no earlier profile to compare with), "sampled_share": 0 < share <= 1,
        "checks": [{"name", "title", "severity": "critical" | "warning", "passed": bool,
        "observed", "expected", "why", "remedy"}], "skipped": [{"name", "title", "reason"}]}.
        `observed` and `expected` are texts with units.
        """
        return {
            "table": self.table,
            "passed": self.passed,
            "first_run": self.first_run,
            "sampled_share": self.profile.sampled_share if self.profile else 1.0,
            "checks": self.checks,
            "skipped": self.skipped,
        }

    def metrics(self) -> dict[str, float]:
        """Figures for the run's overview."""
        rows = self.profile.numbers["rows"] if self.profile else None
        return {
            "rows": rows or 0,
            "checks_passed": sum(c["passed"] for c in self.checks),
            "checks_warned": len(self.failed("warning")),
            "checks_failed": len(self.failed("critical")),
        }

    def write(self, page: str | Path, checks: str | Path, profile: str | Path) -> None:
        """Write the HTML page, checks.json and the profile for the next run to compare with."""
        from data_checks.page import render

        kept = self.profile.model_dump() if self.profile else {}
        _write_text(page, render(self))
        _write_text(checks, json.dumps(self.as_json(), indent=1, ensure_ascii=False))
        _write_text(profile, json.dumps(kept, indent=1, ensure_ascii=False))
        n_warnings, n_critical = len(self.failed("warning")), len(self.failed("critical"))
        log_progress(
            f"{len(self.checks)} checks: {n_warnings} warnings, {n_critical} critical failures"
        )

    def raise_if_critical(self) -> None:
        """Raise ChecksFailed if a critical check failed; write first."""
        failed = self.failed("critical")
        if failed:
            lines = "\n".join(f"- {_sentence(check)}" for check in failed)
            noun = "check" if len(failed) == 1 else "checks"
            raise ChecksFailed(f"{self.table}: {len(failed)} critical {noun} failed\n{lines}")


def _sentence(check: CheckResult) -> str:
    return (
        f"{check['title']} ({check['name']}): observed {check['observed']}, "
        f"expected {check['expected']}. {check['remedy']}"
    )


def _write_text(path: str | Path, text: str) -> None:
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")
