"""Small results of a step: a JSON file, and metrics for the KFP UI."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.model.atomic import atomic_write


def write_json(content: Any, path: str | Path) -> None:
    """Write atomically; raises ValueError for NaN, which is not JSON."""
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(content, indent=2, allow_nan=False))


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text())


def log_metrics(metrics: Any, found: Mapping[str, Any]) -> None:
    """Log the numbers of `found`, with dotted names for nested ones."""
    numbers = flatten_numbers(found)
    for name, value in numbers.items():
        metrics.log_metric(name, value)
    # kfp.local takes a step as unfinished if an artifact has no file.
    write_json(numbers, metrics.path)


def flatten_numbers(found: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Finite numbers by dotted names that KFP and MLflow accept."""
    numbers: dict[str, float] = {}
    for key, value in found.items():
        name = f"{prefix}{re.sub(r'[^A-Za-z0-9_]+', '_', str(key)).strip('_')}"
        if isinstance(value, Mapping):
            numbers.update(flatten_numbers(value, f"{name}."))
        elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            numbers[name] = float(value)
    return numbers


def drop_nulls(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A KFP parameter cannot hold null."""
    return [{key: value for key, value in row.items() if value is not None} for row in rows]
