"""Child processes and their CPU time."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

SAMPLE_S = 0.25


def python_command(call: str) -> list[str]:
    return [sys.executable, "-c", call]


def children_cpu_s() -> float:
    """Of ended children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_seconds() -> float:
    """Of this process and its children, running ones included."""
    import psutil

    total = time.process_time() + children_cpu_s()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = child.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def run_with_cpu_limit(command: Sequence[str], cpu_s: float, env: Mapping[str, str]) -> None:
    """Raises TimeoutError after `cpu_s`, RuntimeError if the command fails."""
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
