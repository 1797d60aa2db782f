"""Raw order lines in; order lines that keep the contract, and all others with the reason, out."""

import functools
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    from pyspark.sql import Column, DataFrame

IDS = ("order_id", "user_id", "product_id")
NON_PRODUCTS = (
    r"POST(AGE)?|DOT|M|D|S|B|C2|BANK CHARGES|AMAZONFEE|CRUK|ADJUST\d*|TEST\w*|GIFT_\w*"
    r"|SHIPPING|DISCOUNT|MANUAL|COUPON.*|FUEL|GASOLINE.*|MISC.* TRANS"
)
"""Codes and categories that shops book as products, matched as a whole and in any letter case."""


class OrderSettings(BaseModel):
    """How raw lines are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: str = ""
    """`order_id=Invoice,product_id=StockCode`: our name = the shop's name; empty = same names."""
    ts_format: str = ""
    """Spark pattern of text timestamps, e.g. `d/M/yyyy H:mm`; empty = found out."""
    non_products: str = NON_PRODUCTS
    """Regular expression; lines whose product id, name or category matches as a whole go out."""
    cancellations: str = r"C\d+"
    """Regular expression of the order ids of cancellations."""
    max_loss: float = Field(default=0.5, gt=0, le=1)
    """Largest share of lines that may be quarantined before the run stops."""


class OrdersError(ValueError):
    """The lines as a whole cannot be used; the message says why and what to do."""


def clean_orders(
    orders: str, products: str, settings: OrderSettings,
    order_lines: Path, quarantine: Path, product_table: Path,
) -> dict[str, int]:  # fmt: skip
    """Write ORDER_LINES, QUARANTINE and PRODUCTS; return how many lines went where.

    Every line of `orders` ends in exactly one of the first two. Without a `products` source the
    product table is made of what the lines say of their products.

    Raises SourceError, ColumnsError, or OrdersError when (nearly) nothing could be kept.
    """
    from components.spark import spark_session

    with staging_folder(order_lines) as staging, spark_session("orders") as spark:
        raw = read_source(spark, orders, staging / "orders")
        columns = resolve_columns(
            parse_columns(settings.columns), raw.columns, REQUIRED, hide_credentials(orders)
        )
        known, mapping = raw, columns
        if products:
            known = read_source(spark, products, staging / "products")
            mapping = resolve_columns(
                parse_columns(settings.columns),
                known.columns,
                ("product_id",),
                hide_credentials(products),
            )
        _check_all_used(settings.columns, columns, mapping)
        others = sorted(set(known.columns) - set(mapping.values())) if products else []
        table = _build_product_table(known, mapping, others)
        if products and "price" in columns:
            table = _fill_prices(table, raw, columns)
        table = table.cache()
        non_product = _matches(settings.non_products, "product_id", "name", "category")
        _write_parquet(table.filter(~non_product), PRODUCTS.names, product_table)
        classified = _classify_lines(
            raw, columns, table.filter(non_product), settings, hide_credentials(orders)
        )
        good = classified.filter("reason = ''").selectExpr(
            *[f"clean_{c} as {c}" for c in ORDER_LINES.names]
        )
        bad = classified.filter("reason <> ''").selectExpr(
            *[f"raw_{c} as {c}" for c in ORDER_LINES.names], "reason"
        )
        _write_parquet(good, ORDER_LINES.names, order_lines)
        _write_parquet(bad, QUARANTINE.names, quarantine)
    counts = count_lines(order_lines, quarantine, product_table)
    log_progress("{lines_read} lines read, {lines_quarantined} quarantined".format_map(counts))
    _check_loss(counts, settings, hide_credentials(orders))
    return counts


