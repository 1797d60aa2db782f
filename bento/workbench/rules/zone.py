"""The time zone of a person's browser, from a cookie that static/rules.js sets."""

from datetime import UTC, tzinfo
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from starlette.requests import Request

COOKIE = "zone"


def find_zone(request: Request) -> tzinfo:
    """UTC where the browser did not say, or nonsense."""
    name = unquote(request.cookies.get(COOKIE, ""))
    try:
        return ZoneInfo(name) if name else UTC
    except (ValueError, OSError):  # no such zone, or no name of one
        return UTC


def name_zone(zone: tzinfo) -> str:
    return zone.key if isinstance(zone, ZoneInfo) else "UTC"
