"""Products as they are now: the bundle's table, and what the shop has changed since.

A catalogue is immutable. Changes make a new one, which shares with the old one all that is the
bundle's, so that whoever is answering a question goes on with what it began with.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from bento.answering.catalogue_changes import ChangedProduct
from bento.answering.search_segments import NO_SEGMENTS, ChangedSegments, SegmentReader
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
from components.model.sorted_keys import find_keys
from components.model.text_similarity import Attributes, merge_attributes
from components.model.token_index import SearchableText, TokenIndex

BLOCK = 50_000
"""Rows that are looked through at once where no facet narrows them down."""

FACET_FIELDS = frozenset(["category", "brand", "attributes"])
"""Fields of a card that it can be found by."""

SEARCHED_FIELDS = frozenset(["name", "category", "brand"])
"""Fields of a card whose words it is searched by."""

MAX_CACHED_ATTRIBUTES = 10_000
"""Products of which it is remembered what their cards say."""

MAX_CACHED_FACETS = 1_000
"""Facets whose rows are remembered."""


@dataclass(frozen=True)
class ProductFilter:
    """Filters, as tokens of facets and bounds."""

    any_of: tuple[tuple[int, ...], ...] = ()
    """A product has to have one token of each."""
    none_of: tuple[int, ...] = ()
    lowest: float = -math.inf
    highest: float = math.inf
    """Of the price. Where both are infinite, it may be unknown."""
    in_stock: bool | None = None
    """What is not known to be out of stock passes for in stock."""


class Catalogue:
    """Looks products up by row; the first rows are those of the bundle, in its order."""

    def __init__(self, records: ProductRecords, facets: Facets) -> None:
        self._records, self._facets = records, facets
        self.price: Float32Array = records.price
        self.margin: Float32Array = records.margin
        self.added_at: Float64Array = records.added_at
        self.in_stock: Int8Array = records.in_stock
        self.deleted: BoolArray | None = None
        """Which rows are deleted; None where none is."""
        self._row_of: dict[str, int] = {}
        self._changed: dict[int, ChangedProduct] = {}
        self._moved: dict[int, list[int]] = {}
        """Of rows whose facets may be others than the bundle's: the facets they have."""
        self._refaceted_rows: Int32Array = np.empty(0, np.int32)
        self._kept: dict[int, Int32Array] = {}
        self._looks: dict[int, Attributes] = {}
        self._texts: ChangedSegments = NO_SEGMENTS

    def __len__(self) -> int:
        """Rows, deleted ones included."""
        return len(self.price)

    @property
    def n_changes(self) -> int:
        """Products that are not as the bundle has them."""
        return len(self._changed)

    def row(self, product_id: str) -> int | None:
        """The row of that product, or None; deleted ones still have theirs."""
        row = self._records.row(product_id)
        return self._row_of.get(product_id) if row is None else row

    def is_deleted(self, row: int) -> bool:
        """Whether the product is deleted."""
        return self.deleted is not None and bool(self.deleted[row])

    def shown(self, row: int) -> bytes | memoryview:
        """The card as JSON without its closing brace."""
        if row in self._changed:
            return encode_card(self.card(row))
        return self._records.get_json(row)

    def card(self, row: int) -> dict[str, Any]:
        """The card as it is now."""
        card = self._records.card(row) if row < len(self._records.price) else {}
        if (change := self._changed.get(row)) is None:
            return card
        return {**card, "product_id": change.product_id, **change.card}

    def written(self, row: int) -> SearchableText:
        """What the product is searched by."""
        card = self.card(row)
        return SearchableText._make(card.get(name) for name in SearchableText._fields)

    def parts(self, words: TokenIndex) -> list[SegmentReader]:
        """What can be searched: the bundle's `words`, and those of what has changed."""
        return self._texts.parts(words, self.deleted)

    def described(self, row: int | None, given: Attributes | None = None) -> Attributes:
        """What the asking one says of a product, else what its card says."""
        return merge_attributes(given, {} if row is None else self.card(row))

    def is_any_dearer(self, rows: Sequence[int], limit: float) -> bool:
        """Whether any of a few rows costs more; number by number, which is quickest for a few."""
        price = self._price_view
        return any(price[row] > limit for row in rows)

    @cached_property
    def _price_view(self) -> memoryview:
        return memoryview(self.price)  # type: ignore[arg-type]

    def looks(self, row: int) -> Attributes:
        """What its card says of a product."""
        if (looks := self._looks.get(row)) is None:
            if len(self._looks) >= MAX_CACHED_ATTRIBUTES:
                self._looks.clear()
            looks = self._looks[row] = self.described(row)
        return looks

    def find_rows(self, token: int) -> Int32Array:
        """Rows with that facet, ascending."""
        rows = self._kept.get(token)
        if rows is None:
            rows = self._facets.find_rows(token)
            if self._moved:
                came = [row for row, tokens in self._moved.items() if token in tokens]
                stayed = rows[~np.isin(rows, self._refaceted_rows)]
                rows = np.sort(np.concatenate([stayed, np.array(came, np.int32)]))
            if len(self._kept) >= MAX_CACHED_FACETS:
                self._kept.clear()
            self._kept[token] = rows
        return rows

    def has(self, rows: Int64Array | Int32Array, tokens: Sequence[int]) -> BoolArray:
        """Which of `rows` have any of the facets."""
        found = np.zeros(len(rows), bool)
        for token in tokens:
            found |= find_keys(self.find_rows(token), rows)[1]
        return found

    def match_filter(self, rows: Int64Array | Int32Array, wanted: ProductFilter) -> BoolArray:
        """Which of `rows` pass; deleted ones never do."""
        passes = np.ones(len(rows), bool) if self.deleted is None else ~self.deleted[rows]
        for tokens in wanted.any_of:
            passes &= self.has(rows, tokens)
        if wanted.none_of:
            passes &= ~self.has(rows, wanted.none_of)
        if math.isfinite(wanted.lowest) or math.isfinite(wanted.highest):
            price = self.price[rows]
            passes &= (price >= np.float32(wanted.lowest)) & (price <= np.float32(wanted.highest))
        if wanted.in_stock is not None:
            out = self.in_stock[rows] == 0
            passes &= ~out if wanted.in_stock else out
        return passes

    def every(self, wanted: ProductFilter) -> Iterator[Int64Array]:
        """All rows that pass, ascending, block by block."""
        if wanted.any_of:
            choices = [
                np.unique(np.concatenate([self.find_rows(token) for token in tokens]))
                for tokens in wanted.any_of
            ]
            whole = min(choices, key=len).astype(np.int64)
        else:
            whole = np.arange(len(self))
        for start in range(0, len(whole), BLOCK):
            block = whole[start : start + BLOCK]
            yield block[self.match_filter(block, wanted)]

    def with_changes(self, changes: Sequence[ChangedProduct]) -> "Catalogue":
        """This catalogue with these products changed, whatever had been changed of them before."""
        new = Catalogue(self._records, self._facets)
        new._row_of, new._changed = dict(self._row_of), dict(self._changed)
        new._moved, new._refaceted_rows = dict(self._moved), self._refaceted_rows
        for change in changes:
            row = self.row(change.product_id)
            if row is None:
                row = new._row_of.setdefault(
                    change.product_id, len(self._records.price) + len(new._row_of)
                )
            new._changed[row] = change
        rows = [new._row(change.product_id) for change in changes]
        new._copy_columns(self, rows)
        moved = [
            row
            for row in rows
            if row in self._moved or FACET_FIELDS & new._changed[row].card.keys()
        ]
        new._move(moved)
        new._texts = self._texts.changed(
            {row: new.written(row) if new._is_written(row) else None for row in rows}
        )
        if not moved:
            new._kept = self._kept
        return new

    def _is_written(self, row: int) -> bool:
        """Whether a changed product may say another thing than the bundle's card."""
        return row >= len(self._records.price) or bool(
            SEARCHED_FIELDS & self._changed[row].card.keys()
        )

    def _row(self, product_id: str) -> int:
        row = self.row(product_id)
        assert row is not None
        return row

    def _copy_columns(self, old: "Catalogue", rows: Sequence[int]) -> None:
        n = len(self._records.price) + len(self._row_of)
        self.price, self.margin = (
            _extend_column(old.price, n, np.nan),
            _extend_column(old.margin, n, np.nan),
        )
        self.added_at = _extend_column(old.added_at, n, np.nan)
        self.in_stock = _extend_column(old.in_stock, n, UNKNOWN)
        deleted = _extend_column(
            np.zeros(0, bool) if old.deleted is None else old.deleted, n, False
        )
        for row in rows:
            change = self._changed[row]
            deleted[row] = change.deleted
            self.price[row] = self._value(row, "price", np.nan)
            self.margin[row] = self._value(row, "margin", np.nan)
            self.added_at[row] = self._value(row, "added_at", np.nan)
            self.in_stock[row] = self._value(row, "in_stock", UNKNOWN)
        self.deleted = deleted if deleted.any() else None

    def _value(self, row: int, name: str, missing: float) -> float:
        """What a column holds of a changed product."""
        fields, column = self._changed[row].card, getattr(self._records, name)
        if name not in fields:
            return float(column[row]) if row < len(column) else missing
        if fields[name] is None:
            return missing
        if name == "added_at":
            return datetime.fromisoformat(fields[name]).timestamp()
        return float(fields[name])

    def _move(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._moved[row] = list_facets(self.card(row))
        if rows:
            self._refaceted_rows = np.array(sorted(self._moved), np.int32)


def _extend_column(column: Any, n: int, missing: float) -> Any:
    """A copy with `n` values, `missing` where the column ends before."""
    longer = np.full(n, missing, column.dtype)
    longer[: len(column)] = column
    return longer
