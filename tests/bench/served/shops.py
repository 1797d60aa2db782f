"""Made-up bundles where a bench keeps them, each made by a process of its own."""

import subprocess
from pathlib import Path

from components.model.bundle import BundleError
from components.model.verification import verify_bundle
from components.progress import log_progress
from pipelines.bench.processes import python_command


def ensure_bundle(work: Path, n_items: int) -> Path:
    """The bundle of so many products below `work`, made where it is not whole; every hash fits."""
    target = work / f"bundle-{n_items}"
    try:
        verify_bundle(target)
    except BundleError:
        log_progress(f"making a bundle of {n_items:,} products")
        call = (
            "from pathlib import Path; from tests.bench.served.bundles import make_bundle; "
            f"make_bundle(Path({str(target)!r}), {n_items})"
        )
        subprocess.run(python_command(call), check=True)
        verify_bundle(target)
    return target
