"""What settings do to a sample of pages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bento.answering.selection import Selection
from bento.workbench.tuning.settings import Tuning
from components.evaluation.visible_quality import measure_visible
from components.model.arrays import Float64Array, Int64Array
from components.model.bundle import Bundle
from components.model.kind_limits import N_VISIBLE

K = 10
N_PAGES = 300
SEED = 1


@dataclass(frozen=True)
class Effect:
    """Means over pages; shares but for `times_more_often` and `n_kinds`."""

    n_pages: int
    bestsellers: float
    own_kind: float
    n_kinds: float
    times_more_often: float
    """Geometric mean over the first five, of those bought together at all: one pair that was
    expected a thousandth of a time would make any other mean."""
    together: float
    """Of the first five, those bought together at all."""
    short: float
    """Pages with fewer than five."""


def draw_pages(bundle: Bundle, n: int = N_PAGES) -> Int64Array:
    """Rows of products, as often bought ones as likely as shoppers see them; the same each time."""
    weights = bundle.n_orders / max(bundle.n_orders.sum(), 1)
    n = min(n, int((weights > 0).sum()))
    rng = np.random.default_rng(SEED)
    # Efraimidis and Spirakis (2006): the largest of these keys are a weighted sample.
    keys = np.log(rng.random(len(weights))) / np.maximum(weights, 1e-300)
    rows: Int64Array = np.sort(np.argpartition(-keys, n - 1)[:n]) if n else np.empty(0, np.int64)
    return rows


def answer_pages(selection: Selection, rows: Int64Array, tuning: Tuning) -> Int64Array:
    """Rows (n, K) of the answers, -1 for none."""
    found = np.full((len(rows), K), -1, np.int64)
    for own, row in zip(found, rows.tolist(), strict=True):
        answer = selection.recommend(tuning.ask([selection.catalogue.product_id(row)], K))
        shown = [item.row for item in answer.shown]
        own[: len(shown)] = shown
    return found


def measure_effect(bundle: Bundle, asked: Int64Array, found: Int64Array) -> Effect:
    kinds = None if bundle.kinds is None else bundle.kinds.codes
    # Products that were added since the bundle was built are none of its kinds.
    known = np.where(found < len(kinds), found, -1) if kinds is not None else found
    seen = measure_visible(known, list(asked[:, None].astype(np.int32)), kinds)
    first = found[:, :N_VISIBLE]
    ratios = [compare_with_chance(bundle, *one) for one in zip(asked.tolist(), first, strict=True)]
    together = np.concatenate([np.empty(0), *ratios])
    n_shown = max(int((first >= 0).sum()), 1)
    return Effect(
        n_pages=len(asked),
        bestsellers=_mean(seen["bestsellers_at_5"]),
        own_kind=_mean(seen["own_kind_at_5"]),
        n_kinds=_mean(seen["kinds_at_5"]),
        times_more_often=float(np.exp(_mean(np.log(together)))),
        together=len(together) / n_shown,
        short=_mean(((first >= 0).sum(axis=1) < N_VISIBLE).astype(float)),
    )


def measure_kept(present: Int64Array, found: Int64Array) -> float:
    """Mean share of the present products that stay among the first K."""
    common = (present[:, :, None] == found[:, None, :]).any(axis=2) & (present >= 0)
    n_present = (present >= 0).sum(axis=1)
    return _mean(common.sum(axis=1)[n_present > 0] / n_present[n_present > 0])


def compare_with_chance(bundle: Bundle, product: int, rows: Sequence[int]) -> Float64Array:
    """Times more often together than by chance, of those of `rows` that are bought together."""
    if bundle.chance is None:
        return np.empty(0)
    pairs = bundle.pairs.entries(product)
    companions, support = bundle.pairs.rows[pairs], bundle.pairs.support[pairs]
    place = np.flatnonzero(np.isin(companions, rows) & (support > 0))
    if not len(place):
        return np.empty(0)
    own = np.full(len(place), product)
    expected = bundle.chance.count_expected(own, companions[place])
    ratio: Float64Array = support[place] / np.maximum(expected.astype(np.float64), 1e-12)
    return ratio


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if len(values) else float("nan")
