"""Costs of child processes: wall and CPU seconds, and peak memory, with all descendants."""

import ctypes
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 0.25


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
    before = _children_cpu_s()
    started = time.monotonic()
    child = subprocess.Popen(command, env={**os.environ, **(env or {})})
    peak = _MemorySampler(child.pid)
    peak.start()
    code = child.wait()
    wall = time.monotonic() - started
    _reap_orphans()
    peak.stop()
    if code:
        raise RuntimeError(f"bench: {' '.join(command[:4])} … ended with code {code}")
    return Cost(wall, _children_cpu_s() - before, peak.bytes / 1e9)


def python_command(call: str) -> list[str]:
    """The command that runs Python code in a new process."""
    return [sys.executable, "-c", call]


class _MemorySampler(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
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


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap_orphans(patience_s: float = 15.0) -> None:
    deadline = time.monotonic() + patience_s
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if not pid:
                time.sleep(0.05)


def cpu_seconds() -> float:
    """Of this process and its children, running ones included (e.g. Spark's JVM)."""
    import psutil

    total = time.process_time() + _children_cpu_s()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = child.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def run_with_cpu_limit(command: Sequence[str], cpu_s: float, env: Mapping[str, str]) -> None:
    """Raises TimeoutError after killing a command that exceeds `cpu_s`, RuntimeError on failure.

    The output is discarded.
    """
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, env={**os.environ, **env}, stdout=quiet, stderr=quiet)
    before = cpu_seconds()
    while child.poll() is None:
        time.sleep(SAMPLE_S)
        if cpu_seconds() - before > cpu_s:
            _kill_tree(child.pid)
            child.wait()
            raise TimeoutError(f"killed after {cpu_s:.0f} CPU s")
    if child.returncode:
        raise RuntimeError(f"{' '.join(command[:2])} … ended with code {child.returncode}")


def _kill_tree(pid: int) -> None:
    import psutil

    parent = psutil.Process(pid)
    for process in (*parent.children(recursive=True), parent):
        with suppress(psutil.Error):
            process.kill()
