"""The service's database for the event loop of the workbench."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from bento.store.errors import StoreUnavailable
from bento.store.store import Store
from bento.workbench.errors import PartUnavailable

Result = TypeVar("Result")


class WorkbenchDatabase:
    def __init__(self, url: str) -> None:
        """Does not connect."""
        self.store = Store(url)
        self._is_migrated = False

    async def call(self, function: Callable[[Store], Result]) -> Result:
        """The function's result, from a thread. Raises PartUnavailable, or what it raises."""
        try:
            return await asyncio.to_thread(self.run, function)
        except StoreUnavailable as error:
            raise PartUnavailable("database", str(error)) from None

    def run(self, function: Callable[[Store], Result]) -> Result:
        """As `call`, on this thread. Raises StoreUnavailable, or what it raises."""
        if not self._is_migrated:
            self.store.migrate()
            self._is_migrated = True
        return function(self.store)

    def close(self) -> None:
        self.store.close()
