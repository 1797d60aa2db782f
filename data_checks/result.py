"""Results of the checks of one table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from components.progress import log_progress
from components.results import write_json
from data_checks.expectations import Severity
from data_checks.profile import Profile
from data_checks.quarantine import QuarantineSummary

Table = Literal["order_lines", "baskets"]

SHOWN_NUMBERS = ("rows", "orders", "products", "users", "basket_mean", "ts_first_s", "ts_last_s")
SHOWN_HISTOGRAMS = ("basket_sizes", "months")
"""Parts of the profile that the report shows."""


class ChecksFailed(ValueError):
    """The message names each failed critical check with observed, expected and remedy."""


class CheckResult(TypedDict):
    """`observed` and `expected` are texts with units; `examples` are sentences."""

    name: str
    title: str
    severity: Severity
    passed: bool
    observed: str
    expected: str
    examples: list[str]
    why: str
    remedy: str


class SkippedCheck(TypedDict):
    """A check without a number to check."""

    name: str
    title: str
    reason: str


@dataclass(frozen=True)
class CheckReport:
    """`profile` is None when the table has the wrong columns."""

    table: Table
    results: list[CheckResult]
    skipped: list[SkippedCheck]
    profile: Profile | None
    first_run: bool
    quarantine: QuarantineSummary | None = None

    @property
    def is_usable(self) -> bool:
        return not self.failures("critical")

    def failures(self, severity: Severity) -> list[CheckResult]:
        return [r for r in self.results if r["severity"] == severity and not r["passed"]]

    def to_json(self) -> dict[str, Any]:
        """Content of checks.json.

        {"table": "order_lines" | "baskets", "passed": bool,
        "first_run": bool, "sampled_share": 0 < share <= 1, "timezone": IANA name,
        "checks": [CheckResult], "skipped": [SkippedCheck], "quarantine": QuarantineSummary | null,
        "numbers": {name: number}, "histograms": {name: {bin: share}}}.
        """
        numbers = self.profile.numbers if self.profile else {}
        histograms = self.profile.histograms if self.profile else {}
        return {
            "table": self.table,
            "passed": self.is_usable,
            "first_run": self.first_run,
            "sampled_share": self.profile.sampled_share if self.profile else 1.0,
            "timezone": self.profile.timezone if self.profile else "UTC",
            "checks": self.results,
            "skipped": self.skipped,
            "quarantine": self.quarantine,
            "numbers": {name: numbers.get(name) for name in SHOWN_NUMBERS},
            "histograms": {name: histograms.get(name) or {} for name in SHOWN_HISTOGRAMS},
        }

    def metrics(self) -> dict[str, float]:
        rows = self.profile.numbers["rows"] if self.profile else None
        return {
            "rows": rows or 0,
            "checks_passed": sum(result["passed"] for result in self.results),
            "checks_warned": len(self.failures("warning")),
            "checks_failed": len(self.failures("critical")),
        }

    def write(self, checks: str | Path, profile: str | Path) -> None:
        write_json(self.to_json(), checks)
        write_json(self.profile.model_dump() if self.profile else {}, profile)
        n_warnings, n_critical = len(self.failures("warning")), len(self.failures("critical"))
        log_progress(
            f"{len(self.results)} checks: {n_warnings} warnings, {n_critical} critical failures"
        )

    def raise_if_critical(self) -> None:
        """Raises ChecksFailed; write first."""
        if failed := self.failures("critical"):
            lines = "\n".join(f"- {_describe(result)}" for result in failed)
            noun = "check" if len(failed) == 1 else "checks"
            raise ChecksFailed(f"{self.table}: {len(failed)} critical {noun} failed\n{lines}")


def _describe(result: CheckResult) -> str:
    return (
        f"{result['title']} ({result['name']}): observed {result['observed']}, "
        f"expected {result['expected']}. {' '.join([*result['examples'], result['remedy']])}"
    )
