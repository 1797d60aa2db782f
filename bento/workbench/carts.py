"""Carts as paths: their products, `k` and whether rules apply."""

from collections.abc import Sequence
from urllib.parse import quote

from starlette.requests import Request

from bento.workbench.errors import BadInput

MAX_ITEMS = 50
"""As the service takes them."""

DEFAULT_K = 10


def read_items(request: Request) -> list[str]:
    """`items=a,b`, or several `items`, each an id that may have commas. Raises BadInput."""
    given = request.query_params.getlist("items")
    ids = given[0].split(",") if len(given) == 1 else given
    items = list(dict.fromkeys(one for one in ids if one))
    if len(items) > MAX_ITEMS:
        raise BadInput(f"items: found {len(items)} products, expected at most {MAX_ITEMS}")
    return items


def cart_path(items: Sequence[str], k: int = DEFAULT_K, with_rules: bool = True) -> str:
    """The path that `read_items` reads these from, its default parameters left out."""
    if not any("," in one for one in items):
        query = ["items=" + ",".join(map(quote_all, items))] if items else []
    else:
        # An empty one more tells a single id with commas from several ids.
        query = [f"items={quote_all(one)}" for one in [*items, *([""] * (len(items) == 1))]]
    query += [f"k={k}"] * (k != DEFAULT_K) + ["rules=off"] * (not with_rules)
    return "/cart" + ("?" + "&".join(query) if query else "")


def quote_all(text: str) -> str:
    """For a part of a path or a value of a query."""
    return quote(text, safe="", errors="replace")
