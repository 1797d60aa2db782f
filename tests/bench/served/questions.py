"""What made-up shops are asked: one JSON body a line."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.served.bundles import N_BRANDS, N_CATEGORIES, ZIPF, category, product_id

K = 10
N_QUESTIONS = 20_000
CART = 5
SHARES = (0.3, 0.3, 0.2, 0.05, 0.15)
"""Of the actions of `many_rules`."""


def singles(n_items: int, seed: int = 2) -> list[dict[str, Any]]:
    """Any product as likely as any other: the hardest case for caches."""
    rows = np.random.default_rng(seed).integers(n_items, size=N_QUESTIONS)
    return [{"items": [product_id(row)], "k": K} for row in rows.tolist()]


def carts(n_items: int, seed: int = 3) -> list[dict[str, Any]]:
    """Five products, much bought ones more often, two categories unwanted, and a highest price."""
    rng = np.random.default_rng(seed)
    until = np.cumsum(np.arange(1, n_items + 1) ** -ZIPF)
    questions = []
    for draws in rng.random((N_QUESTIONS, 2 * CART)):
        rows = dict.fromkeys(np.searchsorted(until, draws * until[-1]).tolist())
        unwanted = rng.integers(N_CATEGORIES, size=2).tolist()
        filters = {
            "category": {"exclude": [category(code) for code in unwanted]},
            "price": {"max": float(rng.integers(20, 46))},
        }
        items = [product_id(row) for row in list(rows)[:CART]]
        questions.append({"items": items, "k": K, "filters": filters})
    return questions


def product_questions(product_ids: Sequence[str], seed: int = 2) -> list[dict[str, Any]]:
    """Any of these products as likely as any other."""
    rows = np.random.default_rng(seed).integers(len(product_ids), size=N_QUESTIONS)
    return [{"items": [product_ids[row]], "k": K} for row in rows.tolist()]


def write_questions(questions: Iterable[dict[str, Any]], file: Path) -> Path:
    """Write them to `file`, and return it."""
    lines = (json.dumps(question, separators=(",", ":")) for question in questions)
    file.write_text("\n".join(lines) + "\n")
    return file


def read_questions(file: Path) -> list[bytes]:
    """The bodies in a file."""
    return file.read_bytes().splitlines()


def rules() -> list[dict[str, Any]]:
    """A handful of rules as merchandisers write them, for made-up shops."""
    return [
        {"action": "block", "target": {"category": category(0)}},
        {"action": "block", "target": {"product_id": product_id(17)}},
        {"action": "boost", "target": {"brand": "brand 1"}, "factor": 2.0},
        {"action": "bury", "target": {"category": category(1)}},
        {"action": "boost", "target": {"product_id": product_id(23)}},
        {
            "action": "pin", "target": {"product_id": product_id(42)},
            "when": {"category": category(2)}, "position": 3,
        },
        {"action": "bury", "target": {"brand": "brand 2"}, "when": {"category": category(3)}},
    ]  # fmt: skip


def many_rules(n_items: int, n: int = 10_000, seed: int = 4) -> list[dict[str, Any]]:
    """As many rules as a service takes: half of them for all requests, most for products."""
    rng = np.random.default_rng(seed)

    def scope(p_category: float, p_brand: float) -> dict[str, str]:
        draw = rng.random()
        if draw < p_category:
            return {"category": category(int(rng.integers(N_CATEGORIES)))}
        if draw < p_category + p_brand:
            return {"brand": f"brand {rng.integers(N_BRANDS)}"}
        return {"product_id": product_id(int(rng.integers(n_items)))}

    made: list[dict[str, Any]] = []
    for number in range(n):
        action = ("block", "boost", "bury", "exempt", "pin")[int(rng.choice(5, p=SHARES))]
        is_global = number % 2 == 0
        target = scope(0.002, 0.02) if is_global else scope(0.2, 0.2)
        when = None if is_global else scope(0.01, 0.1)
        if action == "pin":
            target = {"product_id": product_id(int(rng.integers(n_items)))}
            # What is pinned to every answer leaves no room for others.
            when = when or scope(0, 0)
        made.append({"action": action, "target": target, "when": when})
    return made
