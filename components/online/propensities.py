"""Propensities that are sure enough to correct clicks by."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_UNSURE = 2
"""The upper bound of a place's propensity is at most so many times the lower one."""


def drop_unsure(propensities: pa.Table) -> pa.Table:
    """Of the table that `estimate_position_bias` makes."""
    most = pc.multiply(propensities["lower"], MAX_UNSURE)
    return propensities.filter(pc.less_equal(propensities["upper"], most))


def estimate_needed_lists(propensities: pa.Table) -> dict[int, float]:
    """Roughly, by position after the first: how many lists with a drawn swap make it sure, from
    its width so far, as the width of a logarithm falls with the root of the number."""
    rows = propensities.to_pylist()
    n = sum(row["n_swapped"] + row["n_unswapped"] for row in rows)
    return {
        row["position"]: n * float(np.log(row["upper"] / row["lower"]) / np.log(MAX_UNSURE)) ** 2
        for row in rows
        if row["position"] and row["lower"] > 0
    }
