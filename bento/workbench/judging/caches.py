"""What the judge's pages keep in memory: sheets, the queue, page views."""

import asyncio
import time
from dataclasses import dataclass, field

from starlette.requests import Request

from bento.workbench.context import Workbench, keep
from bento.workbench.judging.page_views import count_views
from bento.workbench.judging.queue import QueuedPage, build_queue
from bento.workbench.judging.sheets import SheetCache
from bento.workbench.versions import LoadedVersion, VersionLoading

QUEUE_AGE_S = 600.0
MAX_QUEUES = 8
MAX_OPENING_S = 300.0
"""To fetch a bundle of a million products from the registry takes a minute or two."""

Queue = list[QueuedPage]


@dataclass
class QueueCache:
    """Queues by versions and list length; each is built once, whoever asks."""

    running: dict[tuple[tuple[str, ...], int], tuple[float, "asyncio.Task[Queue]"]] = field(
        default_factory=dict
    )

    async def get(
        self, workbench: Workbench, versions: tuple[str, ...], k: int, wait_s: float | None
    ) -> Queue | None:
        """None if it is not built within `wait_s`. Raises what opening versions raises."""
        key = versions, k
        started, task = self.running.get(key, (0.0, None))
        is_old = time.monotonic() - started > QUEUE_AGE_S
        if task is None or is_old or (task.done() and task.exception()):
            task = asyncio.create_task(_build(workbench, versions, k))
            self.running[key] = time.monotonic(), task
            while len(self.running) > MAX_QUEUES:
                self.running.pop(next(iter(self.running)))
        try:
            return await asyncio.wait_for(asyncio.shield(task), wait_s)
        except TimeoutError:
            return None


async def _build(workbench: Workbench, versions: tuple[str, ...], k: int) -> Queue:
    loaded = [await open_version(workbench, one) for one in versions]
    given = workbench.settings.events_url
    views = await asyncio.to_thread(count_views, given.get_secret_value() if given else None)
    return await asyncio.to_thread(build_queue, loaded, k, views)


async def open_version(workbench: Workbench, version: str) -> LoadedVersion:
    """However long it takes, within reason. Raises as `get` does."""
    deadline = time.monotonic() + MAX_OPENING_S
    while True:
        try:
            return await workbench.versions.get(version)
        except VersionLoading:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


@dataclass
class JudgingCaches:
    sheets: SheetCache = field(default_factory=SheetCache)
    queues: QueueCache = field(default_factory=QueueCache)


def get_caches(request: Request) -> JudgingCaches:
    return keep(request, JudgingCaches, JudgingCaches)
