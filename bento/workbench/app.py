"""The web application of the workbench: views, sessions, errors as pages."""

import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from bento.client import FbtError, ProblemError, Unreachable
from bento.schemas.problems import shorten
from bento.workbench.access import views as access
from bento.workbench.access.headers import HEADERS
from bento.workbench.access.policy import AccessPolicy, decide_access
from bento.workbench.access.stack import build_access_middleware
from bento.workbench.context import Workbench
from bento.workbench.errors import BadInput, Conflict, NotFound, PartUnavailable
from bento.workbench.pages import FOLDER, render
from bento.workbench.probe import PROBE
from bento.workbench.versions import VersionLoading, VersionUnavailable
from bento.workbench.views import cart, compare, health, judge, lookup, map, rules, search, tune

VIEWS = (access, lookup, search, cart, compare, judge, rules, tune, map, health)

STATUS: dict[type[Exception], int] = {
    NotFound: 404,
    BadInput: 422,
    Conflict: 409,
    VersionUnavailable: 502,
    PartUnavailable: 503,
    Unreachable: 503,
    ProblemError: 502,
    FbtError: 502,
}

REFUSALS = {400: 422, 404: 404, 429: 503, 503: 503}
"""The page's status for a status of the service."""

TITLES = {
    403: "Not allowed",
    404: "Not found",
    405: "Not possible",
    409: "Somebody was faster",
    422: "Not possible",
    502: "Not understood",
    503: "Not now",
}
FAILED = "The reason is in the log of the workbench. It may work if you try again."


def build_app(workbench: Workbench, policy: AccessPolicy | None = None) -> Starlette:
    """Without a policy, as bound to loopback."""
    policy = policy or decide_access(workbench.settings, "127.0.0.1")
    static = Mount("/static", StaticFiles(directory=FOLDER / "static"))
    app = Starlette(
        routes=[static, PROBE, *(route for module in VIEWS for route in module.VIEWS.routes)],
        middleware=build_access_middleware(policy),
        exception_handlers={
            HTTPException: show_http_error,
            Exception: show_crash,
            VersionLoading: show_loading,
            **dict.fromkeys(STATUS, show_error),
        },
        lifespan=run_parts,
    )
    app.state.workbench, app.state.access = workbench, policy
    app.state.kept = {}
    return app


@contextlib.asynccontextmanager
async def run_parts(app: Starlette) -> AsyncIterator[None]:
    workbench: Workbench = app.state.workbench
    workbench.versions.start()
    try:
        yield
    finally:
        workbench.versions.stop()
        workbench.maps.stop()
        workbench.database.close()
        await workbench.service.close()


async def show_error(request: Request, error: Exception) -> Response:
    status = find_status(error)
    part = "service" if isinstance(error, FbtError) else getattr(error, "part", None)
    is_away = status == HTTPStatus.SERVICE_UNAVAILABLE and part is not None
    # To send a form again is for the person to decide.
    is_retried = is_away and request.method == "GET"
    title = f"The {part} does not answer" if is_away else TITLES.get(status, TITLES[422])
    message = str(error)
    if isinstance(error, NotFound):  # a sentence; others begin with the name of a field
        message = message[:1].upper() + message[1:]
    return show_page(request, status, title, message, is_retried)


def find_status(error: Exception) -> int:
    if isinstance(error, ProblemError):
        return REFUSALS.get(error.status, HTTPStatus.BAD_GATEWAY)
    return next(STATUS[kind] for kind in type(error).mro() if kind in STATUS)


async def show_loading(request: Request, error: Exception) -> Response:
    """For a page, no fault; a change, though, was not made."""
    status = 202 if request.method == "GET" else 503
    response = render(request, "loading.html", status, loading=error)
    response.headers["refresh"] = response.headers["retry-after"] = "2"
    return response


async def show_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, detail = error.status_code, error.detail
    if status == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"There is no page {shorten(request.url.path)}."
    return show_page(request, status, TITLES.get(status, TITLES[422]), detail)


async def show_crash(request: Request, _error: Exception) -> Response:
    """Starlette answers this outside of all middleware, and logs the error."""
    response = show_page(request, 500, "This page has failed", FAILED)
    response.headers.update(HEADERS | {"cache-control": "no-store"})
    return response


def show_page(
    request: Request, status: int, title: str, message: str, is_retried: bool = False
) -> Response:
    context = {"title": title, "message": message, "is_retried": is_retried}
    return render(request, "error.html", status, **context)
