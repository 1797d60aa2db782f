"""Group order lines into baskets with a weight and a split."""

from datetime import datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from components.contracts import BASKETS, ORDER_LINES, SPLITS, open_table
from components.model.atomic import atomic_write
from components.progress import log_progress
from components.sources.time_formats import Timezone

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

TRAIN_SHARE, VALIDATION_SHARE = 0.8, 0.1
ISO = "yyyy-MM-dd'T'HH:mm:ss'Z'"

MAX_SHIFT = 0.01
"""Share of the orders by which a cut between splits may move to a midnight."""


HalfLifeDays = Annotated[float, Field(ge=0, le=36_500)]


class BasketSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_days: HalfLifeDays = 0.0
    """Age in days, from the newest order, at which an order weighs half; 0 is off."""
    timezone: Timezone = "UTC"
    """Zone of the shop, whose days are not divided between splits."""
    cap_quantile: float = Field(default=0.999, gt=0.5, le=1)
    """Orders with more products than this quantile are dropped as wholesale or tests."""


class BasketsError(ValueError):
    """Too few baskets to train and evaluate."""


def build_baskets(order_lines: Path, baskets: Path, settings: BasketSettings) -> dict[str, Any]:
    """Write BASKETS; return counts.

    Orders are split by time, at midnights of the shop where there are many days; those without a
    timestamp by a hash of their id. Products are in order of position, else of id. Raises
    BasketsError.
    """
    from components.spark import spark_session

    lines = open_table(order_lines, ORDER_LINES)
    has_positions = lines.count_rows(filter=pc.field("position").is_valid()) > 0
    with spark_session("baskets") as spark:
        orders = _group_orders(spark.read.parquet(str(order_lines)), has_positions).persist()
        summary = _summarise(orders, settings)
        summary["cuts"] = _cut_at_midnight(orders, summary["cuts"], settings.timezone)
        kept = orders.filter(f"size(items) between 2 and {summary['size_cap']}").withColumns(
            {
                "weight": _compute_weight(summary, settings).cast("float"),
                "split": _split_orders(summary),
            }
        )
        with atomic_write(baskets) as aside:
            _shuffle(kept).select(*BASKETS.names).write.parquet(str(aside))
    counts = _count_baskets(lines.count_rows(), summary, baskets)
    _check_splits(counts)
    log_progress(
        "{orders} orders, {baskets} baskets of up to {size_cap} products".format_map(counts)
    )
    return counts


def _shuffle(orders: "DataFrame") -> "DataFrame":
    """One order of the baskets, whatever the number of cores: it decides what training makes."""
    from pyspark.sql import functions as F

    return orders.orderBy(F.xxhash64("order_id"), "order_id")


def _group_orders(lines: "DataFrame", has_positions: bool) -> "DataFrame":
    """One row per order with distinct products, in a single shuffle."""
    from pyspark.sql import functions as F

    collected = F.struct("position", "product_id") if has_positions else F.col("product_id")
    orders = (
        # Else Spark also collects before the shuffle, which costs twice the objects unless the
        # lines of an order are adjacent.
        lines.repartition("order_id")
        .groupBy("order_id")
        .agg(
            F.any_value("user_id", True).alias("user_id"),
            F.min("ts").alias("ts"),
            F.collect_list(collected).alias("lines"),
        )
    )
    items, positions = _sort_by_position() if has_positions else _sort_by_id()
    return orders.select("order_id", "user_id", "ts", items.alias("items"), positions)


def _sort_by_id() -> tuple["Column", "Column"]:
    from pyspark.sql import functions as F

    return F.array_sort(F.array_distinct("lines")), F.expr("cast(null as array<int>) as positions")


def _sort_by_position() -> tuple["Column", "Column"]:
    """A repeated product keeps its first position; an order with a missing position has none."""
    from pyspark.sql import functions as F

    ordered = "forall(lines, line -> line.position is not null)"
    by_position = "array_distinct(array_sort(lines).product_id)"
    firsts = (
        f"transform({by_position}, id -> "
        "array_min(filter(lines, line -> line.product_id = id).position))"
    )
    by_id = "array_sort(array_distinct(lines.product_id))"
    items = F.expr(f"if({ordered}, {by_position}, {by_id})")
    return items, F.expr(f"if({ordered}, {firsts}, null) as positions")


