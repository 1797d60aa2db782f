"""Products by id or row: JSON ready to send, columns to filter and sort by.

Built with the bundle, so that a service starts without computing or copying anything.
"""

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
    to_offsets,
)
from components.model.hashing import hash_text
from components.model.ragged import ArrayGroup, RaggedRows

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa

# In the order of a card, whose readers the shop's margin does not concern.
PUBLIC_FIELDS = (
    *("product_id", "name", "category", "brand", "price", "image_url", "in_stock", "attributes"),
)
MAX_NUMBER = float(np.finfo(np.float32).max)
UNKNOWN = -1  # Of in_stock; else it is 0 or 1
BLOCK = 20_000  # Products in memory as Python objects at once


@dataclass(frozen=True)
class ProductRecords(ArrayGroup, prefix="records"):
    """The product table, (n_products,) per column.

    `json[json_offsets[i]:json_offsets[i + 1]]` is card i as JSON without its closing brace.
    `id_hashes` is sorted, of the rows `id_rows`. `price`, `margin` and `added_at` (seconds since
    1970) are NaN where unknown, `brand_codes` 0.
    """

    json: UInt8Array
    json_offsets: Int64Array
    id_hashes: UInt64Array
    id_rows: Int32Array
    price: Float32Array
    margin: Float32Array
    added_at: Float64Array
    in_stock: Int8Array
    brand_codes: Int32Array

    def row(self, product_id: str) -> int | None:
        hashes, wanted = self._hashes, hash_text(product_id)
        place = bisect_left(hashes, wanted)
        while place < len(hashes) and hashes[place] == wanted:
            start = _to_json({"product_id": product_id})[:-1] + b","
            row = int(self.id_rows[place])
            if self.get_json(row)[: len(start)] == start:
                return row
            place += 1
        return None

    def get_json(self, row: int) -> memoryview:
        """Without the closing brace; not copied."""
        offsets = self._offsets
        return self._json[offsets[row] : offsets[row + 1]]

    def card(self, row: int) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(bytes(self.get_json(row)) + b"}")
        return content

    # Reading a number from a memoryview costs a fifth of reading it from an array.

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
class Facets(RaggedRows, prefix="facets"):
    """List t holds the rows, ascending, with the facet whose hash is `tokens[t]` (sorted)."""

    tokens: UInt64Array

    def find_rows(self, token: int) -> Int32Array:
        place = int(np.searchsorted(self.tokens, np.uint64(token)))
        if place == len(self.tokens) or int(self.tokens[place]) != token:
            return self.rows[:0]
        return self.rows[self.entries(place)]


@lru_cache(maxsize=2**14)
def hash_facet(name: str, value: str) -> int:
    """`name` is category, brand or attributes.NAME."""
    return hash_text(f"{name}\0{value}")


def list_facets(card: Mapping[str, Any]) -> list[int]:
    """Tokens of all facets of a card, see `hash_facet`."""
    plain = [hash_facet(name, card[name]) for name in ("category", "brand") if card.get(name)]
    custom = card.get("attributes") or {}
    return plain + [hash_facet(f"attributes.{name}", value) for name, value in custom.items()]


def encode_card(card: Mapping[str, Any]) -> bytes:
    """JSON without its closing brace, `product_id` first."""
    content = {name: card.get(name) for name in PUBLIC_FIELDS}
    if not content["attributes"]:
        del content["attributes"]
    return _to_json(content)[:-1]


def build_records(products: "pa.Table") -> tuple[ProductRecords, Facets]:
    texts, tokens, owners = [], [], []
    for row, card in enumerate(_read_cards(products)):
        texts.append(encode_card(card))
        facets = list_facets(card)
        tokens += facets
        owners += [row] * len(facets)
    hashes = np.array([hash_text(id_.as_py()) for id_ in products["product_id"]], np.uint64)
    order = np.argsort(hashes, kind="stable")
    in_stock = products["in_stock"].to_pylist()
    records = ProductRecords(
        json=np.frombuffer(b"".join(texts), np.uint8),
        json_offsets=to_offsets(list(map(len, texts))),
        id_hashes=hashes[order],
        id_rows=order.astype(np.int32),
        price=_read_numbers(products, "price"),
        margin=_read_numbers(products, "margin"),
        added_at=_read_times(products),
        in_stock=np.array([UNKNOWN if one is None else one for one in in_stock], np.int8),
        brand_codes=_encode_column(products["brand"]),
    )
    return records, _build_facets(tokens, owners)


def _read_cards(products: "pa.Table") -> Iterator[dict[str, Any]]:
    for start in range(0, products.num_rows, BLOCK):
        for card in products.slice(start, BLOCK).to_pylist():
            if text := card.get("attributes"):
                card["attributes"] = json.loads(text)
            if card.get("price") is not None and not abs(card["price"]) <= MAX_NUMBER:
                card["price"] = None
            yield card


def _encode_column(column: "pa.ChunkedArray") -> Int32Array:
    """From 1; 0 where there is no value."""
    encoded = column.combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    numbers: Int32Array = codes.astype(np.int32) + np.int32(1)
    return numbers


def _read_numbers(products: "pa.Table", name: str) -> Float32Array:
    """NaN where unknown or too large for float32."""
    values = products[name].combine_chunks().cast("float64").to_numpy(zero_copy_only=False)
    numbers: Float32Array = np.where(np.abs(values) <= MAX_NUMBER, values, np.nan)
    return numbers.astype(np.float32)


def _read_times(products: "pa.Table") -> Float64Array:
    times: list[datetime | None] = products["added_at"].to_pylist()
    return np.array([np.nan if one is None else one.timestamp() for one in times], np.float64)


def _build_facets(tokens: Sequence[int], owners: Sequence[int]) -> Facets:
    every, rows = np.array(tokens, np.uint64), np.array(owners, np.int32)
    order = np.argsort(every, kind="stable")
    unique, first = np.unique(every[order], return_index=True)
    offsets = np.concatenate([first, [len(every)]]).astype(np.int64)
    return Facets(offsets, rows[order], unique)


def _to_json(content: Any) -> bytes:
    encoded: bytes = pydantic_core.to_json(content)
    return encoded
