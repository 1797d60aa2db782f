"""A pipeline in kfp.local: `python -m pipelines.kfp_local NAME FILE.json [--again]`.

`fbt run` and `fbt feedback` start it as a child process: its long output goes to a log, and Ctrl-C
ends all steps.
"""

import importlib
import json
import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

from components.step import STEPS_IMAGE
from pipelines.home import Home, code_version, open_home


def main() -> None:
    """Read the parameters from the JSON file; --again disables the cache."""
    # A shell ignores Ctrl-C for the processes that it starts in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # kfp logs cache hits outside of its own log context.
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(asctime)s - %(levelname)s - %(message)s"
    )
    parameters = json.loads(Path(sys.argv[2]).read_text())
    run_pipeline(find_pipeline(sys.argv[1]), parameters, open_home(), "--again" in sys.argv[3:])


def find_pipeline(name: str) -> Any:
    """`training` or `feedback`."""
    return getattr(importlib.import_module(f"pipelines.{name}"), name)


def run_pipeline(
    pipeline: Any, parameters: dict[str, Any], home: Home, again: bool = False
) -> None:
    """Raises RuntimeError if a step fails, which has printed the reason."""
    from kfp import local

    # kfp warns of images without "python" in their name; local runs use no image.
    warnings.filterwarnings("ignore", module="kfp")
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(home.runs),
        enable_caching=not again,
        cache_root=str(home.cache),
    )
    set_image(pipeline.pipeline_spec, STEPS_IMAGE.split(":")[0] + ":" + code_version())
    pipeline(**parameters)


def set_image(spec: Any, image: str) -> None:
    for executor in spec.deployment_spec["executors"].values():
        executor["container"]["image"] = image


if __name__ == "__main__":
    main()
