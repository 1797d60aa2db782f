"""The store for the event loop: a database that hangs blocks neither it nor the process."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from bento.http.errors import HttpError
from bento.schemas.problems import FieldError
from bento.store.errors import RuleUnknown, StoreUnavailable, TooManyRules
from bento.store.poller import DATABASE_URL, ChangePoller

if TYPE_CHECKING:
    from bento.store.store import Store

RETRY_AFTER = {"retry-after": "1"}
N_THREADS = 4
TIMEOUT_S = 15.0
"""Per call, waiting for a thread included."""

Result = TypeVar("Result")


class AsyncStore:
    """Calls raise HttpError: 404 for an unknown rule, 409 for too many, 503 without a database."""

    def __init__(self, poller: ChangePoller | None) -> None:
        self._poller = poller
        self._threads = ThreadPoolExecutor(N_THREADS, "fbt-store")

    async def write(self, call: Callable[["Store"], Result]) -> Result:
        result = await self.read(call)
        assert self._poller is not None
        self._poller.refresh()
        return result

    async def read(self, call: Callable[["Store"], Result]) -> Result:
        poller = self._poller
        if poller is None:
            urls = "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
            raise _refuse(503, "database", "none", f"{DATABASE_URL} set to {urls}")
        try:
            loop = asyncio.get_running_loop()
            done = loop.run_in_executor(self._threads, lambda: call(poller.store))
            return await asyncio.wait_for(done, TIMEOUT_S)
        except TimeoutError:
            found = f"no answer in {TIMEOUT_S:g} s"
            expected = "one that answers; the change may have been made all the same"
            raise _refuse(503, "database", found, expected) from None
        except RuleUnknown as error:
            raise _refuse(404, "rule_id", str(error), "the id of one in GET /rules") from None
        except TooManyRules as error:
            raise _refuse(409, "rules", str(error), "fewer rules") from None
        except StoreUnavailable as error:
            raise _refuse(503, "database", str(error), "one that answers") from None


def _refuse(status: int, field: str, found: str, expected: str) -> HttpError:
    error = FieldError(field=field, found=found, expected=expected)
    return HttpError(status, error, headers=RETRY_AFTER if status == 503 else None)
