"""Look up: what a shopper sees beside a product, and the reasons."""

import asyncio
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from bento.client import FbtError, ProblemError
from bento.schemas.responses import FoundProduct, Product, RecommendedProduct, RecommendResponse
from bento.workbench.carts import DEFAULT_K
from bento.workbench.context import get_workbench
from bento.workbench.errors import BadInput
from bento.workbench.pages import render
from bento.workbench.parts import Missing, ask_part, find_rules
from bento.workbench.routing import Views

VIEWS = Views()

N_EMPHASISED = 5
"""A shop's page shows about so many; the others are for people who look deeper."""

KS = (5, 10, 20, 50)
MAX_K = 100
N_SIMILAR = 6
N_BESTSELLERS = 10
N_SUGGESTIONS = 6

MISSING_NAME = {"name": "-"}
"""Attributes without a word: the answer to them is bestsellers."""


@VIEWS.get("/")
async def start(request: Request) -> Response:
    service = get_workbench(request).service
    model, best = await asyncio.gather(
        ask_part(service.model()),
        ask_part(service.recommend(attributes=MISSING_NAME, k=N_BESTSELLERS)),
    )
    return render(request, "lookup/start.html", model=model, best=best)


@VIEWS.get("/product/{product_id:path}")
async def show_product(request: Request) -> Response:
    product_id = request.path_params["product_id"] or request.query_params.get("id", "")
    k, with_rules = read_k(request), read_with_rules(request)
    product = await find_product(request, product_id)
    if product is None:
        return await show_unknown(request, product_id)
    served, model_alone, similar = await ask_for_lists(request, product_id, k, with_rules)
    context: dict[str, Any] = {
        "product": product, "k": k, "ks": KS, "n_emphasised": N_EMPHASISED, "served": served,
        "with_rules": with_rules, "answer": model_alone or served, "similar": similar,
        "moves": describe_moves(served, model_alone) if model_alone else {},
        "brought_in": find_new(served.items, model_alone.items) if model_alone else [],
        "names": await find_names(request, [one.product_id for one in served.left_out or ()]),
        "rules": await find_rules(request, name_rules([served, similar])),
    }  # fmt: skip
    return render(request, "lookup/product.html", **context)


async def ask_for_lists(
    request: Request, product_id: str, k: int, with_rules: bool
) -> tuple[RecommendResponse, RecommendResponse | None, RecommendResponse | Missing]:
    """As served, by the model alone if asked for, and similar products."""
    service = get_workbench(request).service
    shared: dict[str, Any] = {"k": k, "explain": True}
    # A service of before does not know the field.
    alone: dict[str, Any] = {} if with_rules else {"rules": False}
    lists = [service.recommend(product_id, **shared)]
    if alone:
        lists.append(service.recommend(product_id, **shared, **alone))
    similar = service.similar(product_id, k=N_SIMILAR, explain=True, **alone)
    (served, *others), found = await asyncio.gather(asyncio.gather(*lists), ask_part(similar))
    return served, others[0] if others else None, found


async def find_names(request: Request, product_ids: Sequence[str]) -> dict[str, str]:
    found = await asyncio.gather(*(find_product(request, one) for one in product_ids[:MAX_K]))
    return {product.product_id: product.name for product in found if product and product.name}


async def find_product(request: Request, product_id: str) -> Product | None:
    try:
        return await get_workbench(request).service.product(product_id)
    except ProblemError as error:
        if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
            return None
        raise


async def show_unknown(request: Request, product_id: str) -> Response:
    try:
        words = product_id[:256].strip()
        found: list[FoundProduct] = await get_workbench(request).service.products(
            words, N_SUGGESTIONS
        )
    except FbtError:
        found = []
    return render(
        request, "lookup/unknown.html", HTTPStatus.NOT_FOUND, product_id=product_id, found=found
    )


def read_k(request: Request) -> int:
    given = request.query_params.get("k", str(DEFAULT_K))
    if not (given.isascii() and given.isdigit() and 1 <= int(given[:4]) <= MAX_K):
        raise BadInput(f"k: found {given[:80]}, expected a number from 1 to {MAX_K}")
    return int(given)


def read_with_rules(request: Request) -> bool:
    return request.query_params.get("rules") != "off"


def name_rules(answers: Iterable[RecommendResponse | Missing]) -> set[str]:
    found = [one for one in answers if isinstance(one, RecommendResponse)]
    moved = {rule for answer in found for item in answer.items for rule in item.moved_by or ()}
    blocked = {one.rule_id for answer in found for one in answer.left_out or ()}
    return moved | blocked


def describe_moves(
    served: RecommendResponse, model_alone: RecommendResponse
) -> dict[str, dict[str, Any]]:
    """Of each product that the model shows alone: its place with rules, and the rules."""
    places = {item.product_id: place for place, item in enumerate(served.items, 1)}
    moved_by = {item.product_id: item.moved_by or [] for item in served.items}
    blocked_by = {one.product_id: [one.rule_id] for one in served.left_out or ()}
    moves = {}
    for place, item in enumerate(model_alone.items, 1):
        one = item.product_id
        rules = moved_by.get(one) or blocked_by.get(one, [])
        if places.get(one) != place:
            moves[one] = {"place": places.get(one), "rules": rules, "is_blocked": one in blocked_by}
    return moves


def find_new(
    items: Iterable[RecommendedProduct], old: Iterable[RecommendedProduct]
) -> list[RecommendedProduct]:
    known = {item.product_id for item in old}
    return [item for item in items if item.product_id not in known]
