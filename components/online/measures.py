"""Measures of recommendations by version, arm, place, position, …, with intervals.

A list counts 1 / share of the log. A list that was not logged has no known version: its rows count
nowhere. Thus rates of impressions are right whatever the share; orders may have been preceded by
lists that are not in the log, thus `attach_rate` is too low unless all are logged.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa

from components.model.arrays import Float64Array
from components.online.events import OnlineEvents
from components.online.intervals import Moments, bound_unseen, compute_intervals

ListDimension = Literal["model_version", "arm", "experiment", "context", "endpoint", "day"]
ItemDimension = Literal["position", "source", "team", "category", "product_id"]
Dimension = ListDimension | ItemDimension
LIST_DIMENSIONS: tuple[str, ...] = get_args(ListDimension)
ITEM_DIMENSIONS: tuple[str, ...] = get_args(ItemDimension)

MeasureName = Literal[
    "click_through", "add_rate", "purchase_rate", "revenue_per_1000", "fallback_share",
    "attach_rate", "average_order_value", "coverage",
]  # fmt: skip
MEASURE_NAMES: tuple[str, ...] = get_args(MeasureName)

COLUMNS = {"product_id": "product_key", "category": "coalesce(category_id, 0)"}
"""SQL of an impression's number for a dimension, where that is no column."""

NAMES = {
    "product_id": "(select name from product_names where product_key = found.product_id)",
    "source": "(select label from labels where label_id = found.source)",
    "team": "(select label from labels where label_id = found.team)",
    "category": "(select any_value(category) from categories where category_id = found.category)",
    "position": "position::integer",
}
"""SQL of a dimension's values, where they are no columns of `places`."""


class Ratio(NamedTuple):
    measure: MeasureName
    numerator: str
    denominator: str
    factor: float = 1
    ceiling: float = np.inf
    is_count: bool = True
    """A bound is known where nothing was counted."""


OF_IMPRESSIONS = (
    Ratio("click_through", "clicks", "impressions", ceiling=1),
    Ratio("add_rate", "adds", "impressions"),
    Ratio("purchase_rate", "purchases", "impressions"),
    Ratio("revenue_per_1000", "revenue", "impressions", factor=1000, is_count=False),
    Ratio("fallback_share", "fallbacks", "impressions", ceiling=1),
)
OF_ORDERS = (
    Ratio("attach_rate", "attached", "orders", ceiling=1),
    Ratio("average_order_value", "value", "orders", is_count=False),
)


def measure(
    online: OnlineEvents, by: Sequence[Dimension] = (), confidence: float = 0.95
) -> pa.Table:
    """One row for each group and measure: the columns of `by`, then `measure`, `value`, `lower`,
    `upper`, `numerator`, `denominator`, `n_sessions` (those with a part in the denominator).

    `attach_rate` and `average_order_value` are of sessions, thus absent by position, source, team
    and category; an order counts for every group of which the session was given a list before
    that it saw, by day for that of the order: sessions that were shown nothing, as those of an
    empty holdout, count in no group and not in the total. `coverage` is counted, not estimated: it
    has no bounds and no sessions; its denominator is the catalogue, null (as is the value) without
    a product table. Bounds are null below two sessions. A group without impressions, or without
    orders, lacks their measures.
    Raises ValueError for other dimensions.
    """
    make_groups(online, by)
    tables = [_measure_ratios(online, by, sum_impressions(by), OF_IMPRESSIONS, confidence)]
    if not set(by) & set(ITEM_DIMENSIONS):
        tables.append(_measure_ratios(online, by, sum_orders(by), OF_ORDERS, confidence))
    tables.append(_measure_coverage(online, by))
    table = pa.concat_tables(tables)
    return table.sort_by([(name, "ascending") for name in by]) if by else table