@contextmanager
def staging_folder(path: Path) -> Iterator[Path]:
    """A folder for what has to be fetched first, gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="staging-", dir=path.parent) as folder:
        yield Path(folder)


def count_lines(order_lines: Path, quarantine: Path, products: Path) -> dict[str, int]:
    """Rows read, kept, quarantined (in all and by reason) and products."""
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


def _classify_lines(
    raw: "DataFrame", columns: dict[str, str], non_products: "DataFrame",
    settings: OrderSettings, source: str,
) -> "DataFrame":  # fmt: skip
    """Each line as found (raw_*), as understood (clean_*), and why it cannot be kept (reason)."""
    from pyspark.sql import functions as F

    text = {name: _text_column(raw, columns.get(name)) for name in ORDER_LINES.names}
    ts = parse_timestamp(raw, columns.get("ts"), settings.ts_format, source)
    no_position, one = F.lit(None).cast("int"), F.lit(1.0)
    position, quantity = _to_number(text["position"]).cast("int"), _to_number(text["quantity"])
    frame = raw.select(
        *[value.alias(f"raw_{name}") for name, value in text.items()],
        *[F.trim(text[name]).alias(f"clean_{name}") for name in IDS],
        ts.alias("clean_ts"),
        (position if "position" in columns else no_position).alias("clean_position"),
        (quantity if "quantity" in columns else one).alias("clean_quantity"),
        _to_number(text["price"]).alias("clean_price"),
    )
    known = non_products.select(F.col("product_id").alias("clean_product_id"))
    known = F.broadcast(known.withColumn("is_non_product", F.lit(True)))
    return frame.join(known, "clean_product_id", "left").withColumn(
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
    """Whether one of the columns matches as a whole, in any letter case; null never does."""
    from pyspark.sql import functions as F

    matches = [F.coalesce(F.col(name).rlike(f"(?i)^({pattern})$"), F.lit(False)) for name in names]
    return functools.reduce(lambda one, other: one | other, matches)


def _build_product_table(
    frame: "DataFrame", columns: dict[str, str], others: Sequence[str] = ()
) -> "DataFrame":
    """PRODUCTS: per product the value most often given, so that a one-off typo never wins.

    The columns `others` become its attributes.
    """
    from pyspark.sql import functions as F

    text = {name: F.trim(_text_column(frame, columns.get(name))) for name in PRODUCTS.names}
    if others:
        # Without nulls, as to_json leaves those out; a product of which nothing is said has none.
        said = [F.nullif(F.trim(_text_column(frame, one)), F.lit("")).alias(one) for one in others]
        text["attributes"] = F.nullif(F.to_json(F.struct(*said)), F.lit("{}"))
    table = frame.select(
        *[F.when(value != "", value).alias(name) for name, value in text.items()]
    ).filter("product_id is not null")
    values = {
        "name": F.col("name"), "category": F.col("category"), "brand": F.col("brand"),
        "price": _to_number(F.col("price")), "image_url": F.col("image_url"),
        "in_stock": F.lower("in_stock").isin("true", "t", "1", "yes", "y"),
        "margin": _to_number(F.col("margin")), "added_at": F.col("added_at").try_cast("timestamp"),
        "attributes": F.col("attributes"),
    }  # fmt: skip
    return table.groupBy("product_id").agg(
        *[F.mode(value, deterministic=True).alias(name) for name, value in values.items()]
    )


def _fill_prices(table: "DataFrame", lines: "DataFrame", columns: dict[str, str]) -> "DataFrame":
    """PRODUCTS with the price that lines give most often where the table has none."""
    from pyspark.sql import functions as F

    paid = lines.select(
        F.trim(_text_column(lines, columns["product_id"])).alias("product_id"),
        _to_number(_text_column(lines, columns["price"])).alias("paid"),
    )
    by_product = paid.filter("paid > 0").groupBy("product_id")
    usual = by_product.agg(F.mode("paid", deterministic=True).alias("paid"))
    joined = table.join(usual, "product_id", "left")
    return joined.withColumn("price", F.coalesce("price", "paid")).drop("paid")


def _text_column(frame: "DataFrame", column: str | None) -> "Column":
    from pyspark.sql import functions as F

    return F.lit(None).cast("string") if column is None else cast_to_text(frame, column)


def _to_number(text: "Column") -> "Column":
    return text.try_cast("double")


def _write_parquet(frame: "DataFrame", names: list[str], path: Path) -> None:
    with atomic_write(path) as aside:
        frame.select(*names).write.parquet(str(aside))


def _check_all_used(text: str, *used: dict[str, str]) -> None:
    for ours, theirs in parse_columns(text).items():
        if not any(mapping.get(ours) == theirs for mapping in used):
            raise ColumnsError(
                f"columns: {ours}={theirs} fits neither orders nor products; "
                f"no column is called {theirs!r}"
            )


def _check_loss(counts: dict[str, int], settings: OrderSettings, source: str) -> None:
    read, lost = counts["lines_read"], counts["lines_quarantined"]
    if not read:
        raise SourceError(f"{source}: no lines, only a header; expected at least one order line")
    if lost > settings.max_loss * read or lost == read:
        reasons = "; ".join(f"{name}: {n}" for name, n in counts.items() if name.startswith("quar"))
        raise OrdersError(
            f"orders: {lost} of {read} lines of {source} cannot be used ({reasons}), at most "
            f"{settings.max_loss:.0%} may be lost; check --columns and the file, or raise max_loss"
        )
