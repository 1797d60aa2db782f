"""Every view at every size, in both schemes: nothing sticks out, and nobody is shut out."""

import urllib.parse

import pytest
from starlette.routing import compile_path

from bento.workbench.app import VIEWS
from tests.browser.shop import ODD_ID
from tests.browser.visitor import LAPTOP, TABLET

SIZES = {"tablet": TABLET, "laptop": LAPTOP}
SCHEMES = ("light", "dark")

PAGES = {
    "start": "/",
    "product": "/product/tea",
    "product-with-picture": "/product/pram",
    "product-long-name": "/product/box",
    "product-right-to-left": "/product/green-tea",
    "product-markup": "/product/towel",
    "product-sql": "/product/mug",
    "product-odd-id": f"/product/{urllib.parse.quote(ODD_ID, safe='')}",
    "product-nobody-bought": "/product/new-kettle",
    "product-unknown": "/product/nothing-like-it",
    "search": "/search?q=tea",
    "cart": "/cart?items=tea&items=coffee&items=box",
    "cart-empty": "/cart",
    "compare": "/compare",
    "compare-product": "/compare?a=1&b=2&product=pram",
    "compare-blind": "/compare?a=1&b=2&product=coffee&blind=1",
    "judge": "/judge",
    "judge-queue": "/judge/queue",
    "judge-new": "/judge/new",
    "rules": "/rules",
    "rules-new": "/rules/new?action=pin&target=bib&when=pram",
    "rules-drafts": "/rules/drafts",
    "rules-history": "/rules/history",
    "rules-publish": "/rules/publish",
    "tune": "/tune?product=pram&diversity=0.5",
    "map": "/map",
    "health": "/health",
    "health-promote": "/health/promote/2",
    "health-rollback": "/health/rollback",
    "logged-out": "/logged-out",
    "no-such-page": "/nowhere",
}
NO_PAGES = {
    "/compare/overlap",
    "/judge/{case}/edit",
    "/judge/{case}/export/{kind}",
    "/judge/{case}/results",
    "/login",
    "/login/callback",
    "/map/categories",
    "/map/list",
    "/map/names",
    "/map/options",
    "/map/panel",
    "/map/points",
    "/map/state",
    "/rules/drafts/{draft_id}",
    "/search/options",
    "/tune/parts",
}
"""Routes of parts of pages, of files and other addresses, and those that journeys look at."""

REFUSALS = {404, 409, 422}


def test_every_view_is_looked_at():
    paths = [urllib.parse.urlsplit(path).path for path in PAGES.values()]
    routes = [route for module in VIEWS for route in module.VIEWS.routes if "GET" in route.methods]
    missing = [
        route.path
        for route in routes
        if not any(compile_path(route.path)[0].match(path) for path in paths)
    ]
    assert set(missing) == NO_PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_view_shuts_nobody_out_and_fits(name, visitor):
    visitor.expected = REFUSALS
    visitor.go(PAGES[name])
    visitor.page.wait_for_load_state("networkidle")
    for scheme in SCHEMES:
        visitor.page.emulate_media(color_scheme=scheme)
        for device, (width, height) in SIZES.items():
            visitor.page.set_viewport_size({"width": width, "height": height})
            visitor.screenshot(f"{device}-{scheme}/{name}")
            visitor.check_width()
        visitor.check_accessibility()
