"""Finds out who asks."""

import time
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from bento.workbench.access.person import Person, Role
from bento.workbench.access.policy import AccessPolicy

PERSON = "person"


class Identify:
    """Sets `request.state.person`; None has to log in."""

    def __init__(self, app: ASGIApp, policy: AccessPolicy) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            person = self._policy.everybody or read_person(scope["session"])
            scope.setdefault("state", {})["person"] = person
        await self._app(scope, receive, send)


def read_person(session: dict[str, Any]) -> Person | None:
    """The session is signed: what it holds, we wrote."""
    found = session.get(PERSON)
    if found is None or found["ends_at"] <= time.time():
        return None
    return Person(found["name"], Role[found["role"]], can_log_out=True)
