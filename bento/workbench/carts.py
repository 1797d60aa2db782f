"""Carts as paths: their products, `k` and whether rules apply."""

from collections.abc import Sequence
from urllib.parse import quote

from bento.workbench.errors import BadInput

MAX_ID, MAX_ITEMS = 256, 50
"""As in requests to the service."""

DEFAULT_K = 10


def parse_items(given: Sequence[str]) -> list[str]:
    """Product ids of a URL: one text has commas between them, several are an id each.

    Raises BadInput.
    """
    texts = given[0].split(",") if len(given) == 1 else given
    items = list(dict.fromkeys(one.strip() for one in texts if one.strip()))
    if (longest := max(map(len, items), default=0)) > MAX_ID:
        raise BadInput(f"product: found {longest} characters, expected {MAX_ID} at most")
    if len(items) > MAX_ITEMS:
        raise BadInput(f"items: found {len(items)} products, expected {MAX_ITEMS} at most")
    return items


def cart_path(items: Sequence[str], k: int = DEFAULT_K, with_rules: bool = True) -> str:
    """The path that `parse_items` reads these from, its default parameters left out."""
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