def make_groups(online: OnlineEvents, by: Sequence[str]) -> None:
    """Table `grouped`: a number for each place, the same where `by` is the same. Raises ValueError
    for other dimensions."""
    for name in by:
        if name not in LIST_DIMENSIONS + ITEM_DIMENSIONS:
            known = ", ".join(LIST_DIMENSIONS + ITEM_DIMENSIONS)
            raise ValueError(f"by: found {name!r}, expected some of {known}")
    columns = [name for name in by if name in LIST_DIMENSIONS]
    order = f"order by {', '.join(columns)}" if columns else "order by 1"
    online.db.execute(
        "create or replace temp table grouped as "
        f"select *, dense_rank() over ({order})::integer as group_id from places"
    )
    if "product_id" in by:
        online.db.execute(
            "create temp table if not exists product_names as "
            "select make_key(name) as product_key, name "
            "from (select distinct unnest(items) as name from recommendation_files)"
        )


def sum_impressions(by: Sequence[str]) -> str:
    """SQL of `group_id`, dimensions of items, `session_no` and the sums."""
    items = _of_items(by)
    rows = "seen" if items else "seen_lists"
    shown = (
        ["sum(weight)", "sum(weight * is_fallback::integer)"]
        if items
        else ["sum(weight * impressions)", "sum(weight * fallbacks)"]
    )
    names = ("clicks", "adds", "purchases", "revenue")
    return (
        f"select shown.*, {', '.join(f'coalesce({name}, 0) as {name}' for name in names)} from ("
        f"{sum_rows(rows, by, {'impressions': shown[0], 'fallbacks': shown[1]})}) as shown "
        f"left join ({sum_rows('earned', by, {name: f'sum(weight * {name})' for name in names})}) "
        f"as gained using (group_id, {_join(items)} session_no)"
    )


def sum_rows(rows: str, by: Sequence[str], sums: Mapping[str, str]) -> str:
    """SQL of `group_id`, dimensions of items, `session_no` and `sums`."""
    listed = ", ".join(f"{sql} as {name}" for name, sql in sums.items())
    return f"select group_id, {select_items(by)} session_no, {listed} {join_groups(rows, by)}"


def select_items(by: Sequence[str]) -> str:
    return _join([f"{COLUMNS.get(name, name)} as {name}" for name in _of_items(by)])


def join_groups(rows: str, by: Sequence[str]) -> str:
    categories = "left join categories using (product_key)" if "category" in by else ""
    return f"from {rows} join grouped using (place_id) {categories} group by all"


ORDERS_SQL = """
with firsts as (
    select group_id, {day_column} session_no, min(ts) as first_ts
    from seen_lists
    join (select list_id, ts from served) using (list_id)
    join grouped using (place_id)
    group by all
),
attached_groups as (
    select distinct group_id, order_key
    from attached join served using (list_id) join grouped using (place_id)
)
select
    group_id, session_no, count(*) as orders, sum(value) as value,
    count(attached_groups.order_key) as attached
from firsts
join orders using (session_no)
left join attached_groups using (group_id, order_key)
where orders.ts >= first_ts {same_day}
group by all
"""


def sum_orders(by: Sequence[str]) -> str:
    """SQL as that of `sum_impressions`."""
    if "day" not in by:
        return ORDERS_SQL.format(day_column="", same_day="")
    return ORDERS_SQL.format(day_column="day,", same_day="and orders.day = firsts.day")


def _measure_ratios(
    online: OnlineEvents, by: Sequence[str], sums: str, ratios: Sequence[Ratio], confidence: float
) -> pa.Table:
    found = fetch_moments(online, by, sums, ratios)
    tables = []
    for ratio in ratios:
        moments = read_moments(found, ratio.numerator)
        value, lower, upper = compute_intervals(moments, confidence)
        lower = np.where(moments.n == 0, 0, lower)
        unseen = bound_unseen(moments, confidence) if ratio.is_count else np.nan
        upper = np.minimum(np.where(moments.n == 0, unseen, upper), ratio.ceiling)
        numbers = {
            "value": value * ratio.factor,
            "lower": lower * ratio.factor,
            "upper": upper * ratio.factor,
            "numerator": moments.n,
            "denominator": moments.d,
        }
        groups = found.select(list(by))
        tables.append(_to_table(groups, ratio.measure, numbers, found["n_sessions"]))
    return pa.concat_tables(tables)


