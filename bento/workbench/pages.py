"""Renders pages: every one gets the person, the CSRF token, messages and the present path."""

import zlib
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.templating import Jinja2Templates

from bento.schemas.responses import SCORE_PARTS
from bento.workbench.access.csrf import issue_csrf_token
from bento.workbench.carts import cart_path, quote_all
from bento.workbench.context import get_workbench

FOLDER = Path(__file__).parent

NAVIGATION = (
    ("/", "Look up"),
    ("/compare", "Compare"),
    ("/judge", "Judge"),
    ("/rules", "Correct"),
    ("/tune", "Tune"),
    ("/map", "Map"),
    ("/health", "Health"),
)
LOOK_UP = ("/product", "/cart", "/search")

SOURCES = {
    "model": "bought together more often than by chance",
    "embeddings": "near by vectors, not proven by orders",
    "attribute_neighbours": "companions of similar products",
    "category_bestsellers": "bestsellers of the category",
    "bestsellers": "bestsellers",
    "pin": "pinned by a rule",
}
"""Of a recommendation, by the service's names."""

PARTS = {
    "in_out": "Complement, by vectors",
    "popularity": "Popularity",
    "trend": "Trend of sales",
    "counts": "Orders with both",
    "neighbours": "Regression on the cart",
    "cosine": "Likeness, by cosine",
    "vectors": "Probability, by vectors",
    "blend": "Sum of these",
    "log_odds": "Log odds of the re-ranker",
    "expected_gain": "Expected gain",
    "chance_taken_off": "Less what chance would earn",
    "description": "Likeness of name and price",
}
"""Of a score, by the service's names, which SCORE_PARTS explains."""

MARKS = {
    "thin_evidence": "Fewer than five orders have both.",
    "sensitive": "Tobacco, alcohol, infant formula, medicine or adult goods, beside others.",
    "out_of_season": "It sells far less at this time of the year.",
}

N_HUES = 8
MAX_MESSAGE = 400
"""Characters. Messages travel in the session's cookie, which holds 4 kB."""


def render(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """`template` is a path below templates/."""
    person = getattr(request.state, "person", None)
    own = {
        "person": person,
        "csrf": issue_csrf_token(request),
        "navigation": NAVIGATION if person else (),
        "is_current": lambda path: path == find_view(request.url.path),
        "here": get_path(request),
        "messages": request.scope.get("session", {}).pop("messages", []),
        "service_url": get_workbench(request).settings.service_url,
    }
    response: HTMLResponse = TEMPLATES.TemplateResponse(
        request, template, own | context, status_code=status
    )
    return response


def flash(
    request: Request,
    text: str,
    kind: str = "good",
    link: tuple[str, str] | None = None,
    undo: str | None = None,
) -> None:
    """Show a message on the next page: `kind` is good, warn or bad; `link` a path and its words;
    `undo` a path to post to, with a field `back`."""
    text = text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"
    message = {"text": text, "kind": kind, "link": link, "undo": undo}
    request.session["messages"] = [*request.session.get("messages", [])[-2:], message]


def get_path(request: Request) -> str:
    """With its query: the way back to this page."""
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


def find_view(path: str) -> str:
    """The path of the navigation that a page belongs to."""
    first = "/" + path.split("/")[1]
    return "/" if first in LOOK_UP else first


def product_path(product_id: str) -> str:
    # Browsers take . and .. in a path for folders, escaped ones too.
    if product_id in (".", ".."):
        return f"/product/?id={product_id}"
    return f"/product/{quote_all(product_id)}"


def find_hue(product: Any) -> str:
    """A class of workbench.css: products of one category have one colour."""
    name = _get(product, "category") or _get(product, "product_id") or ""
    return f"hue-{zlib.crc32(str(name).encode(errors='replace')) % N_HUES}"


def make_initials(product: Any) -> str:
    name = str(_get(product, "name") or _get(product, "product_id") or "")
    words = [word for word in name.split() if word[0].isalpha()] or name.split()[:1]
    return "".join(word[0].upper() for word in words[:2]) or "·"


def format_amount(number: float) -> str:
    """Large numbers whole, small ones with the digits that tell them apart."""
    if number < 0.05:
        return "0" if number == 0 else "under 0.1"
    if isinstance(number, int) or number >= 9.95:
        return f"{number:,.0f}"
    return f"{number:.1f}"


def _get(product: Any, name: str) -> Any:
    return product.get(name) if isinstance(product, dict) else getattr(product, name, None)


TEMPLATES = Jinja2Templates(FOLDER / "templates")
TEMPLATES.env.trim_blocks = TEMPLATES.env.lstrip_blocks = True
TEMPLATES.env.filters |= {
    "product_path": product_path,
    "quote": quote_all,
    "hue": find_hue,
    "initials": make_initials,
    "amount": format_amount,
}
TEMPLATES.env.globals |= {
    "SOURCES": SOURCES,
    "PARTS": PARTS,
    "SCORE_PARTS": SCORE_PARTS,
    "MARKS": MARKS,
    "cart_path": cart_path,
}
