"""Drift of a table since the previous run."""

from collections.abc import Mapping
from math import log

from data_checks.profile import Profile

FLOOR = 1e-4
"""Smallest share in the index, so that an empty bin does not make it infinite."""

NUMBERS = (
    "volume_ratio",
    "newer_by_days",
    "drift_sizes",
    "drift_products",
    "drift_categories",
    "drift_weekdays",
)


def compare_profiles(before: Profile | None, now: Profile) -> dict[str, float | None]:
    if before is None:
        return dict.fromkeys(NUMBERS)
    old, new = before.numbers, now.numbers
    last_old, last_new = old.get("ts_last_s"), new.get("ts_last_s")
    return {
        "volume_ratio": (new["rows"] or 0) / old["rows"] if old["rows"] else None,
        "newer_by_days": None
        if last_old is None or last_new is None
        else (last_new - last_old) / 86400,
        "drift_sizes": _histogram_drift(before, now, "basket_sizes"),
        "drift_products": _histogram_drift(before, now, "products"),
        "drift_categories": _histogram_drift(before, now, "categories"),
        "drift_weekdays": _histogram_drift(before, now, "weekdays"),
    }


def stability_index(
    before: Mapping[str, float], now: Mapping[str, float], n_bins: int = 50
) -> float:
    """Population stability index, sum of (q - p)·ln(q / p), over the largest bins of `before`.

    All other bins are one more bin.
    """
    bins = sorted(before, key=lambda label: -before[label])[:n_bins]
    p = [before[label] for label in bins]
    q = [now.get(label, 0.0) for label in bins]
    pairs = zip([*p, 1 - sum(p)], [*q, 1 - sum(q)], strict=True)
    floored = [(max(a, FLOOR), max(b, FLOOR)) for a, b in pairs]
    return sum((b - a) * log(b / a) for a, b in floored)


def _histogram_drift(before: Profile, now: Profile, name: str) -> float | None:
    p, q = before.histograms.get(name), now.histograms.get(name)
    return stability_index(p, q) if p and q else None
