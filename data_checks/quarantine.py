"""Counts and examples of the order lines in quarantine."""

from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from components.contracts import QUARANTINE, open_table
from components.orders.clean import RECOGNISED
from data_checks.encoding import Codes, encode, open_as_codes

UNREADABLE = (
    "order_id missing",
    "product_id missing",
    "quantity not a number",
    "malformed line",
)
"""Reasons that point to a broken export."""

NO_SALES = (*RECOGNISED, "header repeated")
"""Reasons of lines that were never to be learned from."""

EXAMPLE_COLUMNS = ("order_id", "product_id", "ts", "quantity", "price", "reason")
"""Without the customer, for privacy."""


class QuarantineSummary(TypedDict):
    """Lines per reason, the most frequent first, and examples."""

    n_lines: int
    reasons: dict[str, int]
    examples: list[dict[str, Any]]


def summarize_quarantine(quarantine: Path) -> QuarantineSummary:
    """A line with two reasons counts for both."""
    reasons = read_reasons(quarantine)
    singles = {single for text in reasons.values.to_pylist() for single in text.split("; ")}
    counts = {single: count_lines(reasons, single) for single in singles}
    return {
        "n_lines": len(reasons.codes),
        "reasons": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        "examples": _example_lines(quarantine, reasons),
    }


def read_reasons(quarantine: Path) -> Codes:
    """The reason of each line; where there are several, joined by "; "."""
    return encode(open_as_codes(quarantine, QUARANTINE).to_table(columns=["reason"])["reason"])


def count_lines(reasons: Codes, *wanted: str) -> int:
    """Lines with any of the wanted reasons."""
    counts = zip(reasons.values.to_pylist(), reasons.counts.tolist(), strict=True)
    return sum(n for text, n in counts if set(wanted) & set(text.split("; ")))


def _example_lines(
    quarantine: Path, reasons: Codes, n_each: int = 3, n_reasons: int = 8
) -> list[dict[str, Any]]:
    """The first lines of the most frequent (joined) reasons."""
    frequent = np.argsort(-reasons.counts, kind="stable")[:n_reasons]
    rows = [np.flatnonzero(reasons.codes == code)[:n_each] for code in frequent]
    if not rows:
        return []
    table = open_table(quarantine, QUARANTINE).take(
        np.concatenate(rows), columns=list(EXAMPLE_COLUMNS)
    )
    return list(table.to_pylist())
