"""Search index of changed products: a log-structured merge tree.

Products that change together make a segment, and small segments are merged into larger ones, so
that neither a change nor a search reads all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from components.model.arrays import BoolArray, Int32Array
from components.model.token_index import SearchableText, TokenIndex, index_texts

MERGE_FACTOR = 8
"""A segment stays apart while it is this many times larger than the next: at most six segments for
100,000 changed products."""


@dataclass(frozen=True)
class SegmentReader:
    index: TokenIndex
    rows: Int32Array | None
    """By row of `index`, the catalogue row, ascending; None if they are the same."""
    live: BoolArray | None
    """By row of `index`; None for all."""

    def keep_live(self, rows: Int32Array) -> Int32Array:
        return rows if self.live is None else rows[self.live[rows]]

    def to_catalogue_rows(self, rows: Int32Array) -> list[int]:
        own: list[int] = (rows if self.rows is None else self.rows[rows]).tolist()
        return own


@dataclass(frozen=True)
class Segment:
    """Products that changed about the same time, by catalogue row, ascending."""

    texts: dict[int, SearchableText]
    rows: Int32Array
    index: TokenIndex
    latest: BoolArray
    """Which have not changed again since."""

    @classmethod
    def build(cls, texts: Mapping[int, SearchableText]) -> "Segment":
        ordered = dict(sorted(texts.items()))
        index = index_texts(ordered.values())
        return cls(ordered, np.array([*ordered], np.int32), index, np.ones(len(ordered), bool))

    def to_reader(self, deleted: BoolArray | None) -> SegmentReader:
        live = self.latest if deleted is None else self.latest & ~deleted[self.rows]
        return SegmentReader(self.index, self.rows, live)

    def without(self, rows: Int32Array) -> "Segment":
        return replace(self, latest=self.latest & ~np.isin(self.rows, rows))

    def list_latest(self) -> dict[int, SearchableText]:
        return {row: self.texts[row] for row in self.rows[self.latest].tolist()}


@dataclass(frozen=True)
class ChangedSegments:
    """The segments of all changed products, largest first; immutable."""

    segments: tuple[Segment, ...] = ()

    def with_texts(self, texts: Mapping[int, SearchableText | None]) -> "ChangedSegments":
        """None restores the bundle's texts."""
        new = {row: text for row, text in texts.items() if text is not None}
        rows = np.array([*texts], np.int32)
        kept = [segment.without(rows) for segment in self.segments]
        while kept and len(new) * MERGE_FACTOR >= np.count_nonzero(kept[-1].latest):
            new = kept.pop().list_latest() | new
        return ChangedSegments((*kept, *([Segment.build(new)] if new else [])))

    def list_readers(self, index: TokenIndex, deleted: BoolArray | None) -> list[SegmentReader]:
        readers = [segment.to_reader(deleted) for segment in self.segments]
        if deleted is None and not readers:
            return [SegmentReader(index, None, None)]
        n = index.n_products
        live = np.ones(n, bool) if deleted is None else ~deleted[:n]
        for segment in self.segments:
            # Their texts in the bundle's index are out of date. New products have no row there.
            rows = segment.rows[segment.latest]
            live[rows[: np.searchsorted(rows, n)]] = False
        return [SegmentReader(index, None, live), *readers]


NO_SEGMENTS = ChangedSegments()
