"""Finds out who asks: on loopback, whoever sits at the machine."""

import getpass

from starlette.types import ASGIApp, Receive, Scope, Send

from bento.workbench.access.person import Person, Role


class Identify:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._local = Person(getpass.getuser(), Role.releaser)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["person"] = self._local
        await self._app(scope, receive, send)
