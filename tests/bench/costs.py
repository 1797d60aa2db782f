"""Costs of child processes: wall and CPU seconds, and peak memory, with all descendants."""

import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pipelines.bench.processes import SAMPLE_S, children_cpu_s

PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float
    peak_gb: float
    """Largest sum of proportional set sizes, in 10^9 bytes: shared pages count once."""


def measure(command: Sequence[str], env: Mapping[str, str] | None = None) -> Cost:
    """Raises RuntimeError if the command fails.

    Linux only: orphans are adopted so that their CPU counts (Spark's JVM outlives its Python).
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = children_cpu_s()
    started = time.monotonic()
    child = subprocess.Popen(command, env={**os.environ, **(env or {})})
    peak = _MemorySampler()
    peak.start()
    code = child.wait()
    wall = time.monotonic() - started
    _reap_orphans()
    peak.stop()
    if code:
        raise RuntimeError(f"bench: {' '.join(command[:4])} … ended with code {code}")
    return Cost(wall, children_cpu_s() - before, peak.bytes / 1e9)


class _MemorySampler(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._stopped = threading.Event()

    def run(self) -> None:
        import psutil

        while not self._stopped.wait(SAMPLE_S):
            # With adopted orphans, without this process itself.
            family = psutil.Process(os.getpid()).children(recursive=True)
            total = 0
            for process in family:
                with suppress(psutil.Error):
                    total += process.memory_full_info().pss
            self.bytes = max(self.bytes, total)

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _reap_orphans(patience_s: float = 15.0) -> None:
    deadline = time.monotonic() + patience_s
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if not pid:
                time.sleep(0.05)
