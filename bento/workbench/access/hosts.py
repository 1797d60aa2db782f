"""Names of this server: by which it may be asked, and which of them only this machine knows.

A page of another site could give its own name the address of this machine and then read our pages
(DNS rebinding); the browser still sends that name as Host.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def find_name(authority: str) -> str:
    """Of `name:port`, `[::1]:port` or a URL, in lower case; empty if there is none."""
    try:
        return (
            urlsplit(authority if "//" in authority else f"//{authority}").hostname or ""
        ).rstrip(".")
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(authority: str) -> bool:
    name = find_name(authority) or authority
    if is_address(name):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")


class HostCheck:
    """Refuses names that are not ours. An address is no name: nobody can rebind it."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_ours(Headers(scope=scope).getlist("host")):
            await self._app(scope, receive, send)
            return
        text = "This workbench is not known by this host name; FBT_WORKBENCH_URL or "
        text += "FBT_WORKBENCH_HOSTS may add it.\n"
        await PlainTextResponse(text, 421)(scope, receive, send)

    def _is_ours(self, given: list[str]) -> bool:
        name = find_name(given[0]) if len(given) == 1 else ""
        return is_address(name) or is_loopback(name) or name in self._names
