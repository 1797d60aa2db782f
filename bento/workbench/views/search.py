"""Search: a page of products found, and the options that every search field shows."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from bento.schemas.responses import FoundProduct
from bento.workbench.context import get_workbench
from bento.workbench.pages import render
from bento.workbench.routing import Views

VIEWS = Views()

N_OPTIONS = 8
N_FOUND = 50
MAX_QUERY = 256
"""Characters, as the service takes them."""


@VIEWS.get("/search")
async def show_found(request: Request) -> Response:
    query = read_query(request)
    category = request.query_params.get("category")
    found = await search(request, query, 100 if category else N_FOUND)
    if category:
        found = [one for one in found if one.category == category]
    context: dict[str, Any] = {"query": query, "found": found, "category": category}
    return render(request, "lookup/search.html", **context, n_found=N_FOUND)


@VIEWS.get("/search/options")
async def show_options(request: Request) -> Response:
    query = read_query(request)
    found = await search(request, query, 3 * N_OPTIONS)
    wants_products = request.query_params.get("only") == "products"
    categories = [] if wants_products else name_categories(query, found)
    context: dict[str, Any] = {"found": found[:N_OPTIONS], "categories": categories, "query": query}
    return render(request, "lookup/options.html", **context)


def read_query(request: Request) -> str:
    return request.query_params.get("q", "").strip()[:MAX_QUERY]


async def search(request: Request, query: str, limit: int) -> list[FoundProduct]:
    return await get_workbench(request).service.products(query, limit) if query else []


def name_categories(query: str, found: list[FoundProduct], limit: int = 2) -> list[str]:
    """Of the products found, those whose name has a word of the query."""
    words = [word.casefold() for word in query.split() if len(word) > 1]
    names = dict.fromkeys(one.category for one in found if one.category)
    return [one for one in names if any(word in one.casefold() for word in words)][:limit]
