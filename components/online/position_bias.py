"""How much of a click is due to the position: from random swaps of neighbours.

A click needs that the shopper examines the position and likes the product, both independent. A
swap of the products at k and k + 1 with probability ½ shows the same products at both, thus the
clicks at k + 1 over those at k are the ratio of their propensities to be examined; ratios of
neighbours make a chain. Joachims, Swaminathan, Schnabel, "Unbiased learning-to-rank with biased
feedback", WSDM 2017, section 5.3; pairs of neighbours: Wang et al., "Position bias estimation for
unbiased learning to rank in personal search", WSDM 2018.
"""

from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from components.model.arrays import Float64Array, Int64Array
from components.online.events import OnlineEvents
from components.online.intervals import compute_intervals
from components.online.measures import (
    Dimension,
    Ratio,
    fetch_moments,
    make_groups,
    read_moments,
    sum_rows,
)

SWAPS_SQL = """
select
    drawn_pair as pair, served.session_no, coalesce(swapped = drawn_pair, false) as is_swapped,
    sum(lists.weight) as lists, count(*) as n_lists,
    coalesce(sum(lists.weight * upper.clicks), 0)::double as upper,
    coalesce(sum(lists.weight * lower.clicks), 0)::double as lower
from lists
join served using (list_id)
{join} join impressions as upper on upper.list_id = lists.list_id and upper.position = drawn_pair
{join} join impressions as lower
    on lower.list_id = lists.list_id and lower.position = drawn_pair + 1
where swap_drawn and drawn_pair is not null
group by all
order by pair
"""


class _Swaps(NamedTuple):
    """A pair's lists by session: lists, clicks at the upper and at the lower position; (n,)."""

    session: Int64Array
    lists: Float64Array
    upper: Float64Array
    lower: Float64Array


def estimate_position_bias(
    online: OnlineEvents,
    among: Literal["seen", "lists"] = "seen",
    confidence: float = 0.95,
) -> pa.Table:
    """`position`, `propensity` (of examination, 1 at position 0), `lower`, `upper`, `n_swapped`,
    `n_unswapped` (lists of the pair with the position above).

    `seen`: among lists of which both positions of a pair were in the viewport, thus right for
    measures per impression; `lists`: among all, seen or not. The bounds are symmetric for the
    logarithm, clustered by session. Positions end where the swaps give no clicks.
    """
    sql = SWAPS_SQL.format(join="" if among == "seen" else "left")
    found = online.db.sql(sql).to_arrow_table()
    rows: list[dict[str, Any]] = [
        {"position": 0, "propensity": 1.0, "lower": 1.0, "upper": 1.0,
         "n_swapped": 0, "n_unswapped": 0}
    ]  # fmt: skip
    for pair, (log, error) in enumerate(_chain(found)):
        half = NormalDist().inv_cdf(0.5 + confidence / 2) * error
        bounds = np.exp([log, log - half, log + half])
        rows.append(
            {"position": pair + 1}
            | dict(zip(("propensity", "lower", "upper"), map(float, bounds), strict=True))
            | {"n_swapped": _count(found, pair, True), "n_unswapped": _count(found, pair, False)}
        )
    schema = [("position", pa.int32()), *((name, pa.float64()) for name in tuple(rows[0])[1:4])]
    counts = [("n_swapped", pa.int64()), ("n_unswapped", pa.int64())]
    return pa.Table.from_pylist(rows, schema=pa.schema([*schema, *counts]))


def _chain(found: pa.Table) -> Iterator[tuple[float, float]]:
    """Logarithm of each position's propensity, from 1, and its standard error."""
    n_sessions = int(np.max(found["session_no"].to_numpy(), initial=0)) + 1
    log, influence = 0.0, np.zeros(n_sessions)
    for pair in range(int(np.max(found["pair"].to_numpy(), initial=-1)) + 1):
        arms = [_read_swaps(found, pair, is_swapped) for is_swapped in (False, True)]
        clicks = [_average_clicks(arms, name) for name in ("upper", "lower")]
        if not all(clicks):
            return
        log += float(np.log(clicks[1] / clicks[0]))
        for arm in arms:
            np.add.at(influence, arm.session, _compute_influence(arm, *clicks))
        yield log, float(np.sqrt(np.sum(influence**2)))


def _average_clicks(arms: Sequence[_Swaps], place: Literal["upper", "lower"]) -> float:
    """Per list, with the same weight for swapped and unswapped lists; 0 where a kind is absent."""
    if any(not arm.lists.sum() for arm in arms):
        return 0.0
    return float(sum(getattr(arm, place).sum() / arm.lists.sum() for arm in arms))


def _compute_influence(arm: _Swaps, upper: float, lower: float) -> Float64Array:
    """(n,): how far a session moves the logarithm of the ratio, to first order."""
    total = arm.lists.sum()
    of_lower = arm.lower - arm.lists * arm.lower.sum() / total
    of_upper = arm.upper - arm.lists * arm.upper.sum() / total
    return np.asarray((of_lower / lower - of_upper / upper) / total)


def _read_swaps(found: pa.Table, pair: int, is_swapped: bool) -> _Swaps:
    rows = _select(found, pair, is_swapped)
    names = ("session_no", "lists", "upper", "lower")
    return _Swaps(*(found[name].to_numpy()[rows] for name in names))


def _count(found: pa.Table, pair: int, is_swapped: bool) -> int:
    return int(found["n_lists"].to_numpy()[_select(found, pair, is_swapped)].sum())


def _select(found: pa.Table, pair: int, is_swapped: bool) -> Any:
    return (found["pair"].to_numpy() == pair) & (found["is_swapped"].to_numpy() == is_swapped)


def correct_click_through(
    online: OnlineEvents,
    propensities: pa.Table,
    by: Sequence[Dimension] = ("product_id",),
    confidence: float = 0.95,
) -> pa.Table:
    """Click-through as if every product stood at position 0: columns of `by`, `value`, `lower`,
    `upper`, `raw` (uncorrected), `impressions`, `n_sessions`.

    A click counts 1 / propensity of its position (inverse propensity). The bounds take
    `propensities` as known. Impressions at positions without a propensity are left out.
    """
    make_groups(online, by)
    online.db.register("propensities", propensities.select(["position", "propensity"]))
    sums = sum_rows(
        "impressions join propensities using (position)",
        by,
        {
            "impressions": "sum(weight)",
            "raw": "sum(weight * clicks)",
            "corrected": "sum(weight * clicks / propensity)",
        },
    )
    ratios = [Ratio("click_through", name, "impressions") for name in ("corrected", "raw")]
    found = fetch_moments(online, by, sums, ratios)
    table = found.select(list(by))
    corrected = compute_intervals(read_moments(found, "corrected"), confidence)
    raw = compute_intervals(read_moments(found, "raw"), confidence).value
    for name, values in (corrected._asdict() | {"raw": raw}).items():
        table = table.append_column(name, pa.array(values, pa.float64(), from_pandas=True))
    table = table.append_column("impressions", found["d"])
    table = table.append_column("n_sessions", found["n_sessions"].cast(pa.int64()))
    return table.sort_by([(name, "ascending") for name in by]) if by else table
