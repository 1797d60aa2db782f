"""Measures, data and parameters of two versions side by side, as the registry has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, NamedTuple

from components.registry.online import METRIC, OFFLINE, SESSIONS_METRIC, TASKS
from components.registry.registry import Version, registry_client

Better = Literal["higher", "lower", "neither"]
Unit = Literal["number", "share", "grade", "count"]

JUDGED = "judged."
"""Prefix of a run's metrics: `judged.grade`, `….lower`, `….upper`."""


class Kind(NamedTuple):
    words: str
    unit: Unit = "number"
    better: Better = "higher"


OFFLINE_KINDS: Mapping[str, Kind] = {
    "ndcg": Kind("NDCG@10"),
    "excess": Kind("Excess NDCG@10"),
    "hr": Kind("Hit rate", "share"),
    "coverage": Kind("Catalogue recommended", "share"),
    "bestsellers_at_5": Kind("Bestsellers among five", "share", "lower"),
    "own_kind_at_5": Kind("Own kind among five", "share", "neither"),
    "kinds_at_5": Kind("Kinds among five", "count", "neither"),
}
ONLINE_KINDS: Mapping[str, Kind] = {
    "click_through": Kind("Click-through rate", "share"),
    "add_rate": Kind("Added to cart per impression", "share"),
    "purchase_rate": Kind("Bought per impression", "share"),
    "revenue_per_1000": Kind("Revenue per 1,000 impressions", "count"),
    "attach_rate": Kind("Orders with a recommended product", "share"),
    "average_order_value": Kind("Average order value", "count"),
    "fallback_share": Kind("Answers by a fallback", "share", "lower"),
    "coverage": Kind("Catalogue shown", "share"),
}


@dataclass(frozen=True)
class MeasureRow:
    group: str
    words: str
    unit: Unit
    better: Better
    a: float | None
    b: float | None
    bounds_a: tuple[float, float] | None = None
    bounds_b: tuple[float, float] | None = None

    @property
    def difference(self) -> float | None:
        return None if self.a is None or self.b is None else self.b - self.a

    @property
    def verdict(self) -> str:
        """Of B: better or worse, where intervals were recorded and do not overlap; else empty."""
        if self.difference is None or self.better == "neither":
            return ""
        if not _are_apart(self.bounds_a, self.bounds_b):
            return ""
        return "better" if (self.difference > 0) == (self.better == "higher") else "worse"


@dataclass(frozen=True)
class RegisteredFacts:
    measures: tuple[MeasureRow, ...]
    windows: tuple[str, str]
    parameters: tuple[tuple[str, str, str], ...]
    """Name and both values, of those that differ."""
    n_equal_parameters: int

    @property
    def groups(self) -> list[tuple[str, list[MeasureRow]]]:
        found = groupby(self.measures, key=lambda row: row.group)
        return [(group, list(rows)) for group, rows in found]


def read_facts(a: Version, b: Version) -> RegisteredFacts:
    """Raises RegistryError."""
    with registry_client() as client:
        runs = [client.get_run(one.run_id).data if one.run_id else None for one in (a, b)]
    metrics_a, metrics_b = (run.metrics if run else {} for run in runs)
    params_a, params_b = (run.params if run else {} for run in runs)
    names = sorted(params_a.keys() | params_b.keys())
    differing = [
        (name, params_a.get(name, ""), params_b.get(name, ""))
        for name in names
        if params_a.get(name, "") != params_b.get(name, "")
    ]
    windows = tuple(one.tags.get("fbt.data_window", "not recorded") for one in (a, b))
    return RegisteredFacts(
        tuple(list_measures(metrics_a, metrics_b)), (windows[0], windows[1]),
        tuple(differing), len(names) - len(differing),
    )  # fmt: skip


def list_measures(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[MeasureRow]:
    """Of two runs' metrics; a measure that neither has is left out."""
    rows = []
    for task, place in TASKS.items():
        for name, kind in OFFLINE_KINDS.items():
            key = f"test.{task}.model.{name}"
            group = f"Held-out orders, {place}"
            rows.append(_read_row(group, kind, a, b, key, "mean", "low", "high"))
    for prefix, group, kinds in ((METRIC, "Online", ONLINE_KINDS), (JUDGED, "Judged", {})):
        for name in _list_names(prefix, a, b):
            kind = kinds.get(name) or _guess_kind(name, prefix)
            rows.append(_read_row(group, kind, a, b, prefix + name, "", "lower", "upper"))
    return [row for row in rows if row.a is not None or row.b is not None]


def _read_row(
    group: str, kind: Kind, a: Mapping[str, Any], b: Mapping[str, Any], key: str, *ends: str
) -> MeasureRow:
    (own, bounds_a), (other, bounds_b) = (_read_value(one, key, *ends) for one in (a, b))
    return MeasureRow(group, *kind, own, other, bounds_a, bounds_b)


def _read_value(
    metrics: Mapping[str, Any], key: str, mean: str, low: str, high: str
) -> tuple[float | None, tuple[float, float] | None]:
    value = metrics.get(f"{key}.{mean}" if mean else key, metrics.get(key))
    bounds = metrics.get(f"{key}.{low}"), metrics.get(f"{key}.{high}")
    if bounds[0] is None or bounds[1] is None:
        return value, None
    return value, (float(bounds[0]), float(bounds[1]))


def _list_names(prefix: str, *metrics: Mapping[str, Any]) -> list[str]:
    keys = {key[len(prefix) :] for one in metrics for key in one if key.startswith(prefix)}
    keys.discard(SESSIONS_METRIC[len(METRIC) :])
    return sorted({key.removesuffix(".lower").removesuffix(".upper") for key in keys})


def _guess_kind(name: str, prefix: str) -> Kind:
    words = OFFLINE.get(name, name.replace("_", " ")).capitalize()
    if name.startswith("n_"):
        return Kind(words.removeprefix("N "), "count", "neither")
    if "share" in name:
        return Kind(words, "share", "lower" if "worst" in name or "fallback" in name else "higher")
    return Kind(words, "grade" if prefix == JUDGED else "number")


def _are_apart(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool:
    return a is not None and b is not None and (a[1] < b[0] or b[1] < a[0])
