"""Measurements, by name. Each prints a table, and writes its figures where it is told to."""

import importlib
import json
import os
import platform
from pathlib import Path
from typing import Any

from components.contracts import written_aside
from pipelines.home import code_version
from pipelines.tables import table

NAMES = ("demo", "baskets", "scale")


def run_bench(name: str, to: Path | None) -> None:
    """Run the bench `name`. Raises ValueError for an unknown one."""
    if name not in NAMES:
        raise ValueError(f"bench: {name!r} is unknown, expected one of {', '.join(NAMES)}")
    module = importlib.import_module(f"pipelines.bench.{name}")
    figures, rows = module.bench()
    print(table(list(rows[0]), [[_shown(value) for value in row.values()] for row in rows]))
    print()
    print(table(("figure", "value"), [(key, _shown(value)) for key, value in figures.items()]))
    if to:
        context = {**_context(), **getattr(module, "CONTEXT", {})}
        result = {"bench": name, "figures": figures, "rows": rows, "context": context}
        with written_aside(to) as aside:
            aside.write_text(json.dumps(result, indent=2))


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _context() -> dict[str, Any]:
    return {
        "code_version": code_version(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