def fetch_moments(
    online: OnlineEvents, by: Sequence[str], sums: str, ratios: Sequence[Ratio]
) -> pa.Table:
    """The columns of `by`, `n_sessions` and the sums that `read_moments` takes."""
    d = ratios[0].denominator
    powers = {"n_sessions": "count(*)", "d": f"sum({d})", "dd": f"sum({d} * {d})"}
    for n in (ratio.numerator for ratio in ratios):
        powers |= {n: f"sum({n})", f"{n}_n": f"sum({n} * {n})", f"{n}_d": f"sum({n} * {d})"}
    sql = ", ".join(f"{power}::double as {name}" for name, power in powers.items())
    grouped = (
        f"select group_id, {_join(_of_items(by))} {sql} from ({sums}) where {d} > 0 group by all"
    )
    return _name_groups(online, by, grouped, list(powers))


def _of_items(by: Sequence[str]) -> list[str]:
    return [name for name in by if name in ITEM_DIMENSIONS]


def _name_groups(
    online: OnlineEvents, by: Sequence[str], grouped: str, columns: Sequence[str]
) -> pa.Table:
    """The values of `by` in place of their numbers."""
    names = [f"{NAMES.get(name, f'named.{name}')} as {name}" for name in by]
    return online.db.sql(
        f"select {_join(names)} {', '.join(columns)} from ({grouped}) as found "
        "join (select distinct on (group_id) * from grouped) as named using (group_id)"
    ).to_arrow_table()


def read_moments(found: pa.Table, n: str) -> Moments:
    names = ("n_sessions", n, "d", f"{n}_n", f"{n}_d", "dd")
    return Moments(*(found[name].to_numpy() for name in names))


def _measure_coverage(online: OnlineEvents, by: Sequence[str]) -> pa.Table:
    grouped = (
        f"select group_id, {select_items(by)} count(distinct product_key)::double as shown "
        + join_groups("seen", by)
    )
    found = _name_groups(online, by, grouped, ["shown"])
    shown = found["shown"].to_numpy()
    catalogue = _count_catalogue(online, found, by)
    unknown = np.full(len(shown), np.nan)
    numbers = {
        "value": shown / catalogue,
        "lower": unknown,
        "upper": unknown,
        "numerator": shown,
        "denominator": catalogue,
    }
    return _to_table(found.select(list(by)), "coverage", numbers, pa.nulls(len(shown)))


def _count_catalogue(online: OnlineEvents, found: pa.Table, by: Sequence[str]) -> Float64Array:
    """(n_groups,): products of the catalogue, or of the group's category; nan where unknown."""
    counts = dict(
        online.db.execute("select category, count(*) from categories group by all").fetchall()
    )
    if not counts:
        return np.full(len(found), np.nan)
    if "category" not in by:
        return np.full(len(found), float(sum(counts.values())))
    return np.array([counts.get(one, np.nan) for one in found["category"].to_pylist()], float)


def _to_table(
    groups: pa.Table, measure: str, numbers: dict[str, Float64Array], n_sessions: pa.Array
) -> pa.Table:
    """Unknown numbers become nulls."""
    table = groups.append_column("measure", pa.array([measure] * len(n_sessions), pa.string()))
    for name, values in numbers.items():
        table = table.append_column(name, pa.array(values, pa.float64(), from_pandas=True))
    return table.append_column("n_sessions", n_sessions.cast(pa.int64()))


def _join(names: Sequence[str]) -> str:
    return "".join(f"{name}, " for name in names)
