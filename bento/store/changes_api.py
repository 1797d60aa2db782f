"""What the paths of rules and catalogue changes do, apart from HTTP itself.

Every method waits for the database in a thread; the event loop goes on. The threads are few and
waited for in vain only so long: a database that hangs must not take the process with it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from bento.answering.catalogue_changes import CatalogueAnswer, CatalogueRequest
from bento.answering.rule_history import RuleHistory, RuleHistoryRequest
from bento.answering.rules import Rule, RuleList, RuleRequest
from bento.schemas import FieldError
from bento.store.errors import RuleUnknown, StoreUnavailable, TooManyRules
from bento.store.poller import DATABASE_URL, ChangePoller

if TYPE_CHECKING:
    from bento.store.store import Store

USER_HEADER = b"x-fbt-user"
UNNAMED = "token"

RETRY_AFTER_S = 1
N_THREADS = 4
TIMEOUT_S = 15.0
"""Of a request, its place in the queue included. Longer than a write waits for other writers."""

Result = TypeVar("Result")


class ChangeRefused(Exception):
    """The request is answered with a problem of this status."""

    def __init__(self, status: HTTPStatus, field: str, found: str, expected: str) -> None:
        super().__init__(f"{field}: found {found}, expected {expected}")
        self.status, self.errors = status, [FieldError(field=field, found=found, expected=expected)]

    @property
    def retry_after_s(self) -> int | None:
        """Whether, and when, it is worth another try."""
        return RETRY_AFTER_S if self.status == HTTPStatus.SERVICE_UNAVAILABLE else None


class ChangesApi:
    """The handlers, over what this process reads from the database; None where there is none."""

    def __init__(self, poller: ChangePoller | None) -> None:
        self._poller = poller
        self._threads = ThreadPoolExecutor(N_THREADS, "fbt-changes")

    async def change_catalogue(self, request: CatalogueRequest) -> CatalogueAnswer:
        """POST /catalogue: 200. Raises ChangeRefused (503)."""
        return await self._write(lambda store: store.change_products(request))

    async def rules(self) -> RuleList:
        """GET /rules: 200. Raises ChangeRefused (503)."""
        return await self._call(lambda store: store.rules())

    async def rule_history(self, request: RuleHistoryRequest) -> RuleHistory:
        """GET /rules/history: 200. Raises ChangeRefused (503)."""
        return await self._call(lambda store: store.rule_history(request))

    async def rule(self, rule_id: str) -> Rule:
        """GET /rules/{rule_id}: 200. Raises ChangeRefused (404, 503)."""
        return await self._call(lambda store: store.rule(rule_id))

    async def add_rule(self, request: RuleRequest, by: str) -> Rule:
        """POST /rules: 201. Raises ChangeRefused (409, 503)."""
        return await self._write(lambda store: store.add_rule(request, by))

    async def replace_rule(self, rule_id: str, request: RuleRequest, by: str) -> Rule:
        """PUT /rules/{rule_id}: 200. Raises ChangeRefused (404, 503)."""
        return await self._write(lambda store: store.replace_rule(rule_id, request, by))

    async def delete_rule(self, rule_id: str, by: str) -> None:
        """DELETE /rules/{rule_id}: 204. Raises ChangeRefused (404, 503)."""
        await self._write(lambda store: store.delete_rule(rule_id, by))

    async def _write(self, what: Callable[["Store"], Result]) -> Result:
        result = await self._call(what)
        if self._poller is not None:
            self._poller.refresh()
        return result

    async def _call(self, what: Callable[["Store"], Result]) -> Result:
        poller = self._poller
        if poller is None:
            raise ChangeRefused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "database",
                "none",
                f"{DATABASE_URL} set to sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME",
            )
        try:
            done = asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: what(poller.store)
            )
            return await asyncio.wait_for(done, TIMEOUT_S)
        except TimeoutError:
            raise ChangeRefused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "database",
                f"no answer in {TIMEOUT_S:g} s",
                "one that answers; the change may have been made all the same",
            ) from None
        except RuleUnknown as error:
            raise ChangeRefused(
                HTTPStatus.NOT_FOUND, "rule_id", str(error), "the id of one in GET /rules"
            ) from None
        except TooManyRules as error:
            raise ChangeRefused(HTTPStatus.CONFLICT, "rules", str(error), "fewer rules") from None
        except StoreUnavailable as error:
            raise ChangeRefused(
                HTTPStatus.SERVICE_UNAVAILABLE, "database", str(error), "one that answers"
            ) from None


def get_user(headers: Mapping[bytes, bytes]) -> str:
    """Who writes, as the audit trail names it: the header X-Fbt-User, or `token`."""
    with contextlib.suppress(UnicodeDecodeError):
        name = headers.get(USER_HEADER, b"").decode().strip()
        if name.isprintable() and 0 < len(name) <= 128:
            return name
    return UNNAMED
