"""Answers of slow neighbours, shared by all pages: each is asked for once at a time."""

import asyncio
import contextlib
import logging
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from bento.store.errors import StoreUnavailable
from bento.workbench.parts import Missing
from components.registry.registry import RegistryError

Result = TypeVar("Result")

RETRY_S = 2.0
"""A failure is not kept for longer: the page recovers."""

EXPECTED = (RegistryError, StoreUnavailable, OSError, ValueError, subprocess.TimeoutExpired)

_log = logging.getLogger("fbt.workbench")


class _Kept(NamedTuple, Generic[Result]):
    value: Result | Missing
    until: float


class Watched(Generic[Result]):
    """Asks in a thread of its own, which may outlast the page: the next page finds its answer.

    Belongs to one event loop.
    """

    def __init__(self, part: str, ask: Callable[[], Result], keep_s: float) -> None:
        self._part, self._ask, self._keep_s = part, ask, keep_s
        self._kept: _Kept[Result] | None = None
        self._asking: asyncio.Future[Result | Missing] | None = None

    async def get(self, wait_s: float) -> Result | Missing:
        """Missing if there is no answer in time; never raises."""
        if self._kept is not None and time.monotonic() < self._kept.until:
            return self._kept.value
        if self._asking is None:
            self._asking = self._start()
        try:
            return await asyncio.wait_for(asyncio.shield(self._asking), wait_s)
        except TimeoutError:
            return Missing(self._part, f"no answer within {wait_s:g} seconds yet")

    def forget(self) -> None:
        """After a change: the next page asks anew."""
        self._kept = self._asking = None

    def _start(self) -> "asyncio.Future[Result | Missing]":
        loop = asyncio.get_running_loop()
        asking: asyncio.Future[Result | Missing] = loop.create_future()

        def run() -> None:
            answer = self._try()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._finish, asking, answer)

        threading.Thread(target=run, name=f"fbt-health-{self._part}", daemon=True).start()
        return asking

    def _try(self) -> Result | Missing:
        try:
            return self._ask()
        except EXPECTED as error:
            return Missing(self._part, str(error) or type(error).__name__)
        except Exception as error:
            _log.exception("part_failed")
            return Missing(self._part, f"{type(error).__name__}; the workbench's log says more")

    def _finish(self, asking: "asyncio.Future[Result | Missing]", answer: Result | Missing) -> None:
        if not asking.done():
            asking.set_result(answer)
        if self._asking is asking:
            keep_s = min(self._keep_s, RETRY_S) if isinstance(answer, Missing) else self._keep_s
            self._kept = _Kept(answer, time.monotonic() + keep_s)
            self._asking = None
