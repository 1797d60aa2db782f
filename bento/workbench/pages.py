"""Renders pages: every one gets the person, the CSRF token and the present path."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.templating import Jinja2Templates

from bento.workbench.access.csrf import issue_csrf_token
from bento.workbench.context import get_workbench

FOLDER = Path(__file__).parent
TEMPLATES = Jinja2Templates(FOLDER / "templates")
TEMPLATES.env.trim_blocks = TEMPLATES.env.lstrip_blocks = True

NAVIGATION = (
    ("/", "Look up"),
    ("/compare", "Compare"),
    ("/judge", "Judge"),
    ("/rules", "Correct"),
    ("/tune", "Tune"),
    ("/map", "Map"),
    ("/health", "Health"),
)


def render(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """`template` is a path below templates/."""
    own = {
        "person": getattr(request.state, "person", None),
        "csrf": issue_csrf_token(request),
        "navigation": NAVIGATION,
        "service_url": get_workbench(request).settings.service_url,
    }
    response: HTMLResponse = TEMPLATES.TemplateResponse(
        request, template, own | context, status_code=status
    )
    return response
