"""Numbers that describe a table, for Great Expectations to check.

Row-level expectations would first copy the whole table into pandas, at several times the cost of
building the baskets.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from components.contracts import BASKETS, ORDER_LINES, PRODUCTS, SPLITS, read_table
from components.model.arrays import AnyArray, BoolArray, Float64Array, Int64Array
from data_checks.clock import to_local_time
from data_checks.encoding import Codes, encode, load, open_as_codes, to_bool_array
from data_checks.quarantine import NO_SALES, UNREADABLE, count_lines, read_reasons
from data_checks.settings import CheckSettings

Numbers = dict[str, float | None]
Histogram = dict[str, float]

DAY_US = 86_400_000_000
YEAR_1990_US = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
SIZE_STEPS = (1, 2, 3, 4, 5, 6, 8, 11, 16, 21, 31, 51, 101)
"""Smallest basket of each bar in the histogram of basket sizes."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
N_SHARES = 1_000
"""Products, and categories, in a profile."""
N_EXAMPLES = 3


class Profile(BaseModel):
    """A number is None, or not there, when the table holds nothing to compute it from.

    A histogram maps bins to shares; shares of bins too small to be listed are missing to 1. Days,
    weekdays and months are those of `timezone`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    table: Literal["order_lines", "baskets"]
    sampled_share: float
    timezone: str = "UTC"
    numbers: Numbers
    histograms: dict[str, Histogram]
    examples: dict[str, list[str]] = {}


def profile_order_lines(
    order_lines: Path, quarantine: Path, products: Path, settings: CheckSettings
) -> Profile:
    dataset = open_as_codes(order_lines, ORDER_LINES)
    wanted = [name for name in ORDER_LINES.names if name != "position"]
    lines, share = load(dataset, wanted, settings.row_limit)
    order, user, product = (encode(lines[c]) for c in ("order_id", "user_id", "product_id"))
    catalogue = _read_catalogue(products)
    sizes = _count_products(order, product)
    numbers: Numbers = {"rows": dataset.count_rows()}
    if lines.num_rows:
        numbers |= _profile_ids(order, user, product)
        numbers |= _profile_quantities(lines["quantity"]) | _profile_prices(lines["price"])
        numbers |= _profile_times(lines["ts"], settings.timezone)
        numbers |= _profile_mixed_orders(order, user, lines["ts"], settings.timezone)
        numbers |= _profile_sizes(sizes) | {
            "duplicate_share": 1 - int(sizes.sum()) / lines.num_rows
        }
        numbers |= _profile_coverage(product, catalogue) | _profile_suspects(
            product, settings.non_product_pattern
        )
    return Profile(
        table="order_lines",
        sampled_share=share,
        timezone=settings.timezone,
        numbers=numbers | _profile_quarantine(read_reasons(quarantine), dataset.count_rows()),
        histograms=_build_histograms(sizes, product, catalogue)
        | _calendar(lines["ts"], settings.timezone),
        examples=_find_unmatched(product, catalogue),
    )


def profile_baskets(baskets: Path, products: Path, settings: CheckSettings) -> Profile:
    dataset = open_as_codes(baskets, BASKETS)
    table, share = load(dataset, BASKETS.names, settings.row_limit)
    sizes = _list_lengths(table["items"])
    basket_of = np.repeat(np.arange(len(sizes)), sizes)
    product = encode(pc.list_flatten(table["items"]))
    split = encode(table["split"])
    catalogue = _read_catalogue(products)
    numbers: Numbers = {"rows": dataset.count_rows()}
    if table.num_rows:
        numbers |= _profile_basket_ids(table, product) | _profile_repeats(basket_of, product)
        numbers |= _profile_positions(table["positions"], sizes) | _profile_weights(table["weight"])
        numbers |= (
            _profile_times(table["ts"], settings.timezone)
            | _profile_sizes(sizes)
            | _profile_coverage(product, catalogue)
        )
        numbers |= _profile_splits(split, table["ts"]) | _profile_cold(split, basket_of, product)
    return Profile(
        table="baskets",
        sampled_share=share,
        timezone=settings.timezone,
        numbers=numbers,
        histograms=_build_histograms(sizes, product, catalogue)
        | _calendar(table["ts"], settings.timezone),
        examples=_find_unmatched(product, catalogue),
    )


def _read_catalogue(products: Path) -> pa.Table:
    return read_table(products, PRODUCTS, ["product_id", "name", "category"])


def _profile_ids(order: Codes, user: Codes, product: Codes) -> Numbers:
    n_rows = len(order.codes)
    return {
        "orders": order.n_distinct,
        "products": product.n_distinct,
        "users": user.n_distinct,
        "order_id_missing": order.n_missing,
        "product_id_missing": product.n_missing,
        "user_missing_share": user.n_missing / n_rows if user.n_distinct else None,
        "id_twins_share": _twins_share(product),
    }


def _twins_share(product: Codes) -> float | None:
    bought = product.values.filter(pa.array(product.counts > 0))
    if not len(bought):
        return None
    folded = pc.utf8_lower(pc.utf8_trim_whitespace(bought))
    return 1 - int(pc.count_distinct(folded).as_py()) / len(bought)


def _profile_suspects(product: Codes, pattern: str) -> Numbers:
    matches = to_bool_array(pc.match_substring_regex(product.values, pattern))
    return {"suspect_share": int(product.counts[matches].sum()) / len(product.codes)}


def _profile_quantities(column: pa.ChunkedArray) -> Numbers:
    values, n_missing = _drop_missing(column)
    return {
        "quantity_missing": n_missing,
        "quantity_not_positive": int((values <= 0).sum()),
        **_profile_spread("quantity", values),
    }


def _profile_prices(column: pa.ChunkedArray) -> Numbers:
    values, _ = _drop_missing(column)
    if not len(values):
        return {"price_missing_share": None}
    spread = _profile_spread("price", values)
    median = spread["price_p50"] or 0
    return {
        "price_missing_share": 1 - len(values) / len(column),
        "price_negative": int((values < 0).sum()),
        "price_zero_share": float((values == 0).mean()),
        "price_spread": float(values.max()) / median if median > 0 else None,
        **spread,
    }


def _drop_missing(column: pa.ChunkedArray) -> tuple[Float64Array, int]:
    """The finite numbers, and how many rows hold none."""
    values = column.drop_null().to_numpy()
    values = values[np.isfinite(values)]
    return values, len(column) - len(values)


def _profile_spread(name: str, values: Float64Array) -> Numbers:
    if not len(values):
        return {}
    points = np.quantile(values, [0, 0.5, 0.99, 1])
    labels = ("min", "p50", "p99", "max")
    return {f"{name}_{label}": float(point) for label, point in zip(labels, points, strict=True)}


def _profile_times(column: pa.ChunkedArray, timezone: str) -> Numbers:
    times = _to_micros(column)
    if not len(times):
        return {"ts_missing_share": None}
    days, counts = _count_days(to_local_time(times, timezone))
    latest = datetime.now(UTC) + timedelta(days=1)  # a day's grace for clocks and time zones
    return {
        "ts_missing_share": 1 - len(times) / len(column),
        "ts_first_s": int(times.min()) // 1_000_000,
        "ts_last_s": int(times.max()) // 1_000_000,
        "ts_future": int((times > int(latest.timestamp()) * 1_000_000).sum()),
        "ts_before_1990": int((times < YEAR_1990_US).sum()),
        "longest_gap_days": int(np.diff(days).max()) if len(days) > 1 else None,
        "busiest_day_share": float(counts.max() / len(times)) if np.ptp(days) >= 28 else None,
    }


def _count_days(local_times: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Distinct days since 1970, ascending, and the count of each."""
    found = pc.value_counts(pa.array(local_times // DAY_US))
    days, counts = (found.field(name).to_numpy() for name in ("values", "counts"))
    order = np.argsort(days)
    return days[order], counts[order]


def _to_micros(column: pa.ChunkedArray) -> Int64Array:
    """Microseconds since 1970, UTC, without nulls."""
    micros = column.drop_null().cast(pa.timestamp("us", "UTC"), safe=False)
    times: Int64Array = micros.cast(pa.int64()).to_numpy()
    return times


def _profile_mixed_orders(order: Codes, user: Codes, ts: pa.ChunkedArray, timezone: str) -> Numbers:
    """Share of orders with lines on different days or of several customers."""
    if not order.n_distinct:
        return {"mixed_order_share": None}
    timed = ~to_bool_array(ts.is_null()) & (order.codes >= 0)
    named = (user.codes >= 0) & (order.codes >= 0)
    n_orders = len(order.values)
    local_times = to_local_time(_to_micros(ts.filter(pa.array(timed))), timezone)
    mixed = _find_spread_orders(order.codes[timed], local_times, DAY_US, n_orders)
    mixed |= _find_spread_orders(order.codes[named], user.codes[named], 0, n_orders)
    return {"mixed_order_share": float(mixed.sum() / order.n_distinct)}


def _find_spread_orders(
    order: AnyArray, values: AnyArray, allowed: int, n_orders: int
) -> BoolArray:
    """Orders with a value further than `allowed` from that of their last line."""
    last = np.zeros(n_orders, values.dtype)
    last[order] = values
    apart = np.zeros(n_orders, bool)
    apart[order[np.abs(values - last[order]) > allowed]] = True
    return apart


def _count_products(order: Codes, product: Codes) -> Int64Array:
    complete = (order.codes >= 0) & (product.codes >= 0)
    pairs = _distinct_pairs(order.codes[complete], product.codes[complete], len(product.values))
    sizes = np.bincount(pairs // max(1, len(product.values)))
    return sizes[sizes > 0]


def _distinct_pairs(left: AnyArray, right: AnyArray, n_right: int) -> Int64Array:
    pairs = left.astype(np.int64) * n_right + right
    pairs.sort()
    distinct: Int64Array = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
    return distinct


def _profile_sizes(sizes: AnyArray) -> Numbers:
    if not len(sizes):
        return {}
    p50, p99, p999 = np.quantile(sizes, [0.5, 0.99, 0.999])
    return {
        "multi_item_orders": int((sizes > 1).sum()),
        "small_baskets": int((sizes < 2).sum()),
        "single_item_share": float((sizes < 2).mean()),
        "basket_mean": float(sizes.mean()),
        "basket_p50": float(p50),
        "basket_p99": float(p99),
        "basket_p999": float(p999),
        "basket_max": int(sizes.max()),
    }


def _profile_coverage(product: Codes, catalogue: pa.Table) -> Numbers:
    bought = product.values.filter(pa.array(product.counts > 0))
    if not len(bought):
        return {}
    named = catalogue.filter(
        pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(catalogue["name"])), 0)
    )
    known = to_bool_array(pc.is_in(bought, catalogue["product_id"].combine_chunks()))
    with_name = to_bool_array(pc.is_in(bought, named["product_id"].combine_chunks()))
    n_different = pc.count_distinct(catalogue["product_id"]).as_py()
    return {
        "catalogue_coverage": float(known.mean()),
        "catalogue_matches": int(known.sum()),
        "named_share": float(with_name.mean()) if known.any() else None,
        "catalogue_repeats": catalogue.num_rows - n_different,
    }


def _find_unmatched(product: Codes, catalogue: pa.Table) -> dict[str, list[str]]:
    """Ids that only one side has: bought ones, most lines first; others by the alphabet."""
    listed = catalogue["product_id"].combine_chunks()
    is_unknown = ~to_bool_array(pc.is_in(product.values, listed)) & (product.counts > 0)
    unknown = np.flatnonzero(is_unknown)
    most_bought = unknown[np.argsort(-product.counts[unknown], kind="stable")[:N_EXAMPLES]]
    bought = product.values.filter(pa.array(product.counts > 0))
    unsold = pc.unique(listed.filter(pc.invert(pc.is_in(listed, bought)))).drop_null()
    first = pc.select_k_unstable(unsold, N_EXAMPLES, [("", "ascending")])
    return {
        "unknown_products": product.values.take(pa.array(most_bought)).to_pylist(),
        "unsold_products": unsold.take(first).to_pylist(),
    }


def _profile_quarantine(reasons: Codes, n_clean: int) -> Numbers:
    """Cancellations and the like are no sales: they count in a share of their own only."""
    n_all = n_clean + len(reasons.codes)
    n_sales = n_all - count_lines(reasons, *NO_SALES)
    if not n_sales:
        return {"quarantined_rows": len(reasons.codes)}
    return {
        "quarantined_rows": len(reasons.codes),
        "usable_share": n_clean / n_sales,
        "quarantined_share": 1 - n_clean / n_sales,
        "cancelled_share": count_lines(reasons, "cancellation") / n_all,
        "non_product_share": count_lines(reasons, "not a product") / n_sales,
        "unreadable_share": count_lines(reasons, *UNREADABLE) / n_sales,
    }


def _profile_basket_ids(table: pa.Table, product: Codes) -> Numbers:
    order, user = encode(table["order_id"]), encode(table["user_id"])
    return {
        "items": len(product.codes),
        "products": product.n_distinct,
        "users": user.n_distinct,
        "order_id_missing": order.n_missing,
        "order_repeats": len(order.codes) - order.n_missing - order.n_distinct,
        "item_missing": product.n_missing,
    }


def _profile_repeats(basket_of: Int64Array, product: Codes) -> Numbers:
    there = product.codes >= 0
    pairs = _distinct_pairs(basket_of[there], product.codes[there], len(product.values))
    return {"item_repeats": int(there.sum()) - len(pairs)}


def _profile_positions(column: pa.ChunkedArray, sizes: AnyArray) -> Numbers:
    there = ~to_bool_array(column.is_null())
    if not there.any():
        return {"position_mismatches": None}
    return {"position_mismatches": int((_list_lengths(column) != sizes)[there].sum())}


def _profile_weights(column: pa.ChunkedArray) -> Numbers:
    values = column.to_numpy()  # null becomes NaN, which is within no bounds
    in_bounds = (values > 0) & (values <= 1)
    return {"weight_out_of_bounds": int((~in_bounds).sum())}


def _profile_splits(split: Codes, ts: pa.ChunkedArray) -> Numbers:
    rows = [_find_split_rows(split, name) for name in SPLITS]
    counts = [int(r.sum()) for r in rows]
    return {
        "split_unknown": len(split.codes) - sum(counts),
        "smallest_split": min(counts),
        **{f"{name}_share": n / len(split.codes) for name, n in zip(SPLITS, counts, strict=True)},
        "split_leaks": _count_leaks([ts.filter(pa.array(r)) for r in rows]),
    }


def _find_split_rows(split: Codes, name: str) -> BoolArray:
    code = pc.index(split.values, pa.scalar(name)).as_py()
    rows: BoolArray = split.codes == (code if code >= 0 else -2)  # -1 stands for null
    return rows


def _count_leaks(times: list[pa.ChunkedArray]) -> int | None:
    """Number of baskets newer than the oldest of a later split; None where times are missing."""
    if any(t.null_count or not len(t) for t in times):
        return None
    train, validation, test = (_to_micros(t) for t in times)
    later = min(validation.min(), test.min())
    return int((train > later).sum() + (validation > test.min()).sum())


def _profile_cold(split: Codes, basket_of: Int64Array, product: Codes) -> Numbers:
    train, test = (product.codes[_find_split_rows(split, s)[basket_of]] for s in ("train", "test"))
    if not len(train) or not len(test):
        return {"cold_share": None}
    return {"cold_share": float((~np.isin(test, np.unique(train))).mean())}


def _list_lengths(column: pa.ChunkedArray) -> Int64Array:
    lengths: Int64Array = pc.list_value_length(column).fill_null(0).cast(pa.int64()).to_numpy()
    return lengths


def _build_histograms(sizes: AnyArray, product: Codes, catalogue: pa.Table) -> dict[str, Histogram]:
    return {
        "basket_sizes": _size_shares(sizes),
        "products": _top_shares(product.values.to_pylist(), product.counts),
        "categories": _category_shares(product, catalogue),
    }


def _size_shares(sizes: AnyArray) -> Histogram:
    if not len(sizes):
        return {}
    last = [str(step - 1) for step in SIZE_STEPS[1:]]
    labels = [a if a == b else f"{a}–{b}" for a, b in zip(map(str, SIZE_STEPS), last, strict=False)]
    bars = np.bincount(np.digitize(sizes, SIZE_STEPS[1:]), minlength=len(SIZE_STEPS))
    return _to_shares([*labels, f"{SIZE_STEPS[-1]}+"], bars)


def _category_shares(product: Codes, catalogue: pa.Table) -> Histogram:
    places = pc.index_in(product.values, catalogue["product_id"].combine_chunks())
    category = encode(catalogue["category"].take(places))
    if not category.n_distinct:
        return {}
    there = category.codes >= 0
    counts = np.bincount(category.codes[there], product.counts[there], len(category.values))
    return _top_shares(category.values.to_pylist(), counts)


def _top_shares(labels: list[str], counts: AnyArray) -> Histogram:
    top = np.argsort(-counts, kind="stable")[:N_SHARES]
    total = max(1, counts.sum())
    return {labels[i]: float(counts[i] / total) for i in top if counts[i]}


def _calendar(column: pa.ChunkedArray, timezone: str) -> dict[str, Histogram]:
    days, counts = _count_days(to_local_time(_to_micros(column), timezone))
    months, month_of = np.unique(
        days.astype("datetime64[D]").astype("datetime64[M]"), return_inverse=True
    )
    weekday_of = (days + 3) % 7  # 1970-01-01 was a Thursday
    by_weekday = np.bincount(weekday_of, counts, len(WEEKDAYS))
    return {
        "weekdays": _to_shares(list(WEEKDAYS), by_weekday) if len(days) else {},
        "months": _to_shares(
            months.astype(str).tolist(), np.bincount(month_of, counts, len(months))
        ),
    }


def _to_shares(labels: list[str], counts: AnyArray) -> Histogram:
    total = max(1, counts.sum())
    return {label: float(n / total) for label, n in zip(labels, counts, strict=True)}
