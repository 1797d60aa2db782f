"""Declares views: their path, method and the role that they take."""

from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bento.workbench.access.csrf import check_csrf
from bento.workbench.access.person import Role

View = Callable[[Request], Awaitable[Response]]


class Views:
    """The views of a module. A view takes a role; one that changes something, a CSRF token."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def get(self, path: str, role: Role = Role.viewer) -> Callable[[View], View]:
        return self._declare("GET", path, role)

    def post(self, path: str, role: Role) -> Callable[[View], View]:
        return self._declare("POST", path, role)

    def _declare(self, method: str, path: str, role: Role) -> Callable[[View], View]:
        def register(view: View) -> View:
            @wraps(view)
            async def guarded(request: Request) -> Response:
                person = request.state.person
                if person.role < role:
                    raise HTTPException(
                        403, f"{person.name} is {person.role.name}, expected {role.name}"
                    )
                if method == "POST":
                    await check_csrf(request)
                return await view(request)

            self.routes.append(Route(path, guarded, methods=[method]))
            return view

        return register
