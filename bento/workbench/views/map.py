"""Map: the most bought products of a version, alike ones near."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bento.answering.product_search import ProductSearch
from bento.schemas.requests import RecommendRequest
from bento.workbench.context import get_workbench
from bento.workbench.errors import BadInput, NotFound
from bento.workbench.mapping.evidence import Evidence, find_evidence
from bento.workbench.mapping.maps import ProductMap
from bento.workbench.pages import render
from bento.workbench.routing import Views
from bento.workbench.versions import LoadedVersion
from components.registry.registry import CHAMPION, Version

VIEWS = Views()

N_COLOURS = 10
"""See map.css."""
N_COMPANIONS = 10
N_OPTIONS = 8
PAGE = 50
MAX_ROWS = 200
MAX_TEXT = 200
CACHED = {"cache-control": "private, no-cache"}


class MapProduct(NamedTuple):
    row: int
    product_id: str
    name: str
    category: str | None
    orders: int
    image_url: str | None = None


class Companion(NamedTuple):
    product: MapProduct
    evidence: Evidence


class OpenMap(NamedTuple):
    loaded: LoadedVersion
    plane: ProductMap

    @property
    def n_points(self) -> int:
        return len(self.plane.positions)

    def describe(self, row: int) -> MapProduct:
        card = self.loaded.selection.catalogue.card(row)
        name = card.get("name") or card["product_id"]
        orders = int(self.loaded.bundle.n_orders[row])
        fields = (card["product_id"], name, card.get("category"), orders, card.get("image_url"))
        return MapProduct(row, *fields)

    def search(self, text: str, limit: int) -> list[MapProduct]:
        """Products of the map, best first."""
        catalogue = self.loaded.selection.catalogue
        hits = ProductSearch(self.loaded.bundle).find(catalogue, text[:MAX_TEXT], limit)
        return [self.describe(hit.row) for hit in hits if hit.row < self.n_points]

    def find_product(self, text: str) -> MapProduct:
        """By id, or the best found. Raises NotFound."""
        row = self.loaded.selection.catalogue.row(text)
        if row is not None and row < self.n_points:
            return self.describe(row)
        if row is not None:
            raise NotFound(
                f"{text} is not on the map: it is none of the {self.n_points:,} most bought "
                "products with vectors"
            )
        if not (found := self.search(text, 1)):
            raise NotFound(f"no product on the map is like {text[:MAX_TEXT]!r}")
        return found[0]

    def list_companions(self, product: MapProduct) -> list[Companion]:
        """As a shopper sees them, those that are on the map."""
        request = RecommendRequest(items=[product.product_id], k=N_COMPANIONS)
        rows = [item[0] for item in self.loaded.selection.recommend(request).shown]
        bundle = self.loaded.bundle
        return [
            Companion(self.describe(row), find_evidence(bundle, product.row, row))
            for row in rows
            if row < self.n_points
        ]

    def list_category(self, name: str, page: int) -> list[MapProduct]:
        rows = self.plane.categories.list_rows(name) if name else range(self.n_points)
        return [self.describe(row) for row in rows[(page - 1) * PAGE : page * PAGE]]


class Selected(NamedTuple):
    """What the panel beside the map shows."""

    product: MapProduct | None = None
    other: MapProduct | None = None
    evidence: Evidence | None = None
    companions: Sequence[Companion] = ()
    message: str | None = None


@VIEWS.get("/map")
async def show_map(request: Request) -> Response:
    versions = await get_workbench(request).versions.list()
    if not versions:
        return render(request, "map/empty.html")
    version = choose_version(versions, request.query_params.get("version", ""))
    loaded = await get_workbench(request).versions.get(version)
    found = await asyncio.to_thread(prepare_page, request, loaded)
    return render(request, "map/page.html", versions=versions, version=version, **found)


def prepare_page(request: Request, loaded: LoadedVersion) -> dict[str, Any]:
    maps, query = get_workbench(request).maps, request.query_params
    opened = OpenMap(loaded, maps.get(loaded))
    page = read_number(query, "page", 1)
    category = query.get("category") or query.get("other") or ""
    categories = opened.plane.category_list
    n = next((one["n"] for one in categories if one["name"] == category), opened.n_points)
    return {
        "category": category,
        "categories": categories,
        "n_colours": N_COLOURS,
        "n_points": opened.n_points,
        "n_items": loaded.bundle.manifest.n_items,
        "dims": loaded.bundle.manifest.dims,
        "page": page,
        "n_pages": -(-n // PAGE),
        "products": opened.list_category(category, page),
        "selected": select(opened, query),
        "state": maps.get_state(loaded),
    }


@VIEWS.get("/map/points")
async def send_points(request: Request) -> Response:
    """All x, all y and all category codes, little-endian uint16."""
    plane = (await open_map(request)).plane
    body = await asyncio.to_thread(lambda: plane.encoded)
    tag = f'"{plane.digest}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"etag": tag, **CACHED})
    headers = {"etag": tag, "content-encoding": "gzip", "x-layout": plane.layout, **CACHED}
    return Response(body, media_type="application/octet-stream", headers=headers)


@VIEWS.get("/map/state")
async def send_state(request: Request) -> Response:
    opened = await open_map(request)
    maps = get_workbench(request).maps
    return JSONResponse((await asyncio.to_thread(maps.get_state, opened.loaded))._asdict())


@VIEWS.get("/map/categories")
async def send_categories(request: Request) -> Response:
    plane = (await open_map(request)).plane
    return JSONResponse(await asyncio.to_thread(lambda: plane.category_list))


@VIEWS.get("/map/names")
async def send_names(request: Request) -> Response:
    opened = await open_map(request)
    products = await asyncio.to_thread(list_rows, opened, request.query_params)
    return JSONResponse([[one.row, one.product_id, one.name] for one in products])


@VIEWS.get("/map/options")
async def show_options(request: Request) -> Response:
    opened, text = await open_map(request), request.query_params.get("q", "").strip()[:MAX_TEXT]
    products = await asyncio.to_thread(opened.search, text, N_OPTIONS) if text else []
    return render(request, "map/options.html", products=products, query=text)


@VIEWS.get("/map/panel")
async def show_panel(request: Request) -> Response:
    opened = await open_map(request)
    selected = await asyncio.to_thread(select, opened, request.query_params)
    return render(request, "map/panel.html", selected=selected, version=opened.loaded.version)


@VIEWS.get("/map/list")
async def show_list(request: Request) -> Response:
    opened = await open_map(request)
    products = await asyncio.to_thread(list_rows, opened, request.query_params)
    return render(request, "map/list.html", products=products, version=opened.loaded.version)


async def open_map(request: Request) -> OpenMap:
    workbench, version = get_workbench(request), request.query_params.get("version", "")
    if not version:
        raise BadInput("version: found nothing, expected the number of a version")
    loaded = await workbench.versions.get(version)
    return OpenMap(loaded, await asyncio.to_thread(workbench.maps.get, loaded))


def choose_version(versions: list[Version], wanted: str) -> str:
    """By number or alias; by default the champion, else the newest. Raises NotFound."""
    champion = next((one.version for one in versions if CHAMPION in one.aliases), None)
    if not wanted:
        return champion or versions[0].version
    for one in versions:
        if wanted == one.version or wanted in one.aliases:
            return one.version
    known = ", ".join(one.version for one in versions)
    raise NotFound(f"version: found {wanted[:40]!r}, expected one of {known}")


def select(opened: OpenMap, query: QueryParams) -> Selected:
    """By the fields `from` and `to`."""
    first, second = (query.get(name, "").strip() for name in ("from", "to"))
    if not first:
        return Selected(message="Choose the first product, too." if second else None)
    try:
        product = opened.find_product(first)
        other = opened.find_product(second) if second else None
    except NotFound as error:
        return Selected(message=str(error))
    if other is None or other.row == product.row:
        return Selected(product, companions=opened.list_companions(product))
    return Selected(product, other, find_evidence(opened.loaded.bundle, product.row, other.row))


def list_rows(opened: OpenMap, query: QueryParams) -> list[MapProduct]:
    """Raises BadInput."""
    text = query.get("rows", "")
    try:
        rows = [int(one) for one in text.split(",") if one]
    except ValueError:
        rows = [-1]
    if len(rows) > MAX_ROWS or any(not 0 <= row < opened.n_points for row in rows):
        raise BadInput(
            f"rows: found {text[:60]!r}, expected up to {MAX_ROWS} numbers below {opened.n_points}"
        )
    return [opened.describe(row) for row in rows]


def read_number(query: QueryParams, name: str, default: int) -> int:
    """From 1. Raises BadInput."""
    text = query.get(name, "") or str(default)
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise BadInput(f"{name}: found {text[:40]!r}, expected a whole number from 1")
    return int(text)
