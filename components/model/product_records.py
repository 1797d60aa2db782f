"""What serving looks up of products: ids, cards ready to send, columns to filter and sort by.

Made once, when a bundle is, so that a service has nothing to compute or to copy when it starts:
the arrays are memory-mapped and shared between processes, however large the catalogue is.
"""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic_core

from components.model.arrays import (
    Float32Array,
    Float64Array,
    Int8Array,
    Int32Array,
    Int64Array,
    UInt8Array,
    UInt64Array,
)

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa


CARDS = (
    *("json", "json_offsets", "id_hashes", "id_rows"),
    *("price", "margin", "added_at", "in_stock", "brand_of"),
)
FACETS = ("tokens", "offsets", "rows")
"""The arrays of Cards and Facets; they lie in card_ and facet_NAME.npy."""

SHOWN = ("product_id", "name", "category", "brand", "price", "image_url", "in_stock", "attributes")
"""What a card shows, in this order. The shop's margin is nobody else's business."""

LARGEST = float(np.finfo(np.float32).max)
"""A number above it is none."""

UNKNOWN = -1
"""Of in_stock, where nothing is known; else it is 0 or 1."""

BLOCK = 20_000
"""Products that are in memory as Python objects at once."""


@dataclass(frozen=True)
class ProductRecords:
    """The product table, (n_products,) a column, by its rows.

    `json[json_offsets[i]:json_offsets[i + 1]]` is the card as JSON without its closing brace.
    `id_hashes` is sorted; `id_rows` says whose each is. `price` and `margin` are per unit in the
    shop's currency and `added_at` in seconds since 1970, all NaN where unknown; `in_stock` is 0, 1
    or UNKNOWN; `brand_of` codes brands, 0 being none.
    """

    json: UInt8Array
    json_offsets: Int64Array
    id_hashes: UInt64Array
    id_rows: Int32Array
    price: Float32Array
    margin: Float32Array
    added_at: Float64Array
    in_stock: Int8Array
    brand_of: Int32Array

    def row(self, product_id: str) -> int | None:
        """The row of that product, or None."""
        hashes, wanted = self._hashes, hash_id(product_id)
        place = bisect_left(hashes, wanted)
        while place < len(hashes) and hashes[place] == wanted:
            start = _card_start(product_id)
            row = int(self.id_rows[place])
            if self.shown(row)[: len(start)] == start:
                return row
            place += 1
        return None

    def shown(self, row: int) -> memoryview:
        """The card as JSON without its closing brace; nothing is copied."""
        offsets = self._offsets
        return self._json[offsets[row] : offsets[row + 1]]

    def card(self, row: int) -> dict[str, Any]:
        """The card as it is shown."""
        content: dict[str, Any] = json.loads(bytes(self.shown(row)) + b"}")
        return content

    # Reading a memoryview costs a fifth of what an array costs, number by number.

    @cached_property
    def _hashes(self) -> memoryview:
        return memoryview(self.id_hashes)  # type: ignore[arg-type]

    @cached_property
    def _offsets(self) -> memoryview:
        return memoryview(self.json_offsets)  # type: ignore[arg-type]

    @cached_property
    def _json(self) -> memoryview:
        return memoryview(self.json)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Facets:
    """Which products are of a category or a brand, or have a custom attribute.

    `rows[offsets[t]:offsets[t + 1]]`, ascending, are the rows that have the facet whose hash is
    `tokens[t]` (sorted); see `hash_facet`.
    """

    tokens: UInt64Array
    offsets: Int64Array
    rows: Int32Array

    def find_rows(self, token: int) -> Int32Array:
        """Rows with that facet, ascending; there may be none."""
        place = int(np.searchsorted(self.tokens, np.uint64(token)))
        if place == len(self.tokens) or int(self.tokens[place]) != token:
            return self.rows[:0]
        return self.rows[self.offsets[place] : self.offsets[place + 1]]


