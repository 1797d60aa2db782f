"""Map: to be written."""

from starlette.requests import Request
from starlette.responses import Response

from bento.workbench.pages import render
from bento.workbench.routing import Views

VIEWS = Views()


@VIEWS.get("/map")
async def show(request: Request) -> Response:
    return render(request, "map/page.html")
