"""What was kept out of the order lines, and why."""

from pathlib import Path
from typing import Any

import numpy as np

from components.contracts import QUARANTINE, open_table
from data_checks.encoding import Codes, encode, open_as_codes

UNREADABLE = (
    "order_id missing",
    "product_id missing",
    "quantity not a number",
    "price not a number",
    "timestamp unreadable",
    "timestamp in the future",
    "timestamp before 1990",
)
"""Reasons that tell of a broken feed rather than of how the shop does business."""

EXAMPLE_COLUMNS = ("order_id", "product_id", "ts", "quantity", "price", "reason")
"""Columns of the example lines. Customers are nobody's business here."""


def read_reasons(quarantine: Path) -> Codes:
    """The reason of each line; where there are several, joined by "; "."""
    return encode(open_as_codes(quarantine, QUARANTINE).to_table(columns=["reason"])["reason"])


def n_lines(reasons: Codes, *wanted: str) -> int:
    """Lines that have at least one of the wanted reasons; all lines if none is named."""
    counts = zip(reasons.values.to_pylist(), reasons.counts.tolist(), strict=True)
    return sum(n for text, n in counts if not wanted or set(wanted) & set(text.split("; ")))


def reason_counts(reasons: Codes) -> dict[str, int]:
    """Lines per single reason, most frequent first; a line with two reasons counts for both."""
    singles = {single for text in reasons.values.to_pylist() for single in text.split("; ")}
    counts = {single: n_lines(reasons, single) for single in singles}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def example_lines(
    quarantine: Path, reasons: Codes, n_each: int = 3, n_reasons: int = 8
) -> list[dict[str, Any]]:
    """The first lines of each of the most frequent (joined) reasons."""
    frequent = np.argsort(-reasons.counts, kind="stable")[:n_reasons]
    rows = [np.flatnonzero(reasons.codes == code)[:n_each] for code in frequent]
    if not rows:
        return []
    wanted = np.concatenate(rows)
    table = open_table(quarantine, QUARANTINE).take(wanted, columns=list(EXAMPLE_COLUMNS))
    return list(table.to_pylist())
