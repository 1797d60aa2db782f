"""Keeps redirects on this site."""

from urllib.parse import quote, urlsplit

from starlette.requests import Request

MAX_PATH_LENGTH = 2000


def to_safe_path(path: str) -> str:
    """The path and query, or `/` for anything that leads elsewhere or in a circle."""
    is_plain = path.isprintable() and len(path) <= MAX_PATH_LENGTH and "\\" not in path
    if not is_plain or not path.startswith("/") or path.startswith("//"):
        return "/"
    return "/" if urlsplit(path).path in ("/login", "/login/callback", "/logged-out") else path


def find_asked_path(request: Request) -> str:
    """For the query of /login."""
    query = f"?{request.url.query}" if request.url.query else ""
    return quote(to_safe_path(request.url.path + query), safe="/")
