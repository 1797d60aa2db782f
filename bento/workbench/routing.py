"""Declares views: their path, method and the role that they take."""

from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from bento.workbench.access.csrf import check_csrf
from bento.workbench.access.person import Role
from bento.workbench.access.redirects import find_asked_path

View = Callable[[Request], Awaitable[Response]]


class ViewRoute(Route):
    """A route that knows which role it takes; None is open to all."""

    def __init__(self, method: str, path: str, view: View, role: Role | None) -> None:
        super().__init__(path, view, methods=[method])
        self.method, self.role = method, role


class Views:
    """The views of a module. A view takes a role, unless that is None; one that changes something,
    a CSRF token."""

    def __init__(self) -> None:
        self.routes: list[ViewRoute] = []

    def get(self, path: str, role: Role | None = Role.viewer) -> Callable[[View], View]:
        return self._declare("GET", path, role)

    def post(self, path: str, role: Role) -> Callable[[View], View]:
        return self._declare("POST", path, role)

    def _declare(self, method: str, path: str, role: Role | None) -> Callable[[View], View]:
        def register(view: View) -> View:
            @wraps(view)
            async def guarded(request: Request) -> Response:
                if role is not None and request.state.person is None:
                    return ask_to_log_in(request)
                check_role(request, role)
                if method == "POST":
                    await check_csrf(request)
                return await view(request)

            self.routes.append(ViewRoute(method, path, guarded, role))
            return view

        return register


def ask_to_log_in(request: Request) -> Response:
    """A page comes back to where the person was; a form or a script's request cannot."""
    is_page = request.headers.get("sec-fetch-dest", "document") == "document"
    if request.method in ("GET", "HEAD") and is_page:
        return RedirectResponse(f"/login?next={find_asked_path(request)}", 303)
    raise HTTPException(401, "you are not logged in, or no longer; load the page again")


def check_role(request: Request, role: Role | None) -> None:
    """Raises HTTPException 403."""
    person = request.state.person
    if role is not None and person.role < role:
        raise HTTPException(403, f"{person.name} is {person.role.name}, expected {role.name}")
