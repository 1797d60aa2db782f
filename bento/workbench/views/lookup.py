"""Look up: what a shopper sees beside a product or a cart."""

from starlette.requests import Request
from starlette.responses import Response

from bento.workbench.context import get_workbench
from bento.workbench.pages import render
from bento.workbench.routing import Views

VIEWS = Views()


@VIEWS.get("/")
async def start(request: Request) -> Response:
    return render(request, "lookup/start.html")


@VIEWS.get("/product/{product_id:path}")
async def show_product(request: Request) -> Response:
    service = get_workbench(request).service
    product_id = request.path_params["product_id"]
    product = await service.product(product_id)
    answer = await service.recommend(product_id, k=10, explain=True)
    return render(request, "lookup/product.html", product=product, answer=answer)
