"""Orders made up in the shape of real ones, of any size, in bounded memory.

Popularity follows a Zipf law. Every product belongs to a group, every basket is out for the groups
of two products, and most of its products come from those: there is something to learn. A group is
a category, in which every design comes in some colours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.contracts import BASKETS, ORDER_LINES, PRODUCTS, write_table
from components.model.arrays import Float64Array, Int64Array
from components.model.atomic import atomic_write

Chances = float | Float64Array

ZIPF = 0.8
"""Exponent of popularity; at 50 lines a product the rarest ones are bought about eight times."""

PER_GROUP = 100
"""Products of a group."""

IN_GROUP = 0.7
"""Chance of a product to come from the groups its basket is out for."""

MEAN_SIZE, MOST = 5, 60
"""Products of a basket; sizes are geometric, from two."""

COLOURS = ("black", "white", "red", "blue")
"""A design of a category comes in so many colours: products that are each other's variants."""

SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru")
"""Digits of made-up words: names without numbers, which might be sizes."""

CHUNK = 200_000
"""Baskets made at once, and of one Parquet part."""

FIRST_ORDER_US = 1_700_000_000_000_000
APART_US = 1_000_000


@dataclass(frozen=True)
class Shop:
    """Products are numbers, the most popular first."""

    n_lines: int
    """Approximately: duplicates within a basket are dropped."""
    n_products: int
    seed: int = 1

    @property
    def n_orders(self) -> int:
        """Baskets that hold so many lines."""
        return max(self.n_lines // MEAN_SIZE, 1)


def write_baskets(shop: Shop, path: Path) -> None:
    """BASKETS of the shop at `path`, a folder of Parquet parts; the oldest 80 % train."""
    with atomic_write(path) as aside:
        aside.mkdir(parents=True)
        for first, offsets, products in _chunks(shop):
            orders = first + np.arange(len(offsets) - 1)
            share = orders / shop.n_orders
            split = np.where(share < 0.8, "train", np.where(share < 0.9, "validation", "test"))
            n = len(orders)
            columns = [
                pa.array(orders).cast(pa.string()), pa.nulls(n, pa.string()), _moments(orders),
                pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), _ids(products)),
                pa.nulls(n, pa.list_(pa.int32())), pa.array(np.ones(n, np.float32)),
                pa.array(split.tolist()),
            ]  # fmt: skip
            table = pa.table(columns, schema=pa.schema(list(BASKETS)))
            pq.write_table(table, aside / f"part-{first:09d}.parquet")


def write_products(shop: Shop, path: Path) -> None:
    """PRODUCTS of the shop at `path`: all have a name, a category, a brand and a price."""
    rng = np.random.default_rng(shop.seed)
    group, place = np.divmod(_places(shop, rng), PER_GROUP)
    kinds, design = [_word(one) for one in group], place // len(COLOURS)
    colours = [COLOURS[one % len(COLOURS)] for one in place]
    n = shop.n_products
    columns = {
        "product_id": _ids(np.arange(n)),
        "name": [
            f"{kind} {_word(one)} {colour}"
            for kind, one, colour in zip(kinds, design, colours, strict=True)
        ],
        "category": kinds,
        "brand": [_word(one) for one in group // 10],
        "price": np.round(rng.lognormal(2, 1, n), 2),
    }
    rest = {field.name: pa.nulls(n, field.type) for field in PRODUCTS if field.name not in columns}
    write_table(pa.table({**columns, **rest}).select(PRODUCTS.names).cast(PRODUCTS), PRODUCTS, path)


def write_order_lines(shop: Shop, path: Path) -> None:
    """ORDER_LINES of the same orders at `path`, a folder of Parquet parts."""
    with atomic_write(path) as aside:
        aside.mkdir(parents=True)
        for first, offsets, products in _chunks(shop):
            order = first + np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
            n = len(order)
            columns = [
                pa.array(order).cast(pa.string()), pa.nulls(n, pa.string()), _ids(products),
                _moments(order), pa.nulls(n, pa.int32()), pa.array(np.ones(n)),
                pa.nulls(n, pa.float64()),
            ]  # fmt: skip
            table = pa.table(columns, schema=pa.schema(list(ORDER_LINES)))
            pq.write_table(table, aside / f"part-{first:09d}.parquet")


def _chunks(shop: Shop) -> Iterator[tuple[int, Int64Array, Int64Array]]:
    """The number of the first order, and offsets (n_orders + 1,) and products of CHUNK orders."""
    rng = np.random.default_rng(shop.seed)
    group = _places(shop, rng) // PER_GROUP
    by_group = np.argsort(group, kind="stable")
    popularity = np.arange(1, shop.n_products + 1) ** -ZIPF
    until = np.cumsum(popularity[by_group])
    until /= until[-1]
    ends = until[np.searchsorted(group[by_group], group, side="right") - 1]
    starts = np.concatenate([[0.0], until])[np.searchsorted(group[by_group], group)]

    def draw(low: Chances, high: Chances, n: int) -> Int64Array:
        places = np.searchsorted(until, rng.uniform(low, high, n), side="right")
        products: Int64Array = by_group[np.minimum(places, shop.n_products - 1)]
        return products

    for first in range(0, shop.n_orders, CHUNK):
        n = min(CHUNK, shop.n_orders - first)
        sizes = np.minimum(1 + rng.geometric(1 / (MEAN_SIZE - 1), n), MOST)
        order = np.repeat(np.arange(n), sizes)
        seeds = draw(0, 1, 2 * n).reshape(n, 2)
        seed = seeds[order, rng.integers(2, size=len(order))]
        at_random = rng.random(len(order)) >= IN_GROUP
        low, high = np.where(at_random, 0, starts[seed]), np.where(at_random, 1, ends[seed])
        distinct = np.unique(order * shop.n_products + draw(low, high, len(order)))
        held = np.bincount(distinct // shop.n_products, minlength=n)
        yield first, np.concatenate([[0], np.cumsum(held)]), distinct % shop.n_products


def _places(shop: Shop, rng: np.random.Generator) -> Int64Array:
    """Where every product is (n_products,), group after group; the first that `rng` is asked."""
    return rng.permutation(shop.n_products)


def _word(number: int) -> str:
    return "".join(SYLLABLES[int(digit)] for digit in str(number))


def _ids(products: Int64Array) -> pa.Array:
    return pa.array(products + 1_000_000).cast(pa.string())


def _moments(orders: Int64Array) -> pa.Array:
    return pa.array(FIRST_ORDER_US + APART_US * orders).cast(ORDER_LINES.field("ts").type)
