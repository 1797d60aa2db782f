"""The evidence for two products, whether or not they are companions."""

from dataclasses import dataclass

import numpy as np

from components.model.bundle import Bundle


@dataclass(frozen=True)
class Evidence:
    """Baskets that have both. None is unknown: a bundle counts the strongest pairs of a product
    only, and those of before no chance."""

    row: int
    other: int
    together: int | None
    expected: float | None

    @property
    def times_more_often(self) -> float | None:
        if self.together is None or self.expected is None:
            return None
        return self.together / max(self.expected, 1e-12)


def find_evidence(bundle: Bundle, row: int, other: int) -> Evidence:
    """In baskets with `row`; both have vectors."""
    together = _count_together(bundle, row, other)
    if together is None:
        together = _count_together(bundle, other, row)
    expected = None
    if bundle.chance is not None:
        expected = float(bundle.chance.count_expected(np.array(row), np.array(other)))
    return Evidence(row, other, together, expected)


def _count_together(bundle: Bundle, row: int, other: int) -> int | None:
    entries = bundle.pairs.entries(row)
    (places,) = np.nonzero(bundle.pairs.rows[entries] == other)
    return int(bundle.pairs.support[entries][places[0]]) if len(places) else None
