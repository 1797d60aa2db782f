"""The bundle's product table with the shop's changes since.

A catalogue is immutable, so that requests in progress keep the one they began with. Changes make a
new one that shares the bundle's arrays.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from bento.answering.search_segments import NO_SEGMENTS, ChangedSegments, SegmentReader
from bento.schemas.catalogue import ChangedProduct
from components.model.arrays import (
    BoolArray,
    Float32Array,
    Float64Array,
    Int8Array,
    Int32Array,
    Int64Array,
)
from components.model.product_records import (
    UNKNOWN,
    Facets,
    ProductRecords,
    encode_card,
    list_facets,
)
from components.model.sensitive_goods import PLAIN, SensitiveGoods, classify
from components.model.sorted_keys import find_keys
from components.model.text_similarity import Attributes, merge_attributes
from components.model.token_index import SearchableText, TokenIndex

BLOCK = 50_000

FACET_FIELDS = frozenset(["category", "brand", "attributes"])

SEARCHED_FIELDS = frozenset(["name", "category", "brand"])

COLUMNS = {"price": np.nan, "margin": np.nan, "added_at": np.nan, "in_stock": UNKNOWN}
"""Columns that change, and their values if unknown."""

MAX_CACHED_ATTRIBUTES = 10_000
MAX_CACHED_FACETS = 1_000
MAX_CACHED_IDS = 50_000


@dataclass(frozen=True)
class ProductFilter:
    any_of: tuple[tuple[int, ...], ...] = ()
    """A product needs one facet of each group."""
    none_of: tuple[int, ...] = ()
    lowest: float = -math.inf
    highest: float = math.inf
    """The price may be unknown only if both are infinite."""
    in_stock: bool | None = None


class Catalogue:
    """Looks products up by row; the first rows are those of the bundle, in its order.

    Columns hold NaN for unknown values, `in_stock` UNKNOWN.
    """

    def __init__(
        self, records: ProductRecords, facets: Facets, sensitive: SensitiveGoods | None = None
    ) -> None:
        self._records, self._facets, self._sensitive = records, facets, sensitive
        self.price: Float32Array = records.price
        self.margin: Float32Array = records.margin
        self.added_at: Float64Array = records.added_at
        self.in_stock: Int8Array = records.in_stock
        self.sensitive: Int8Array = (
            np.full(len(records.price), PLAIN, np.int8) if sensitive is None else sensitive.classes
        )
        self.deleted: BoolArray | None = None
        """None if there are none."""
        self._added: dict[str, int] = {}
        self._changed: dict[int, ChangedProduct] = {}
        self._refaceted: dict[int, list[int]] = {}
        """Facets by row, where they may differ from the bundle's."""
        self._refaceted_rows: Int32Array = np.empty(0, np.int32)
        self._facet_rows: dict[int, Int32Array] = {}
        self._attributes: dict[int, Attributes] = {}
        self._segments: ChangedSegments = NO_SEGMENTS
        self._ids: dict[int, str] = {}

    def __len__(self) -> int:
        """Rows, deleted ones included."""
        return len(self.price)

    @property
    def n_changes(self) -> int:
        return len(self._changed)

    def row(self, product_id: str) -> int | None:
        """Deleted products keep their row."""
        row = self._records.row(product_id)
        return self._added.get(product_id) if row is None else row

    def is_deleted(self, row: int) -> bool:
        return self.deleted is not None and bool(self.deleted[row])

    def card_json(self, row: int) -> bytes | memoryview:
        """The product card as JSON without its closing brace."""
        return encode_card(self.card(row)) if row in self._changed else self._records.get_json(row)

    def card(self, row: int) -> dict[str, Any]:
        card = self._records.card(row) if row < len(self._records.price) else {}
        if (change := self._changed.get(row)) is None:
            return card
        return {**card, "product_id": change.product_id, **change.card}

    def product_id(self, row: int) -> str:
        if (product_id := self._ids.get(row)) is None:
            if len(self._ids) >= MAX_CACHED_IDS:
                self._ids.clear()
            product_id = self._ids[row] = str(self.card(row)["product_id"])
        return product_id

    def list_product_ids(self, rows: Sequence[int]) -> list[str]:
        ids = self._ids
        try:
            return [ids[row] for row in rows]
        except KeyError:
            return [self.product_id(row) for row in rows]

    def list_segments(self, token_index: TokenIndex) -> list[SegmentReader]:
        return self._segments.list_readers(token_index, self.deleted)

    def find_attributes(self, row: int | None, given: Attributes | None = None) -> Attributes:
        if row is None or given is not None:
            return merge_attributes(given, {} if row is None else self.card(row))
        if (attributes := self._attributes.get(row)) is None:
            if len(self._attributes) >= MAX_CACHED_ATTRIBUTES:
                self._attributes.clear()
            attributes = self._attributes[row] = merge_attributes(None, self.card(row))
        return attributes

    def is_any_dearer(self, rows: Sequence[int], limit: float) -> bool:
        # For a few rows a loop over a memoryview is faster than numpy.
        price = self._price_view
        return any(price[row] > limit for row in rows)

    @cached_property
    def _price_view(self) -> memoryview:
        return memoryview(self.price)  # type: ignore[arg-type]

    @cached_property
    def stock(self) -> memoryview | None:
        """`in_stock`, for a few rows; None if nothing is out of stock."""
        return memoryview(self.in_stock) if (self.in_stock == 0).any() else None  # type: ignore[arg-type]

    def find_rows(self, token: int) -> Int32Array:
        """Rows with a facet, ascending."""
        if (rows := self._facet_rows.get(token)) is None:
            rows = self._facets.find_rows(token)
            if self._refaceted:
                added = [row for row, tokens in self._refaceted.items() if token in tokens]
                rows = rows[~np.isin(rows, self._refaceted_rows)]
                rows = np.sort(np.concatenate([rows, np.array(added, np.int32)]))
            if len(self._facet_rows) >= MAX_CACHED_FACETS:
                self._facet_rows.clear()
            self._facet_rows[token] = rows
        return rows

    def has_facet(self, rows: Int64Array | Int32Array, tokens: Sequence[int]) -> BoolArray:
        found = np.zeros(len(rows), bool)
        for token in tokens:
            found |= find_keys(self.find_rows(token), rows)[1]
        return found

    def match_filter(self, rows: Int64Array | Int32Array, wanted: ProductFilter) -> BoolArray:
        """Deleted products never match."""
        passes = np.ones(len(rows), bool) if self.deleted is None else ~self.deleted[rows]
        for tokens in wanted.any_of:
            passes &= self.has_facet(rows, tokens)
        if wanted.none_of:
            passes &= ~self.has_facet(rows, wanted.none_of)
        if math.isfinite(wanted.lowest) or math.isfinite(wanted.highest):
            price = self.price[rows]
            passes &= (price >= np.float32(wanted.lowest)) & (price <= np.float32(wanted.highest))
        if wanted.in_stock is not None:
            out_of_stock = self.in_stock[rows] == 0
            passes &= ~out_of_stock if wanted.in_stock else out_of_stock
        return passes

    def iterate_matching(self, wanted: ProductFilter) -> Iterator[Int64Array]:
        """Blocks of rows, ascending."""
        choices = [
            np.unique(np.concatenate([self.find_rows(token) for token in tokens]))
            for tokens in wanted.any_of
        ]
        rows = min(choices, key=len).astype(np.int64) if choices else np.arange(len(self))
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            yield block[self.match_filter(block, wanted)]

    def with_changes(self, changes: Sequence[ChangedProduct]) -> "Catalogue":
        """These changes replace earlier ones of the same products."""
        new = Catalogue(self._records, self._facets, self._sensitive)
        new._added, new._changed = dict(self._added), dict(self._changed)
        new._ids = self._ids  # a product keeps its row
        rows, n_bundled = [], len(self._records.price)
        for change in changes:
            row = self.row(change.product_id)
            if row is None:
                row = new._added.setdefault(change.product_id, n_bundled + len(new._added))
            new._changed[row] = change
            rows.append(row)
        new._set_columns(self, rows)
        new._set_sensitive(self, rows)
        new._set_facets(self, rows)
        new._segments = self._segments.with_texts({row: new._find_new_text(row) for row in rows})
        return new

    def _set_columns(self, old: "Catalogue", rows: Sequence[int]) -> None:
        n = len(self._records.price) + len(self._added)
        for name, missing in COLUMNS.items():
            column = _extend_column(getattr(old, name), n, missing)
            for row in rows:
                column[row] = self._find_value(row, name, missing)
            setattr(self, name, column)
        deleted = np.zeros(0, bool) if old.deleted is None else old.deleted
        deleted = _extend_column(deleted, n, False)
        deleted[rows] = [self._changed[row].deleted for row in rows]
        self.deleted = deleted if deleted.any() else None

    def _find_value(self, row: int, name: str, missing: float) -> float:
        fields, column = self._changed[row].card, getattr(self._records, name)
        if name not in fields:
            return float(column[row]) if row < len(column) else missing
        if fields[name] is None:
            return missing
        if name == "added_at":
            return datetime.fromisoformat(fields[name]).timestamp()
        return float(fields[name])

    def _set_sensitive(self, old: "Catalogue", rows: Sequence[int]) -> None:
        bundled = self.sensitive
        self.sensitive = _extend_column(old.sensitive, len(self), PLAIN)
        for row in rows:
            if SEARCHED_FIELDS & self._changed[row].card.keys():
                card = self.card(row)
                self.sensitive[row] = classify(card.get("name"), card.get("category"))
            else:
                self.sensitive[row] = bundled[row] if row < len(bundled) else PLAIN

    def _set_facets(self, old: "Catalogue", rows: Sequence[int]) -> None:
        changed = {
            row: list_facets(self.card(row))
            for row in rows
            if row in old._refaceted or FACET_FIELDS & self._changed[row].card.keys()
        }
        if changed:
            self._refaceted = old._refaceted | changed
            self._refaceted_rows = np.array(sorted(self._refaceted), np.int32)
        else:
            self._refaceted, self._refaceted_rows = old._refaceted, old._refaceted_rows
            self._facet_rows = old._facet_rows

    def _find_new_text(self, row: int) -> SearchableText | None:
        """None if the texts are still the bundle's."""
        is_bundled = row < len(self._records.price)
        if is_bundled and not SEARCHED_FIELDS & self._changed[row].card.keys():
            return None
        card = self.card(row)
        return SearchableText._make(card.get(name) for name in SearchableText._fields)


def _extend_column(column: Any, n: int, missing: float) -> Any:
    longer = np.full(n, missing, column.dtype)
    longer[: len(column)] = column
    return longer
