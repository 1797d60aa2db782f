"""The gain by recommendations: sessions that may get them against sessions that may not."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from components.model.arrays import Float64Array

OUTCOMES = ("order_value", "orders")


class _Mean(NamedTuple):
    n: int
    mean: float
    variance: float
    """Of the mean."""


def estimate_holdout_lift(sessions: pa.Table, holdout: str, confidence: float = 0.95) -> pa.Table:
    """`sessions` are SESSIONS of one experiment, `holdout` is the name of its arm.

    One row for each other arm and each of `order_value` and `orders` per session: `arm`, `measure`,
    `mean`, `holdout_mean`, `difference`, `lower`, `upper`, `lift`, `lift_lower`, `lift_upper`
    (difference over the holdout's mean), `n_sessions`, `n_holdout`. By assignment: every session
    counts, whether it saw a list or not, thus the difference is caused by the arm. Raises
    ValueError for an arm that is not there or has one session.
    """
    arms = sessions["arm"].unique().to_pylist()
    if holdout not in arms or len(arms) < 2:
        raise ValueError(f"holdout: found arms {sorted(arms)}, expected {holdout!r} and another")
    rows = [
        {"arm": arm, "measure": outcome}
        | _compare(
            _summarise(sessions, arm, outcome), _summarise(sessions, holdout, outcome), confidence
        )
        for arm in sorted(arms)
        if arm != holdout
        for outcome in OUTCOMES
    ]
    return pa.Table.from_pylist(rows)


def _summarise(sessions: pa.Table, arm: str, outcome: str) -> _Mean:
    values: Float64Array = sessions[outcome].to_numpy()[sessions["arm"].to_numpy() == arm]
    if len(values) < 2:
        raise ValueError(f"arm {arm!r}: found {len(values)} sessions, expected at least 2")
    return _Mean(len(values), float(values.mean()), float(values.var(ddof=1)) / len(values))


def _compare(arm: _Mean, holdout: _Mean, confidence: float) -> dict[str, float | None]:
    """The ratio of the means has its variance by the delta method."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    difference = arm.mean - holdout.mean
    half = z * float(np.sqrt(arm.variance + holdout.variance))
    row: dict[str, float | None] = {
        "mean": arm.mean,
        "holdout_mean": holdout.mean,
        "difference": difference,
        "lower": difference - half,
        "upper": difference + half,
        "lift": None,
        "lift_lower": None,
        "lift_upper": None,
        "n_sessions": arm.n,
        "n_holdout": holdout.n,
    }
    if holdout.mean > 0:
        ratio = arm.mean / holdout.mean
        spread = np.sqrt(arm.variance + ratio**2 * holdout.variance) / holdout.mean
        lift, half = ratio - 1, z * float(spread)
        row |= {"lift": lift, "lift_lower": lift - half, "lift_upper": lift + half}
    return row
