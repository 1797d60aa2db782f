"""Look up a cart: what each of its products changes, and which one a recommendation is due to."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bento.schemas.responses import Product, RecommendedProduct, RecommendResponse
from bento.workbench.carts import cart_path, parse_items, quote_all
from bento.workbench.context import get_workbench
from bento.workbench.pages import render
from bento.workbench.parts import find_rules
from bento.workbench.routing import Views
from bento.workbench.views.lookup import (
    KS,
    N_EMPHASISED,
    find_new,
    find_product,
    name_rules,
    read_k,
    read_with_rules,
)
from bento.workbench.views.search import search

VIEWS = Views()

N_SUGGESTIONS = 6

N_EXAMINED = 10
"""In a larger cart a person chooses the product: each costs the service one more question."""


class CartLine(NamedTuple):
    """A product of the cart, what it changes, if asked for, and paths of other carts."""

    product_id: str
    product: Product | None
    brings_in: Sequence[RecommendedProduct] | None
    keeps_out: Sequence[RecommendedProduct] | None
    without: str
    up: str | None
    down: str | None
    examine: str


@VIEWS.get("/cart")
async def show_cart(request: Request) -> Response:
    items = parse_items(request.query_params.getlist("items"))
    k, with_rules = read_k(request), read_with_rules(request)
    added = request.query_params.get("add", "").strip()
    if added and await find_product(request, added):
        return RedirectResponse(cart_path([*items, added], k, with_rules), 303)
    examined = choose_examined(request, items)
    found, products, answer, without = await asyncio.gather(
        search(request, added, N_SUGGESTIONS),
        asyncio.gather(*(find_product(request, one) for one in items)),
        ask(request, items, k, with_rules, explain=True),
        ask_without_each(request, items, examined, k, with_rules),
    )
    context: dict[str, Any] = {
        "lines": build_lines(items, products, answer, without, k, with_rules), "items": items,
        "products": {one.product_id: one for one in products if one}, "answer": answer, "k": k,
        "ks": KS, "n_emphasised": N_EMPHASISED, "with_rules": with_rules, "added": added,
        "found": found, "rules": await find_rules(request, name_rules([answer] if answer else [])),
    }  # fmt: skip
    return render(request, "lookup/cart.html", **context)


def choose_examined(request: Request, items: Sequence[str]) -> Sequence[str]:
    if len(items) < 2:
        return []
    if len(items) <= N_EXAMINED:
        return items
    return [one for one in items if one == request.query_params.get("examine")]


async def ask(
    request: Request, items: Sequence[str], k: int, with_rules: bool, explain: bool = False
) -> RecommendResponse | None:
    if not items:
        return None
    more = {} if with_rules else {"rules": False}
    service = get_workbench(request).service
    return await service.recommend(*items, context="cart", k=k, explain=explain, **more)


async def ask_without_each(
    request: Request, items: Sequence[str], examined: Sequence[str], k: int, with_rules: bool
) -> dict[str, RecommendResponse]:
    """Answers to the cart without each examined product, by its id.

    One by one, as a batch would let the service's other callers wait.
    """
    carts = [[one for one in items if one != left_out] for left_out in examined]
    answers = await asyncio.gather(*(ask(request, cart, k, with_rules) for cart in carts))
    return {one: answer for one, answer in zip(examined, answers, strict=True) if answer}


def build_lines(
    items: Sequence[str],
    products: Sequence[Product | None],
    answer: RecommendResponse | None,
    without: Mapping[str, RecommendResponse],
    k: int,
    with_rules: bool,
) -> list[CartLine]:
    lines = []
    for at, (product_id, product) in enumerate(zip(items, products, strict=True)):
        others = [*items[:at], *items[at + 1 :]]
        up, down = (
            cart_path([*others[:to], product_id, *others[to:]], k, with_rules)
            if 0 <= to < len(items)
            else None
            for to in (at - 1, at + 1)
        )
        changes = find_changes(product_id, answer, without.get(product_id))
        removed = cart_path(others, k, with_rules)
        examine = f"{cart_path(items, k, with_rules)}&examine={quote_all(product_id)}"
        lines.append(CartLine(product_id, product, *changes, removed, up, down, examine))
    return lines


def find_changes(
    product_id: str, answer: RecommendResponse | None, without: RecommendResponse | None
) -> tuple[Sequence[RecommendedProduct] | None, Sequence[RecommendedProduct] | None]:
    """What the product brings in and keeps out; the product itself is no recommendation."""
    if answer is None or without is None:
        return None, None
    kept_out = find_new(without.items, answer.items)
    others = [one for one in kept_out if one.product_id != product_id]
    return find_new(answer.items, without.items), others
