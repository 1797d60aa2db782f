"""Online measures of versions, beside the offline ones of their runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from components.registry import registry
from components.registry.registry import list_versions, registry_client

METRIC = "online."
"""Prefix of a run's metrics: `online.click_through`, `….lower`, `….upper`."""
SESSIONS_METRIC = "online.n_sessions"
TAG = "fbt.online_"
"""Prefix of a version's tags: `fbt.online_click_through`."""
SESSIONS_TAG, WINDOW_TAG = "fbt.online_sessions", "fbt.online_window"

OFFLINE = {
    "ndcg": "NDCG",
    "excess": "excess NDCG",
    "hr": "hit rate",
    "bestsellers_at_5": "bestsellers among five",
    "own_kind_at_5": "products of the asked kind among five",
    "kinds_at_5": "kinds among five",
}
"""Offline measures that may predict online ones, by their name in a run's metrics."""
TASKS = {"item": "product page", "cart": "cart"}


class OnlineMeasure(NamedTuple):
    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class VersionMeasures:
    version: str
    offline: Mapping[str, float]
    """By words, as `NDCG, product page`."""
    online: Mapping[str, OnlineMeasure]
    """As they were recorded, by name."""


def record_online_metrics(
    version: str, measures: Mapping[str, OnlineMeasure], n_sessions: int, window: str = ""
) -> None:
    """As metrics of the version's run and as its tags; a later record replaces an earlier one's
    tags. Raises RegistryError."""
    with registry_client() as client:
        run_id = registry.get_run_id(client, version)
        numbers = {SESSIONS_METRIC: float(n_sessions)}
        tags = {SESSIONS_TAG: str(n_sessions), WINDOW_TAG: window}
        for name, one in measures.items():
            bounds = {"": one.value, ".lower": one.lower, ".upper": one.upper}
            numbers |= {f"{METRIC}{name}{end}": x for end, x in bounds.items() if x is not None}
            tags[f"{TAG}{name}"] = _describe(one)
        for key, value in numbers.items():
            client.log_metric(run_id, key, value)
        for key, text in tags.items():
            client.set_model_version_tag(registry.MODEL, version, key, text)


def _describe(one: OnlineMeasure) -> str:
    text = f"{one.value:.5g}"
    if one.lower is None or one.upper is None:
        return text
    return f"{text} ({one.lower:.5g} to {one.upper:.5g})"


def read_version_measures() -> list[VersionMeasures]:
    """Of all versions, newest first. Raises RegistryError."""
    versions = list_versions()
    with registry_client() as client:
        runs = [client.get_run(one.run_id).data.metrics if one.run_id else {} for one in versions]
    return [
        VersionMeasures(one.version, _read_offline(metrics), _read_online(metrics))
        for one, metrics in zip(versions, runs, strict=True)
    ]


def _read_offline(metrics: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for task, place in TASKS.items():
        for name, words in OFFLINE.items():
            value = metrics.get(f"test.{task}.model.{name}.mean")
            if value is not None:
                found[f"{words}, {place}"] = float(value)
    return found


def _read_online(metrics: Mapping[str, Any]) -> dict[str, OnlineMeasure]:
    names = {key[len(METRIC) :].split(".")[0] for key in metrics if key.startswith(METRIC)}
    names.discard(SESSIONS_METRIC[len(METRIC) :])
    ends = ("", ".lower", ".upper")
    return {
        name: OnlineMeasure._make(metrics.get(f"{METRIC}{name}{end}") for end in ends)
        for name in sorted(names)
        if f"{METRIC}{name}" in metrics
    }
