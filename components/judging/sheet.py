"""The sheet that judges grade blind: products, and the lists of several systems beside each."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from components.model.arrays import Int64Array, IntpArray
from components.model.bundle import Bundle
from components.model.recommender import Recommender

if TYPE_CHECKING:
    from components.evaluation.baselines import Ranker

QUESTION = "How well does each list fit beside this product, to be bought with it?"
GRADES: Mapping[int, str] = {
    3: "a shop's best merchandiser would choose these",
    2: "good",
    1: "weak",
    0: "wrong or embarrassing",
}
MAX_SYSTEMS = len(ascii_uppercase)
N_STRATA = 3

Describe = Callable[[str], Mapping[str, Any]]
"""The fields of a product; `name` and `category` are shown where there are any."""


@dataclass(frozen=True)
class System:
    """A ranker, and the products of its rows: their ids and orders, most bought first."""

    name: str
    ranker: "Ranker"
    product_ids: Sequence[str]
    n_orders: Int64Array


def make_system(name: str, bundle: Bundle) -> System:
    """Of the bundle's products with vectors."""
    cards = map(bundle.records.card, range(bundle.manifest.n_items))
    ids = [card["product_id"] for card in cards]
    return System(name, Recommender(bundle), ids, bundle.n_orders)


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Card(Record):
    product_id: str
    name: str | None = None
    category: str | None = None


class LabelledList(Record):
    label: str
    products: tuple[Card, ...]
    """Best first."""


class Question(Record):
    """A product, and the distinct lists that systems show beside it."""

    product: Card
    lists: tuple[LabelledList, ...]


class Sheet(Record):
    sheet_id: str
    """A hash of all else."""
    seed: int
    k: int
    questions: tuple[Question, ...]


class Key(Record):
    """The system behind every label: `labels[product_id][system]`."""

    sheet_id: str
    seed: int
    systems: tuple[str, ...]
    labels: dict[str, dict[str, str]]

    @model_validator(mode="after")
    def _check_systems(self) -> "Key":
        for product_id, labels in self.labels.items():
            if labels.keys() != set(self.systems):
                raise ValueError(f"product {product_id!r} has labels of {sorted(labels)}")
        return self


def draw_sheet(
    systems: Sequence[System], describe: Describe, n_products: int, seed: int, k: int = 5
) -> tuple[Sheet, Key]:
    """Products that all systems have, as many bestsellers as rarely bought ones.

    A product has the same name in all lists, so that names give no system away. Raises ValueError.
    """
    check_names([system.name for system in systems])
    if k < 1:
        raise ValueError(f"judge: lists of {k} products, expected at least 1")
    rng = np.random.default_rng(seed)
    asked = _draw_products(systems, n_products, rng)
    found = {system.name: _rank(system, asked, k) for system in systems}
    lists = {page: {name: found[name][place] for name in found} for place, page in enumerate(asked)}
    return _build_sheet(lists, list(found), describe, rng, seed, k)


def label_lists(
    lists: Mapping[str, Mapping[str, tuple[str, ...]]], systems: Sequence[str], describe: Describe,
    seed: int, k: int,
) -> tuple[Sheet, Key]:  # fmt: skip
    """The sheet of given `lists`, product ids by page and system."""
    return _build_sheet(lists, systems, describe, np.random.default_rng(seed), seed, k)


def _build_sheet(
    lists: Mapping[str, Mapping[str, tuple[str, ...]]], systems: Sequence[str], describe: Describe,
    rng: np.random.Generator, seed: int, k: int,
) -> tuple[Sheet, Key]:  # fmt: skip
    questions, labels = [], {}
    for product_id, shown in lists.items():
        by_list = _label([shown[one] for one in systems], rng)
        labels[product_id] = {one: by_list[shown[one]] for one in systems}
        questions.append(_ask(product_id, by_list, describe))
    sheet = _sign(Sheet(sheet_id="", seed=seed, k=k, questions=tuple(questions)))
    return sheet, Key(sheet_id=sheet.sheet_id, seed=seed, systems=tuple(systems), labels=labels)


