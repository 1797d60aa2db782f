"""`fbt run`: runs the training pipeline on this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel

from components.registry.registry import BENTO_TAG, Version, get_version
from components.registry.version import find_versions
from pipelines.home import Home
from pipelines.parameters import TrainingParameters, suggest_inspect
from pipelines.progress import Progress, find_report, read_version
from pipelines.start import inspect_inputs

READING_STEP = "read-orders"


class RunFailed(RuntimeError):
    """The message contains the step's reason, and the log."""


@dataclass(frozen=True)
class RunResult:
    version: Version
    report: Path
    seconds: dict[str, float]
    """By step; empty if an earlier run did the same."""


def run(
    parameters: TrainingParameters,
    home: Home,
    again: bool = False,
    show: Callable[[str], None] = print,
) -> RunResult:
    """Raises RunFailed and the errors of `inspect_inputs`."""
    report = home.root / "report.html"
    inputs = inspect_inputs(parameters)
    if not again and (version := _find_finished_version(inputs.run_key)):
        show(
            f"version {version.version} has the same code, data and parameters (--again trains "
            "nevertheless)"
        )
        return RunResult(version, report, {})
    started = time.monotonic()
    progress = Progress(show)
    log = home.logs / f"run-{time.strftime('%Y%m%d-%H%M%S')}.log"
    code = run_child("training", parameters, again, progress, log)
    if (page := find_report(home.runs, home.cache, progress)) and page.is_file():
        shutil.copyfile(page, report)
    if code:
        failure = format_failure(progress, log, report if page else None)
        if progress.failed == READING_STEP:
            failure += f"\n{suggest_inspect(parameters)}"
        raise RunFailed(failure)
    show(f"  all steps: {time.monotonic() - started:.0f} s; log: {log}")
    return RunResult(get_version(read_version(home.runs)), report, progress.seconds)


def _find_finished_version(run_key: str) -> Version | None:
    # Without a Bento, the run ended before its last step.
    return next((one for one in find_versions(run_key) if BENTO_TAG in one.tags), None)


def run_child(
    pipeline: str,
    parameters: BaseModel,
    again: bool,
    progress: Progress,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Its exit code."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file, log.open("w") as copy:
        json.dump(parameters.model_dump(), file)
        file.flush()
        options = ["--again"] if again else []
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "pipelines.kfp_local", pipeline, file.name, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(environment or {})},
            # In a group of its own, so that Ctrl-C ends all steps, Spark included.
            start_new_session=True,
        )
        try:
            assert child.stdout is not None
            progress.follow(_tee(child.stdout, copy))
            return child.wait()
        finally:
            end_group(child)


def end_group(child: "subprocess.Popen[str]", grace_s: float = 10.0) -> None:
    """SIGINT first, for steps that have started a server."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)
        os.killpg(child.pid, signal.SIGKILL)


def _tee(lines: Iterable[str], copy: TextIO) -> Iterator[str]:
    for line in lines:
        copy.write(line)
        copy.flush()
        yield line


def format_failure(progress: Progress, log: Path, report: Path | None) -> str:
    reason = progress.reason or "no reason was printed"
    where = f"log: {log}" + (f"\nreport: {report}" if report else "")
    step = progress.failed or "the pipeline"
    return f"{step} failed: {reason}\n{where}\nAfter fixing it, run again: finished steps are kept."
