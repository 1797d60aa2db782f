"""Scheme and host as the browser sees them, told by a proxy that is trusted."""

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from bento.settings import Network


class ForwardedHeaders:
    """The last value counts, which the nearest proxy has written; those before may be forged."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app, self._trusted = app, trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._is_trusted(scope.get("client")):
            headers = Headers(scope=scope)
            scheme = last_value(headers, "x-forwarded-proto")
            host = last_value(headers, "x-forwarded-host")
            if scheme in ("http", "https"):
                scope["scheme"] = scheme
            if host:
                MutableHeaders(scope=scope)["host"] = host
        await self._app(scope, receive, send)

    def _is_trusted(self, client: tuple[str, int] | None) -> bool:
        try:
            address = ipaddress.ip_address(client[0] if client else "")
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._trusted)


def last_value(headers: Headers, name: str) -> str:
    return ",".join(headers.getlist(name)).rpartition(",")[2].strip()