def _summarise(orders: "DataFrame", settings: BasketSettings) -> dict[str, Any]:
    """Counts, size cap, and the timestamps (microseconds) between the splits."""
    from pyspark.sql import functions as F

    size = F.size("items")
    cuts = [TRAIN_SHARE, TRAIN_SHARE + VALIDATION_SHARE]
    in_split = F.when(size > 1, F.unix_micros("ts"))
    row = orders.agg(
        F.count("*").alias("n_orders"),
        F.sum(size).alias("n_items"),
        F.sum((size < 2).cast("int")).alias("n_single"),
        F.expr(f"percentile(size(items), {settings.cap_quantile})").alias("size_cap"),
        F.percentile_approx(in_split, cuts, 100_000).alias("cuts"),
        F.max(in_split).alias("newest"),
        F.date_format(F.min("ts"), ISO).alias("first"),
        F.date_format(F.max("ts"), ISO).alias("last"),
    ).first()
    assert row is not None
    summary = row.asDict()
    # The percentile is interpolated; two products are always a basket.
    summary["size_cap"] = max(int(summary["size_cap"] or 2), 2)
    if summary["cuts"] and summary["cuts"][1] == summary["newest"]:
        summary["cuts"] = None  # all orders have nearly the same timestamp
    return summary


def _cut_at_midnight(
    orders: "DataFrame", cuts: list[int] | None, timezone: str
) -> list[int] | None:
    """The cuts, each at the end of a day of the shop where that moves few orders."""
    from pyspark.sql import functions as F

    if not cuts:
        return None
    candidates = [one for cut in cuts for one in (cut, *_find_day_ends(cut, timezone))]
    moment = F.when(F.size("items") > 1, F.unix_micros("ts"))
    counted = [F.sum((moment <= one).cast("int")) for one in candidates]
    row = orders.agg(F.count(moment), *counted).first()
    assert row is not None
    n_orders, *before = row
    chosen = []
    for place in (0, 3):
        moves = [abs(before[place + i] - before[place]) for i in (1, 2)]
        nearest = 1 if moves[0] <= moves[1] else 2
        is_small = moves[nearest - 1] <= MAX_SHIFT * n_orders
        chosen.append(candidates[place + nearest] if is_small else cuts[place // 3])
    return chosen


def _find_day_ends(moment: int, timezone: str) -> tuple[int, int]:
    """The last microseconds of the day before, and of the day of the moment."""
    zone = ZoneInfo(timezone)
    day = datetime.fromtimestamp(moment // 1_000_000, zone).date()
    starts = (datetime.combine(one, time(), zone) for one in (day, day + timedelta(days=1)))
    before, after = (int(start.timestamp()) * 1_000_000 - 1 for start in starts)
    return before, after


def _split_orders(summary: dict[str, Any]) -> "Column":
    from pyspark.sql import functions as F

    train, validation, test = (F.lit(split) for split in SPLITS)
    percent = F.pmod(F.xxhash64("order_id"), F.lit(100))
    train_to, validation_to = 100 * TRAIN_SHARE, 100 * (TRAIN_SHARE + VALIDATION_SHARE)
    hashed = F.when(percent < train_to, train).when(percent < validation_to, validation)
    by_hash = hashed.otherwise(test)
    if not summary["cuts"]:
        return by_hash
    moment = F.unix_micros("ts")
    by_time = F.when(moment <= summary["cuts"][0], train).when(
        moment <= summary["cuts"][1], validation
    )
    return F.when(moment.isNull(), by_hash).otherwise(by_time.otherwise(test))


def _compute_weight(summary: dict[str, Any], settings: BasketSettings) -> "Column":
    from pyspark.sql import functions as F

    if not settings.half_life_days or not summary["newest"]:
        return F.lit(1.0)
    age_days = (F.lit(summary["newest"]) - F.unix_micros("ts")) / (86400 * 1e6)
    weight = F.pow(F.lit(0.5), F.greatest(age_days, F.lit(0.0)) / settings.half_life_days)
    return F.coalesce(weight, F.lit(1.0))


def _count_baskets(n_lines: int, summary: dict[str, Any], baskets: Path) -> dict[str, Any]:
    table = open_table(baskets, BASKETS).to_table(columns=["items", "split"])
    sizes = pc.list_value_length(table["items"])
    by_split = {one["values"]: one["counts"] for one in pc.value_counts(table["split"]).to_pylist()}
    return {
        "lines": n_lines,
        "orders": summary["n_orders"],
        "removed: repeated product in an order": n_lines - (summary["n_items"] or 0),
        "removed: single-product orders": summary["n_single"] or 0,
        "removed: orders over the cap": summary["n_orders"]
        - (summary["n_single"] or 0)
        - len(table),
        "size_cap": summary["size_cap"],
        "baskets": len(table),
        "basket_items": pc.sum(sizes).as_py() or 0,
        **{f"baskets_{split}": by_split.get(split, 0) for split in SPLITS},
        "first_order": summary["first"] or "",
        "last_order": summary["last"] or "",
    }


def _check_splits(counts: dict[str, Any]) -> None:
    empty = [split for split in SPLITS if not counts[f"baskets_{split}"]]
    if empty:
        raise BasketsError(
            f"baskets: no basket for {', '.join(empty)}: {counts['orders']} orders made "
            f"{counts['baskets']} baskets of two or more products ("
            f"{counts['removed: single-product orders']} orders have one product, "
            f"{counts['removed: orders over the cap']} are over the cap of {counts['size_cap']}), "
            "expected at least one for each split; bring about a hundred orders or more"
        )
