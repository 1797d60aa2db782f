"""Clean order lines: good ones to ORDER_LINES, all others to QUARANTINE with the reason."""

import functools
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from components.contracts import ORDER_LINES, PRODUCTS, QUARANTINE, open_table
from components.model.atomic import atomic_write
from components.orders.columns import (
    REQUIRED,
    ColumnsError,
    cast_to_text,
    parse_columns,
    resolve_columns,
)
from components.orders.source import SourceError, hide_credentials, read_source
from components.orders.timestamps import parse_timestamp
from components.progress import log_progress

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

IDS = ("order_id", "user_id", "product_id")
NON_PRODUCTS = (
    r"POST(AGE)?|DOT|M|D|S|B|C2|BANK CHARGES|AMAZONFEE|CRUK|ADJUST\d*|TEST\w*|GIFT_\w*"
    r"|SHIPPING|DISCOUNT|MANUAL|COUPON.*|FUEL|GASOLINE.*|MISC.* TRANS"
)
"""Codes and categories that shops book as products."""


class OrderSettings(BaseModel):
    """Regular expressions match whole values, in any letter case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: str = ""
    """`order_id=Invoice,product_id=StockCode`: our name = the shop's name."""
    ts_format: str = ""
    """Spark pattern of text timestamps, e.g. `d/M/yyyy H:mm`; empty: detected."""
    non_products: str = NON_PRODUCTS
    """Regular expression of ids, names or categories to be quarantined."""
    cancellations: str = r"C\d+"
    """Regular expression of the order ids of cancellations."""
    max_loss: float = Field(default=0.5, gt=0, le=1)
    """Largest share of lines that may be quarantined."""


class OrdersError(ValueError):
    """Too many lines were quarantined."""


@dataclass(frozen=True)
class _Table:
    """`columns` is {our name: the shop's name}."""

    frame: "DataFrame"
    columns: dict[str, str]
    source: str

    def text(self, name: str) -> "Column":
        """Null without such a column."""
        from pyspark.sql import functions as F

        if name not in self.columns:
            return F.lit(None).cast("string")
        return cast_to_text(self.frame, self.columns[name])


def clean_orders(
    orders: str, products: str, settings: OrderSettings,
    order_lines: Path, quarantine: Path, product_table: Path,
) -> dict[str, int]:  # fmt: skip
    """Write ORDER_LINES, QUARANTINE and PRODUCTS; return counts.

    Without a `products` source, PRODUCTS come from the order lines.
    """
    from components.spark import spark_session

    with _open_staging(order_lines.parent) as staging, spark_session("orders") as spark:
        lines = _read_mapped(spark, orders, staging / "orders", settings, REQUIRED)
        described = lines
        if products:
            described = _read_mapped(
                spark, products, staging / "products", settings, ("product_id",)
            )
        _check_all_used(settings.columns, lines.columns, described.columns)
        table = _build_product_table(described, with_attributes=bool(products))
        if products and "price" in lines.columns:
            table = _fill_prices(table, lines)
        table = table.cache()
        is_excluded = _matches(settings.non_products, "product_id", "name", "category")
        _write_parquet(table.filter(~is_excluded), PRODUCTS.names, product_table)
        classified = _classify_lines(lines, table.filter(is_excluded), settings)
        good = {f"clean_{name}": name for name in ORDER_LINES.names}
        good_lines = classified.filter("reason = ''").withColumnsRenamed(good)
        _write_parquet(good_lines, ORDER_LINES.names, order_lines)
        bad = {f"raw_{name}": name for name in ORDER_LINES.names}
        bad_lines = classified.filter("reason <> ''").withColumnsRenamed(bad)
        _write_parquet(bad_lines, QUARANTINE.names, quarantine)
    counts = count_lines(order_lines, quarantine, product_table)
    log_progress("{lines_read} lines read, {lines_quarantined} quarantined".format_map(counts))
    _check_loss(counts, settings, lines.source)
    return counts


@contextmanager
def _open_staging(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="staging-", dir=parent) as folder:
        yield Path(folder)


def count_lines(order_lines: Path, quarantine: Path, products: Path) -> dict[str, int]:
    kept = open_table(order_lines, ORDER_LINES).count_rows()
    reasons = open_table(quarantine, QUARANTINE).to_table(columns=["reason"])["reason"]
    by_reason = Counter(
        {one["values"]: one["counts"] for one in pc.value_counts(reasons).to_pylist()}
    )
    return {
        "lines_read": kept + len(reasons),
        "lines_kept": kept,
        "lines_quarantined": len(reasons),
        "products": open_table(products, PRODUCTS).count_rows(),
        **{f"quarantined: {reason}": n for reason, n in by_reason.most_common()},
    }


def _read_mapped(
    spark: "SparkSession", source: str, staging: Path, settings: OrderSettings,
    required: tuple[str, ...],
) -> _Table:  # fmt: skip
    frame, name = read_source(spark, source, staging), hide_credentials(source)
    columns = resolve_columns(parse_columns(settings.columns), frame.columns, required, name)
    return _Table(frame, columns, name)


