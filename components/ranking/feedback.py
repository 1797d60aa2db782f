"""Feedback of shoppers as additional examples of the item re-ranker.

An examined candidate counts like a basket: both are one chance of it. What it earned is scaled to
the mean gain of the same candidates in baskets, so that being shown is no merit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.contracts import BASKETS, FEEDBACK, read_table
from components.model.arrays import BoolArray, Float64Array, Int32Array, Int64Array, IntpArray
from components.ranking.gains import Gains
from components.ranking.queries import LabelledQueries

US_A_DAY = 86_400_000_000


class FeedbackError(ValueError):
    """Feedback cannot be kept apart from the baskets that judge."""


@dataclass(frozen=True)
class Feedback:
    """Examples of item pages: rows of the asked and the recommended product, (n,) each."""

    asked: Int64Array
    companion: Int64Array
    examined: Float64Array
    positive: Float64Array
    is_independent: BoolArray
    """Outside the days of validation baskets, which are folds of the cross-validation."""
    n_left_out: int = 0
    """Examples of other places, of unknown products, or of the days of test baskets."""

    def __len__(self) -> int:
        return len(self.asked)

    def take(self, chosen: BoolArray) -> "Feedback":
        return Feedback(
            self.asked[chosen], self.companion[chosen], self.examined[chosen],
            self.positive[chosen], self.is_independent[chosen],
            self.n_left_out + int((~chosen).sum()),
        )  # fmt: skip

    def place(self, queries: LabelledQueries) -> "PlacedFeedback":
        independent = self.take(self.is_independent)
        return PlacedFeedback(
            place_feedback(independent, queries), place_feedback(self, queries), self.n_left_out
        )


@dataclass(frozen=True)
class FeedbackCells:
    """Candidates with feedback: (n,) each."""

    position: tuple[IntpArray, ...]  # Candidate list and place in it
    examined: Float64Array
    positive: Float64Array

    def __len__(self) -> int:
        return len(self.examined)

    def label(self, gains: Gains) -> Float64Array:
        """Their outcomes, in the unit and with the mean of the gains of these candidates."""
        earned = np.minimum(self.positive / self.examined, 1)
        weight, total = gains.weight[self.position[0]], gains.total[self.position]
        expected = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
        scale = float(self.examined @ expected) / max(float(self.examined @ earned), 1e-12)
        labels: Float64Array = np.minimum(scale * earned, 1)
        return labels


class PlacedFeedback(NamedTuple):
    independent: FeedbackCells
    """For the cross-validation."""
    all: FeedbackCells
    n_left_out: int

    def describe(self) -> dict[str, float]:
        return {
            "candidates": len(self.all),
            "examined": float(self.all.examined.sum()),
            "independent_examined": float(self.independent.examined.sum()),
            "examples_left_out": self.n_left_out,
        }


def read_feedback(path: str | Path, baskets: str | Path, product_ids: Sequence[str]) -> Feedback:
    """Examples with one known asked product, none of them from the days of test baskets.

    Raises FeedbackError where baskets have no times, ContractError for another table.
    """
    table = read_table(path, FEEDBACK, ["day", "asked", "product_id", "examined", "positive"])
    first = find_first_days(baskets)
    n_all = len(table)
    table = table.filter(pc.equal(pc.list_value_length(table["asked"]), 1))
    days = table["day"].cast(pa.int32()).to_numpy()
    catalogue = pa.array(product_ids, pa.string())
    asked = _find_rows(pc.list_flatten(table["asked"]), catalogue)
    companion = _find_rows(table["product_id"], catalogue)
    examined = table["examined"].to_numpy()
    is_tested = (days >= first["test"]) & (days <= first["end"])
    kept = (asked >= 0) & (companion >= 0) & (examined > 0) & ~is_tested
    found = Feedback(
        asked, companion, examined, table["positive"].to_numpy(),
        (days < first["validation"]) | (days > first["end"]), n_all - len(table),
    )  # fmt: skip
    return found.take(kept)


def find_first_days(baskets: str | Path) -> dict[str, int]:
    """Of `validation` and `test` baskets, and the last day of all, `end`, since 1970."""
    table = read_table(baskets, BASKETS, ["ts", "split"])
    if table["ts"].null_count:
        raise FeedbackError(
            f"feedback: {table['ts'].null_count} baskets of {baskets} have no time, expected all, "
            "to leave out what test baskets' shoppers did; train without feedback"
        )
    days = table["ts"].cast(pa.int64()).to_numpy() // US_A_DAY
    split = table["split"].to_numpy(zero_copy_only=False)
    last = int(days.max(initial=0))
    found = {
        name: int(days[split == name].min(initial=last + 1)) for name in ("validation", "test")
    }
    return {**found, "end": last}


def _find_rows(ids: pa.ChunkedArray, catalogue: pa.Array) -> Int64Array:
    """-1 for unknown ids."""
    found: Int64Array = pc.fill_null(pc.index_in(ids, catalogue), -1).to_numpy().astype(np.int64)
    return found


def place_feedback(feedback: Feedback, queries: LabelledQueries) -> FeedbackCells:
    """Sums for every candidate of item queries; feedback on other pairs is left out."""
    assert queries.products is not None
    lists = _find_lists(feedback.asked, queries.products)
    known = lists >= 0
    lists, companion = lists[known], feedback.companion[known]
    n_items = 1 + int(max(one.max(initial=0) for one in (companion, queries.rows)))
    wanted, index = np.unique(lists * n_items + companion, return_inverse=True)
    examined, positive = (
        np.bincount(index, one[known], len(wanted)).astype(np.float64)
        for one in (feedback.examined, feedback.positive)
    )
    place = _find_places(*np.divmod(wanted, n_items), queries)
    shown = place >= 0
    return FeedbackCells((wanted[shown] // n_items, place[shown]), examined[shown], positive[shown])


def _find_lists(asked: Int64Array, products: Int32Array) -> Int64Array:
    """The candidate list of each asked product, -1 where there is none; `products` ascend."""
    if not len(products):
        return np.full(len(asked), -1)
    place = np.minimum(np.searchsorted(products, asked), len(products) - 1)
    lists: Int64Array = np.where(products[place] == asked, place, -1)
    return lists


def _find_places(lists: Int64Array, rows: Int64Array, queries: LabelledQueries) -> Int64Array:
    """The place of each row in its candidate list, -1 where it is no candidate."""
    is_it = queries.rows[lists] == rows[:, None]
    places: Int64Array = np.where(is_it.any(axis=1), is_it.argmax(axis=1), -1)
    return places
