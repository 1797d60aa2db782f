"""Categories of the products on the map: which are large, and where they lie."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from components.model.arrays import Float64Array, UInt16Array
from components.model.product_records import ProductRecords

MAX_CATEGORIES = 65_535
N_CELLS = 24
"""To a side: category centres are where most of a category's products lie. A mean of a category
in two parts would be where none of them does."""


@dataclass(frozen=True)
class Categories:
    """`names` come by size, largest first; code i + 1 is that of names[i], 0 of no category."""

    names: list[str]
    counts: list[int]
    codes: UInt16Array

    def list_rows(self, name: str) -> list[int]:
        """Most bought first."""
        code = self.names.index(name) + 1 if name in self.names else -1
        rows: list[int] = np.flatnonzero(self.codes == code).tolist()
        return rows


def read_categories(records: ProductRecords, n: int) -> Categories:
    """Of the first n products."""
    found = [records.card(row).get("category") or "" for row in range(n)]
    ranked = Counter(name for name in found if name).most_common(MAX_CATEGORIES)
    code_of = {name: code for code, (name, _) in enumerate(ranked, 1)}
    codes = np.array([code_of.get(name, 0) for name in found], np.uint16)
    return Categories([name for name, _ in ranked], [count for _, count in ranked], codes)


def find_centres(positions: UInt16Array, categories: Categories) -> Float64Array:
    """(n_categories, 2): the mean of a category's products in its fullest cell."""
    x, y = (positions.astype(np.int64) * N_CELLS // (2**16)).T
    cells = (categories.codes.astype(np.int64) * N_CELLS + x) * N_CELLS + y
    unique, place, counts = np.unique(cells, return_inverse=True, return_counts=True)
    sums = np.zeros((len(unique), 2))
    np.add.at(sums, place, positions)
    owners = unique // N_CELLS**2
    order = np.lexsort((counts, owners))
    # The last cell of each category in this order is its fullest.
    last = order[np.flatnonzero(np.diff(owners[order], append=-1))]
    centres: Float64Array = sums[last] / counts[last, None]
    return centres[owners[last] > 0]
