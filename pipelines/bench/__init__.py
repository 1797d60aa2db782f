"""The benchmarks by name. Each prints a table and can write its figures to a file."""

import importlib
import inspect
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.model.atomic import atomic_write
from pipelines.home import code_version
from pipelines.tables import table

MODULES = {
    "demo": "tests.bench.demo",
    "baskets": "tests.bench.baskets",
    "online": "tests.bench.online",
    "quality": "pipelines.bench.quality",
    "reading": "tests.bench.reading",
    "scale": "tests.bench.scale",
    "serving": "tests.bench.serving",
    "soak": "tests.bench.soak",
    "workbench": "tests.bench.workbench",
}
"""Those below tests/ need a checkout."""


def run_bench(name: str, to: Path | None, options: Mapping[str, Any]) -> None:
    """Raises ValueError for wrong names and options, and the errors of the benchmark's `check`."""
    module = _load(name)
    for path in (to, options.get("chart")):
        # Writing would replace the folder.
        if path and path.is_dir():
            raise ValueError(f"bench {name}: {path} is a folder, expected the name of a file")
    _refuse_options(name, inspect.signature(module.bench).parameters, options)
    figures, rows = module.bench(**options)
    print(getattr(module, "format_rows", _rows_table)(rows))
    print()
    print(table(("figure", "value"), [(key, _format(value)) for key, value in figures.items()]))
    if to:
        context = {**_context(), **getattr(module, "CONTEXT", {})}
        result = {"bench": name, "figures": figures, "rows": rows, "context": context}
        with atomic_write(to) as aside:
            aside.write_text(json.dumps(result, indent=2))
    getattr(module, "check", lambda _figures: None)(figures)


def _load(name: str) -> Any:
    if name not in MODULES:
        raise ValueError(f"bench: {name!r} is unknown, expected one of {', '.join(MODULES)}")
    root = Path(__file__).parents[2]
    if not (root / MODULES[name].replace(".", "/")).with_suffix(".py").is_file():
        raise ValueError(
            f"bench: {name} is part of a checkout of the source, and missing below {root}; install "
            "fbt from a checkout with `make setup`"
        )
    return importlib.import_module(MODULES[name])


def _refuse_options(
    name: str, taken: Mapping[str, inspect.Parameter], options: Mapping[str, Any]
) -> None:
    for option in options:
        if option not in taken:
            raise ValueError(f"bench {name}: it has no option --{option}")
    for option, parameter in taken.items():
        if parameter.default is parameter.empty and option not in options:
            raise ValueError(f"bench {name}: --{option} is missing; see fbt bench --help")


def _rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    return table(list(rows[0]), [[_format(value) for value in row.values()] for row in rows])


def _format(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _context() -> dict[str, Any]:
    return {
        "code_version": code_version(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
