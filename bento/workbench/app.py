"""The web application of the workbench: views, sessions, errors as pages."""

import contextlib
import secrets
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from bento.client import FbtError, ProblemError, Unreachable
from bento.workbench.access.headers import SecurityHeaders
from bento.workbench.access.identify import Identify
from bento.workbench.context import Workbench
from bento.workbench.errors import BadInput, Conflict, NotFound, PartUnavailable
from bento.workbench.pages import FOLDER, render
from bento.workbench.versions import VersionUnavailable
from bento.workbench.views import compare, health, judge, lookup, map, rules, tune

VIEWS = (lookup, compare, judge, rules, tune, map, health)

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


def build_app(workbench: Workbench) -> Starlette:
    static = Mount("/static", StaticFiles(directory=FOLDER / "static"))
    app = Starlette(
        routes=[static, *(route for module in VIEWS for route in module.VIEWS.routes)],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(SessionMiddleware, secret_key=secrets.token_hex(), same_site="lax"),
            Middleware(Identify),
        ],
        exception_handlers={
            HTTPException: show_http_error,
            **dict.fromkeys(STATUS, show_error),
        },
        lifespan=run_parts,
    )
    app.state.workbench = workbench
    return app


@contextlib.asynccontextmanager
async def run_parts(app: Starlette) -> AsyncIterator[None]:
    workbench: Workbench = app.state.workbench
    workbench.versions.start()
    try:
        yield
    finally:
        workbench.versions.stop()
        workbench.database.close()
        await workbench.service.close()


async def show_error(request: Request, error: Exception) -> Response:
    status = next(STATUS[kind] for kind in type(error).mro() if kind in STATUS)
    part = "service" if isinstance(error, FbtError) else getattr(error, "part", None)
    return render(request, "error.html", status, message=str(error), part=part)


async def show_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return render(request, "error.html", error.status_code, message=error.detail, part=None)
