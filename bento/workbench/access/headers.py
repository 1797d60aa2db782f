"""Headers that keep other sites' scripts and frames away from the pages."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bento.workbench.access.policy import AccessPolicy

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: https: http:",  # pictures of products
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class SecurityHeaders:
    """Also keeps the pages of people who log in out of caches, unless a view gives them an age, and
    cookies on HTTPS."""

    def __init__(self, app: ASGIApp, policy: AccessPolicy) -> None:
        self._app, self._url = app, policy.settings.workbench_url
        self._is_private = policy.everybody is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                is_private = self._is_private and not scope["path"].startswith("/static/")
                if is_private and headers.get("cache-control", "no-cache") == "no-cache":
                    headers["cache-control"] = "no-store"
                headers.setdefault("cache-control", "no-cache")
                if (self._url or scope["scheme"]).startswith("https"):
                    message["headers"] = [secure_cookie(*pair) for pair in message["headers"]]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def secure_cookie(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return (name, value + b"; Secure") if name == b"set-cookie" else (name, value)
