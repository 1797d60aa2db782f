"""Limits what a form may send."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 1024 * 1024


class BodyLimit:
    """Whoever reads the body of a larger request gets HTTPException 413, which becomes a page."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        n_bytes = int(declared) if declared.isdecimal() else 0

        async def receive_limited() -> Message:
            nonlocal n_bytes
            self._check(n_bytes)
            message = await receive()
            if declared == "0":
                n_bytes += len(message.get("body", b""))
                self._check(n_bytes)
            return message

        await self._app(scope, receive_limited, send)

    def _check(self, n_bytes: int) -> None:
        if n_bytes > self._max_bytes:
            raise HTTPException(
                413, f"the form has {n_bytes:,} bytes or more, expected at most {self._max_bytes:,}"
            )
