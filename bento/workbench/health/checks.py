"""Data checks and drift of the newest versions' runs."""

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from components.registry.registry import fetch_artifact, list_versions

N_VERSIONS = 3
TABLES = {"order_lines": "Order lines", "baskets": "Baskets"}
DRIFT = "drift_"


class Check(NamedTuple):
    table: str
    name: str
    title: str
    observed: str
    expected: str
    remedy: str
    is_critical: bool


class TableChecks(NamedTuple):
    table: str
    n_passed: int
    failed: list[Check]
    drift: list[Check]
    """All checks of drift, passed ones too."""
    is_first: bool
    """There was nothing to compare with."""


class RunChecks(NamedTuple):
    version: str
    tables: list[TableChecks]
    """Empty if the run kept none."""


class ChecksReader:
    """A version's checks never change: each is fetched once."""

    def __init__(self) -> None:
        self._known: dict[str, RunChecks] = {}

    def read(self) -> list[RunChecks]:
        """Newest first. Raises RegistryError."""
        newest = [(one.version, one.run_id) for one in list_versions()[:N_VERSIONS]]
        for version, run_id in newest:
            if run_id not in self._known:
                self._known[run_id] = fetch_checks(version)
        self._known = {run_id: self._known[run_id] for _, run_id in newest}
        return list(self._known.values())


def fetch_checks(version: str) -> RunChecks:
    """Raises RegistryError."""
    with tempfile.TemporaryDirectory(prefix="fbt-checks-") as scratch:
        folder = Path(scratch) / "checks"
        if not fetch_artifact(version, "checks", folder):
            return RunChecks(version, [])
        files = [folder / f"{table}.json" for table in TABLES]
        found = [parse_checks(json.loads(file.read_text())) for file in files if file.is_file()]
    return RunChecks(version, found)


def parse_checks(found: dict[str, Any]) -> TableChecks:
    checks = [to_check(found["table"], one) for one in found["checks"]]
    passed = [one["passed"] for one in found["checks"]]
    return TableChecks(
        TABLES.get(found["table"], found["table"]),
        sum(passed),
        [check for check, is_good in zip(checks, passed, strict=True) if not is_good],
        [check for check in checks if check.name.startswith(DRIFT)],
        found["first_run"],
    )


def to_check(table: str, one: dict[str, Any]) -> Check:
    return Check(
        table, one["name"], one["title"], str(one["observed"]), str(one["expected"]),
        one["remedy"], one["severity"] == "critical",
    )  # fmt: skip