def _classify_lines(
    lines: _Table, non_products: "DataFrame", settings: OrderSettings
) -> "DataFrame":
    """Lines with raw_* text, clean_* values and `reason`, empty for good ones."""
    from pyspark.sql import functions as F

    text = {name: lines.text(name) for name in ORDER_LINES.names}
    numbers = {name: text[name].try_cast("double") for name in ("position", "quantity", "price")}
    ts = parse_timestamp(lines.frame, lines.columns.get("ts"), settings.ts_format, lines.source)
    frame = lines.frame.select(
        *[value.alias(f"raw_{name}") for name, value in text.items()],
        *[F.trim(text[name]).alias(f"clean_{name}") for name in IDS],
        ts.alias("clean_ts"),
        numbers["position"].cast("int").alias("clean_position"),
        (numbers["quantity"] if "quantity" in lines.columns else F.lit(1.0)).alias(
            "clean_quantity"
        ),
        numbers["price"].alias("clean_price"),
    )
    excluded = non_products.select(F.col("product_id").alias("clean_product_id"))
    excluded = F.broadcast(excluded.withColumn("is_non_product", F.lit(True)))
    return frame.join(excluded, "clean_product_id", "left").withColumn(
        "reason", _build_reason(settings)
    )


def _build_reason(settings: OrderSettings) -> "Column":
    from pyspark.sql import functions as F

    def unread(name: str) -> "Column":
        return (F.trim(F.col(f"raw_{name}")) != "") & F.col(f"clean_{name}").isNull()

    quantity = F.col("clean_quantity")
    cancelled = _matches(settings.cancellations, "clean_order_id")
    non_product = _matches(settings.non_products, "clean_product_id")
    rules = {
        "order_id missing": F.coalesce(F.col("clean_order_id"), F.lit("")) == "",
        "product_id missing": F.coalesce(F.col("clean_product_id"), F.lit("")) == "",
        "not a product": F.coalesce(F.col("is_non_product"), non_product),
        "cancellation": cancelled,
        "quantity not a number": quantity.isNull() | F.isnan(quantity),
        "quantity not positive": ~cancelled & (quantity <= 0),
        "price not a number": unread("price") | F.isnan("clean_price"),
        "price negative": F.col("clean_price") < 0,
        "timestamp unreadable": unread("ts"),
        "timestamp in the future": F.col("clean_ts")
        > F.expr("current_timestamp() + interval 1 day"),
        "timestamp before 1990": F.col("clean_ts") < F.lit("1990-01-01").cast("timestamp"),
    }
    return F.concat_ws("; ", *[F.when(rule, F.lit(name)) for name, rule in rules.items()])


def _matches(pattern: str, *names: str) -> "Column":
    """Whether any of the columns matches; false for null."""
    from pyspark.sql import functions as F

    matches = [F.coalesce(F.col(name).rlike(f"(?i)^({pattern})$"), F.lit(False)) for name in names]
    return functools.reduce(lambda one, other: one | other, matches)


def _build_product_table(table: _Table, with_attributes: bool) -> "DataFrame":
    """The most frequent value of each product; attributes are the unmapped columns."""
    from pyspark.sql import functions as F

    text = {name: F.trim(table.text(name)) for name in PRODUCTS.names}
    others = sorted(set(table.frame.columns) - set(table.columns.values()))
    if with_attributes and others:
        # to_json leaves out nulls; a product without any attribute gets null.
        values = [
            F.nullif(F.trim(cast_to_text(table.frame, one)), F.lit("")).alias(one) for one in others
        ]
        text["attributes"] = F.nullif(F.to_json(F.struct(*values)), F.lit("{}"))
    frame = table.frame.select(
        *[F.when(value != "", value).alias(name) for name, value in text.items()]
    ).filter("product_id is not null")
    parsed = {
        "price": F.col("price").try_cast("double"),
        "in_stock": F.lower("in_stock").isin("true", "t", "1", "yes", "y"),
        "margin": F.col("margin").try_cast("double"),
        "added_at": F.col("added_at").try_cast("timestamp"),
    }
    return (
        frame.withColumns(parsed)
        .groupBy("product_id")
        .agg(*[F.mode(name, deterministic=True).alias(name) for name in PRODUCTS.names[1:]])
    )


def _fill_prices(products: "DataFrame", lines: _Table) -> "DataFrame":
    from pyspark.sql import functions as F

    paid = lines.frame.select(
        F.trim(lines.text("product_id")).alias("product_id"),
        lines.text("price").try_cast("double").alias("paid"),
    )
    by_product = paid.filter("paid > 0").groupBy("product_id")
    usual = by_product.agg(F.mode("paid", deterministic=True).alias("paid"))
    joined = products.join(usual, "product_id", "left")
    return joined.withColumn("price", F.coalesce("price", "paid")).drop("paid")


def _write_parquet(frame: "DataFrame", names: list[str], path: Path) -> None:
    with atomic_write(path) as aside:
        frame.select(*names).write.parquet(str(aside))


def _check_all_used(text: str, *used: dict[str, str]) -> None:
    for ours, theirs in parse_columns(text).items():
        if not any(mapping.get(ours) == theirs for mapping in used):
            raise ColumnsError(
                f"columns: {ours}={theirs} fits neither orders nor products; no column is called "
                f"{theirs!r}, expected the name of one; correct --columns"
            )


def _check_loss(counts: dict[str, int], settings: OrderSettings, source: str) -> None:
    read, lost = counts["lines_read"], counts["lines_quarantined"]
    if not read:
        raise SourceError(
            f"{source}: no lines, only a header; expected at least one order line; check the export"
        )
    if lost > settings.max_loss * read or lost == read:
        reasons = "; ".join(f"{name}: {n}" for name, n in counts.items() if name.startswith("quar"))
        raise OrdersError(
            f"orders: {lost} of {read} lines of {source} are quarantined ({reasons}), expected at "
            f"most {settings.max_loss:.0%}; check --columns and the file, or raise max_loss"
        )
