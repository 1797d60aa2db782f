"""`fbt bench demo`: the demo in an empty FBT_HOME, and again."""

import os
import tempfile
from pathlib import Path
from typing import Any

from pipelines.bench.processes import python_command
from pipelines.home import Home
from tests.bench.costs import measure


def bench() -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Figures and rows: wall seconds, peak memory, test NDCG@10 of single products."""
    with tempfile.TemporaryDirectory() as folder:
        command = python_command("from pipelines.cli import main; main(['demo', '--check'])")
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        first = measure(command, {"FBT_HOME": folder})
        again = measure(command, {"FBT_HOME": folder})
        ndcg = _ndcg(Home(Path(folder)))
    figures = {
        "demo_wall_s": first.wall_s,
        "demo_peak_gb": first.peak_gb,
        "demo_again_wall_s": again.wall_s,
        "task_a_ndcg": ndcg,
    }
    rows = [{"what": what, **cost.__dict__} for what, cost in (("first", first), ("again", again))]
    return figures, rows


def _ndcg(home: Home) -> float:
    from components.registry.registry import get_version

    os.environ.update(home.environment())
    return float(get_version("champion").tags["fbt.ndcg_a"])