@lru_cache(maxsize=2**14)
def hash_facet(name: str, value: str) -> int:
    """The token of a facet: `category`, `brand` or `attributes.NAME` with its value."""
    return _hash(f"{name}\0{value}")


def list_facets(card: Mapping[str, Any]) -> list[int]:
    """The tokens of everything that a card can be filtered by."""
    plain = [hash_facet(name, card[name]) for name in ("category", "brand") if card.get(name)]
    custom = card.get("attributes") or {}
    return plain + [hash_facet(f"attributes.{name}", value) for name, value in custom.items()]


def hash_id(product_id: str) -> int:
    """64 bits of an id, the same on every machine."""
    return _hash(product_id)


def encode_card(card: Mapping[str, Any]) -> bytes:
    """A card as JSON without its closing brace, `product_id` first."""
    content = {name: card.get(name) for name in SHOWN}
    if not content["attributes"]:
        del content["attributes"]
    return _compact(content)[:-1]


def build_records(products: "pa.Table") -> tuple[ProductRecords, Facets]:
    """Cards and facets of a product table. Linear in products."""
    texts, sizes, tokens, owners = [], [], [], []
    for row, card in enumerate(read_records(products)):
        texts.append(encode_card(card))
        sizes.append(len(texts[-1]))
        mine = list_facets(card)
        tokens += mine
        owners += [row] * len(mine)
    hashes = np.array([hash_id(id_.as_py()) for id_ in products["product_id"]], np.uint64)
    order = np.argsort(hashes, kind="stable")
    in_stock = products["in_stock"].to_pylist()
    records = ProductRecords(
        json=np.frombuffer(b"".join(texts), np.uint8),
        json_offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        id_hashes=hashes[order],
        id_rows=order.astype(np.int32),
        price=to_floats(products, "price"),
        margin=to_floats(products, "margin"),
        added_at=_seconds(products),
        in_stock=np.array([UNKNOWN if one is None else one for one in in_stock], np.int8),
        brand_of=encode_column(products["brand"]),
    )
    return records, _facets(tokens, owners)


def read_records(products: "pa.Table") -> Iterator[dict[str, Any]]:
    """The rows of a product table, custom attributes decoded."""
    for start in range(0, products.num_rows, BLOCK):
        for card in products.slice(start, BLOCK).to_pylist():
            if text := card.get("attributes"):
                card["attributes"] = json.loads(text)
            if card.get("price") is not None and not abs(card["price"]) <= LARGEST:
                card["price"] = None
            yield card


def encode_column(column: "pa.ChunkedArray") -> Int32Array:
    """The values of a column as numbers from 1; 0 where there is none."""
    encoded = column.combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    numbers: Int32Array = codes.astype(np.int32) + np.int32(1)
    return numbers


def to_floats(products: "pa.Table", name: str) -> Float32Array:
    """A column, NaN where nothing is known or what is said is no number of this world."""
    values = products[name].combine_chunks().cast("float64").to_numpy(zero_copy_only=False)
    numbers: Float32Array = np.where(np.abs(values) <= LARGEST, values, np.nan).astype(np.float32)
    return numbers


def _facets(tokens: Sequence[int], owners: Sequence[int]) -> Facets:
    every, rows = np.array(tokens, np.uint64), np.array(owners, np.int32)
    order = np.argsort(every, kind="stable")
    distinct, first = np.unique(every[order], return_index=True)
    offsets = np.concatenate([first, [len(every)]]).astype(np.int64)
    return Facets(distinct, offsets, rows[order])


def _seconds(products: "pa.Table") -> Float64Array:
    times: list[datetime | None] = products["added_at"].to_pylist()
    return np.array([np.nan if one is None else one.timestamp() for one in times], np.float64)


def _card_start(product_id: str) -> bytes:
    return _compact({"product_id": product_id})[:-1] + b","


def _compact(content: Any) -> bytes:
    encoded: bytes = pydantic_core.to_json(content)
    return encoded


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