def check_names(names: Sequence[str]) -> None:
    """Of systems. Raises ValueError."""
    if not 2 <= len(names) <= MAX_SYSTEMS:
        raise ValueError(
            f"judge: systems to compare: {len(names)} ({', '.join(names) or 'none'}), expected 2 "
            f"to {MAX_SYSTEMS} bundles and peers; name more, or fewer"
        )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"judge: {', '.join(repeated)} is named twice, expected different systems; name each "
            "once"
        )


def _draw_products(systems: Sequence[System], n: int, rng: np.random.Generator) -> list[str]:
    first = systems[0]
    shared = set(first.product_ids).intersection(*(one.product_ids for one in systems[1:]))
    rows = np.array([row for row, id_ in enumerate(first.product_ids) if id_ in shared], np.intp)
    if not 1 <= n <= len(rows):
        raise ValueError(
            f"judge: {n} products are to be drawn, and all systems have {len(rows)} in common; "
            f"expected 1 to {len(rows)}"
        )
    return [first.product_ids[row] for row in draw_rows(rows, first.n_orders, n, rng)]


def draw_rows(rows: IntpArray, n_orders: Int64Array, n: int, rng: np.random.Generator) -> IntpArray:
    """`n` of `rows`, which come most bought first: a third of each stratum, in random order."""
    strata = _split_by_orders(rows, n_orders[rows], n)
    drawn = [rng.choice(stratum, size, replace=False) for stratum, size in strata]
    shuffled: IntpArray = rng.permutation(np.concatenate(drawn))
    return shuffled


def _split_by_orders(rows: IntpArray, n_orders: Int64Array, n: int) -> list[tuple[IntpArray, int]]:
    """Head, middle and tail with a third of all orders each, and how many to draw of each.

    A stratum has at least as many products as are drawn of it.
    """
    sizes = [len(part) for part in np.array_split(np.arange(n), N_STRATA)]
    totals = np.cumsum(n_orders)
    strata, start = [], 0
    for i, size in enumerate(sizes):
        end = int(np.searchsorted(totals, totals[-1] * (i + 1) / N_STRATA)) + 1
        end = min(max(end, start + size), len(rows) - sum(sizes[i + 1 :]))
        strata.append((rows[start:end], size))
        start = end
    return strata


def _rank(system: System, asked: Sequence[str], k: int) -> list[tuple[str, ...]]:
    """Product ids of a list of at most `k` for each product."""
    row_of = {id_: row for row, id_ in enumerate(system.product_ids)}
    queries = [np.array([row_of[id_]], np.int32) for id_ in asked]
    found, _ = system.ranker.rank(queries, k)
    return [tuple(system.product_ids[row] for row in rows if row >= 0) for rows in found]


def _label(
    lists: Sequence[tuple[str, ...]], rng: np.random.Generator
) -> dict[tuple[str, ...], str]:
    """A, B, … of the distinct lists, in random order."""
    distinct = list(dict.fromkeys(lists))
    order = rng.permutation(len(distinct))
    return {distinct[i]: label for i, label in zip(order, ascii_uppercase, strict=False)}


def _ask(product_id: str, by_list: Mapping[tuple[str, ...], str], describe: Describe) -> Question:
    lists = [
        LabelledList(label=label, products=tuple(_card(id_, describe) for id_ in shown))
        for shown, label in by_list.items()
    ]
    return Question(product=_card(product_id, describe), lists=tuple(lists))


def _card(product_id: str, describe: Describe) -> Card:
    fields = describe(product_id)
    return Card(product_id=product_id, name=fields.get("name"), category=fields.get("category"))


def _sign(sheet: Sheet) -> Sheet:
    content = sheet.model_dump_json().encode()
    return sheet.model_copy(update={"sheet_id": hashlib.sha256(content).hexdigest()[:12]})
