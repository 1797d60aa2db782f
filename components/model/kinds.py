"""Different kinds among the first products shown.

A kind is a category or a cluster of products, see `components.bundle.kinds`.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import cached_property

from components.model.arrays import Int32Array
from components.model.kind_limits import N_VISIBLE, KindLimits
from components.model.ragged import ArrayGroup
from components.model.top_k import RankedRows

LIMITED_DEPTH = 100
"""Products of a ranking among which those that fit are looked for."""


@dataclass(frozen=True)
class Kinds(ArrayGroup, prefix="kinds"):
    """`codes` (n_products,) are numbers of kinds, from 0."""

    codes: Int32Array

    def get(self, row: int) -> int:
        """Products that were added after the bundle was built are kinds of their own."""
        view = self._view
        return view[row] if row < len(view) else -1 - row

    def find_first(
        self,
        rows: Iterable[int],
        own_kinds: Iterable[int],
        limits: KindLimits,
        exempt: Container[int] = (),
    ) -> list[int]:
        """Places of the best of `rows` that fit, up to N_VISIBLE; `exempt` ones always do."""
        view = self._view
        n_known, counts = len(view), dict[int, int]()
        most_same = N_VISIBLE if limits.max_same_kind is None else limits.max_same_kind
        if limits.max_own_kind is not None and limits.max_own_kind < most_same:
            counts = dict.fromkeys(own_kinds, most_same - limits.max_own_kind)
        first: list[int] = []
        for place, row in enumerate(rows):
            if row not in exempt:
                kind = view[row] if row < n_known else -1 - row
                n = counts.get(kind, 0)
                if n >= most_same:
                    continue
                counts[kind] = n + 1
            first.append(place)
            if len(first) == N_VISIBLE:
                break
        return first

    def limit(
        self, ranked: RankedRows, queries: Iterable[Int32Array], limits: KindLimits, k: int
    ) -> RankedRows:
        """The first `k` of `ranked` (n_queries, depth) once limited."""
        rows, scores = ranked[0][:, :k].copy(), ranked[1][:, :k].copy()
        for i, (found, query) in enumerate(zip(ranked[0], queries, strict=True)):
            own_kinds = [self.get(row) for row in query.tolist()]
            shown = found[found >= 0].tolist()
            first = self.find_first(shown, own_kinds, limits)
            order = append_others(first, min(len(shown), k))[:k]
            rows[i, : len(order)], scores[i, : len(order)] = found[order], ranked[1][i, order]
        return rows, scores

    # Reading a number from a memoryview costs a fifth of reading it from an array.

    @cached_property
    def _view(self) -> memoryview:
        return memoryview(self.codes)  # type: ignore[arg-type]


def append_others(first: list[int], n: int) -> list[int]:
    """Then the other places below `n`, in their order: what does not fit fills up."""
    return first + [place for place in range(n) if place not in first]
