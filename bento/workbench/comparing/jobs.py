"""Long computations in a thread of their own: their progress is seen, their results are kept."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Result = TypeVar("Result")

N_KEPT = 16


@dataclass
class Job(Generic[Result]):
    future: "Future[Result]" = field(default_factory=Future)
    done: int = 0
    total: int = 0

    def report(self, done: int, total: int) -> None:
        self.done, self.total = done, total


class Jobs(Generic[Result]):
    """One at a time, so that a page that computes leaves the processor to the others."""

    def __init__(self, n_kept: int = N_KEPT) -> None:
        self._n_kept = n_kept
        self._lock = threading.Lock()
        self._jobs: OrderedDict[Hashable, Job[Result]] = OrderedDict()
        self._executor = ThreadPoolExecutor(1, "workbench-job")

    def start(
        self, key: Hashable, compute: Callable[[Callable[[int, int], None]], Result]
    ) -> Job[Result]:
        """The job of this key, begun unless it is known. A failed one is begun again."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or (job.future.done() and job.future.exception()):
                job = self._jobs[key] = Job()
                job.future = self._executor.submit(compute, job.report)
            self._jobs.move_to_end(key)
            while len(self._jobs) > self._n_kept:
                _, oldest = self._jobs.popitem(last=False)
                oldest.future.cancel()
            return job
