"""What is written on products that changed, made searchable as they change.

Changed products are indexed anew, the few that changed together by themselves; like a
log-structured merge tree, small indexes are merged into larger ones now and then, so that neither
a change nor a search has to look at all that ever changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from components.model.arrays import BoolArray, Int32Array
from components.model.token_index import SearchableText, TokenIndex, index_texts

MERGE_FACTOR = 8
"""How many times as large as the next an index has to be to stay apart: 100,000 changed products
are in six at most."""


class SegmentReader(NamedTuple):
    """Some products, to be searched."""

    words: TokenIndex
    rows: Int32Array | None
    """Of the catalogue, ascending, by those of `words`; None: the same."""
    alive: BoolArray | None
    """Which may be found; None: all."""


@dataclass(frozen=True)
class Segment:
    """Products that changed about the same time."""

    written: dict[int, SearchableText]
    """By row of the catalogue, ascending."""
    rows: Int32Array
    index: TokenIndex
    latest: BoolArray
    """Which have not changed once more since."""

    @classmethod
    def of(cls, written: Mapping[int, SearchableText]) -> "Segment":
        """The index of these products."""
        rows = np.array(sorted(written), np.int32)
        in_order = {int(row): written[row] for row in rows.tolist()}
        return cls(in_order, rows, index_texts(in_order.values()), np.ones(len(rows), bool))

    def part(self, deleted: BoolArray | None) -> SegmentReader:
        """What can be searched of them."""
        alive = self.latest if deleted is None else self.latest & ~deleted[self.rows]
        return SegmentReader(self.index, self.rows, alive)

    def without(self, rows: Int32Array) -> "Segment":
        """The same, but these rows have changed since."""
        return replace(self, latest=self.latest & ~np.isin(self.rows, rows))

    @property
    def still(self) -> dict[int, SearchableText]:
        """Products that have not changed since."""
        rows: list[int] = self.rows[self.latest].tolist()
        return {row: self.written[row] for row in rows}


@dataclass(frozen=True)
class ChangedSegments:
    """All that is written otherwise than in the bundle; immutable."""

    indexed: tuple[Segment, ...] = ()
    """Largest first."""

    def changed(self, written: Mapping[int, SearchableText | None]) -> "ChangedSegments":
        """This with other texts of these rows; None: as the bundle has it."""
        came = {row: one for row, one in written.items() if one is not None}
        rows = np.array(list(written), np.int32)
        kept = [one.without(rows) for one in self.indexed]
        while kept and len(came) * MERGE_FACTOR >= np.count_nonzero(kept[-1].latest):
            came = kept.pop().still | came
        return ChangedSegments((*kept, *([Segment.of(came)] if came else [])))

    def parts(self, words: TokenIndex, deleted: BoolArray | None) -> list[SegmentReader]:
        """What can be searched: the bundle's `words`, and those that changed."""
        own = [one.part(deleted) for one in self.indexed]
        if deleted is None and not own:
            return [SegmentReader(words, None, None)]
        n = words.n_products
        alive = np.ones(n, bool) if deleted is None else ~deleted[:n]
        for one in self.indexed:
            # Of these the bundle's words say nothing any more. New products come behind its rows.
            rows = one.rows[one.latest]
            alive[rows[: np.searchsorted(rows, n)]] = False
        return [SegmentReader(words, None, alive), *own]


NO_SEGMENTS = ChangedSegments()
