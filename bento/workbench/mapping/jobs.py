"""Computes t-SNE in processes of low priority, one at a time, and keeps the results as files."""

import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bento.workbench.mapping.plane import normalize_rows, to_whole_numbers
from components.model.arrays import AnyArray, UInt16Array
from components.model.atomic import atomic_write

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass
class Job:
    share: float = 0.0
    """That is done."""
    failure: str | None = None


class JobFailed(RuntimeError):
    """The message is the last that the process wrote."""


class TsneJobs:
    """`key` names vectors by their content."""

    def __init__(self, folder: Path, niceness: int) -> None:
        self._folder, self._niceness = folder, niceness
        self._jobs: dict[str, Job] = {}
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._is_stopped = False

    def read_result(self, key: str) -> UInt16Array | None:
        """Positions (n, 2), once they are there; a damaged file counts as none."""
        try:
            return np.asarray(np.load(self._file(key)), np.uint16)
        except (OSError, ValueError, EOFError):
            return None

    def get_job(self, key: str) -> Job | None:
        return self._jobs.get(key)

    def start(self, key: str, vectors: AnyArray) -> None:
        """Once for each key, failed ones included."""
        with self._lock:
            if key in self._jobs:
                return
            job = self._jobs[key] = Job()
        threading.Thread(target=self._run, args=(key, vectors, job), daemon=True).start()

    def stop(self) -> None:
        self._is_stopped = True
        if (process := self._process) is not None:
            process.kill()

    def _run(self, key: str, vectors: AnyArray, job: Job) -> None:
        with self._turn:
            try:
                if not self._is_stopped:
                    self._compute(key, vectors, job)
            except (OSError, JobFailed) as error:
                job.failure = str(error)

    def _compute(self, key: str, vectors: AnyArray, job: Job) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            given, result = Path(folder) / "vectors.npy", Path(folder) / "points.npy"
            np.save(given, normalize_rows(vectors))
            self._run_process(given, result, job)
            positions = to_whole_numbers(np.load(result))
        with atomic_write(self._file(key)) as aside, aside.open("wb") as file:
            np.save(file, positions)

    def _run_process(self, vectors: Path, result: Path, job: Job) -> None:
        module = "bento.workbench.mapping.worker"
        given = (str(vectors), str(result), str(self._niceness))
        command = [sys.executable, "-m", module, *given]
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                text=True, env=os.environ | ONE_THREAD,
            ) as process,
        ):  # fmt: skip
            self._process = process
            assert process.stdout is not None
            for line in process.stdout:
                job.share = float(line)
            if code := process.wait():
                errors.seek(0)
                lines = errors.read().strip().splitlines()
                raise JobFailed(lines[-1] if lines else f"the process ended with code {code}")

    def _file(self, key: str) -> Path:
        return self._folder / f"tsne-{key}.npy"
