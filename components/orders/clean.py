"""Clean order lines: good ones to ORDER_LINES, all others to QUARANTINE with the reason."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from pydantic import Field

from components.contracts import ORDER_LINES, PRODUCTS, QUARANTINE, open_table
from components.model.atomic import atomic_write
from components.orders.direct import escape_glob, read_plain
from components.orders.reasons import NON_PRODUCTS, build_reason, matches
from components.progress import log_progress
from components.sources.columns import ColumnsError, parse_columns
from components.sources.database import hide_credentials
from components.sources.errors import SourceError
from components.sources.reading import Reading
from components.sources.selection import IDS
from components.sources.source import ReadSource, read_source
from components.sources.typed_columns import RAW
from components.sources.understand import ReadSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RECOGNISED = ("cancellation", "refund", "test order", "gift card", "part of a bundle product")
"""Reasons that a platform's own words give; such lines are no loss."""


class OrderSettings(ReadSettings):
    """Regular expressions match whole values, in any letter case."""

    non_products: str = NON_PRODUCTS
    """Regular expression of ids, names or categories to be quarantined."""
    cancellations: str = r"C\d+"
    """Regular expression of the order ids of cancellations."""
    max_loss: float = Field(default=0.5, gt=0, le=1)
    """Largest share of lines that may be quarantined."""


class OrdersError(ValueError):
    """Too many lines were quarantined."""


@dataclass(frozen=True)
class CleanedOrders:
    counts: dict[str, int]
    orders: Reading
    products: Reading | None
    """None without a product table."""

    def readings_json(self) -> dict[str, Any]:
        products = {"products": self.products.to_json()} if self.products else {}
        return {"orders": self.orders.to_json(), **products}


def clean_orders(
    orders: str, products: str, settings: OrderSettings,
    order_lines: Path, quarantine: Path, product_table: Path,
) -> CleanedOrders:  # fmt: skip
    """Write ORDER_LINES, QUARANTINE and PRODUCTS.

    Without a `products` source, PRODUCTS come from the order lines.
    """
    from components.spark import spark_session

    with _open_staging(order_lines.parent) as staging:
        described = _read_products(products, settings, staging)
        known = described.parts if described else ()
        read = read_source(orders, "orders", settings, staging / "orders", known)
        _check_all_used(settings.columns, read, described)
        for doubt in read.reading.doubts():
            log_progress(f"check this: {doubt}")
        with spark_session("orders") as spark:
            lines = _load(spark, read, settings)
            table = _build_product_table(spark, lines, read, described, settings).cache()
            is_excluded = matches(settings.non_products, "product_id", "name", "category")
            write_parquet(table.filter(f"not {is_excluded}"), PRODUCTS.names, product_table)
            classified = classify_lines(lines, table.filter(is_excluded), settings)
            write_classified(classified, order_lines, quarantine)
    counts = count_lines(order_lines, quarantine, product_table)
    log_progress("{lines_read} lines read, {lines_quarantined} quarantined".format_map(counts))
    _check_loss(counts, settings, hide_credentials(orders))
    return CleanedOrders(counts, read.reading, described.reading if described else None)


@contextmanager
def _open_staging(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="staging-", dir=parent) as folder:
        yield Path(folder)


def _read_products(source: str, settings: ReadSettings, staging: Path) -> ReadSource | None:
    return read_source(source, "products", settings, staging / "products") if source else None


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


def _load(spark: "SparkSession", read: ReadSource, settings: ReadSettings) -> "DataFrame":
    frames = read_plain(spark, read.plain, settings.timezone)
    if read.parts:
        frames.append(spark.read.parquet(*[escape_glob(str(one)) for one in read.parts]))
    return reduce(lambda one, other: one.unionByName(other), frames)


def classify_lines(
    lines: "DataFrame", non_products: "DataFrame", settings: OrderSettings
) -> "DataFrame":
    """With raw_* text, clean_* values and `reason`, empty for good lines."""
    from pyspark.sql import functions as F

    raw = {name: f"{name}_text" if name in RAW else name for name in ORDER_LINES.names}
    frame = lines.select(
        *[F.col(column).alias(f"raw_{name}") for name, column in raw.items()],
        *[F.nullif(F.trim(name), F.lit("")).alias(f"clean_{name}") for name in IDS],
        *[F.col(name).alias(f"clean_{name}") for name in ORDER_LINES.names if name not in IDS],
        "left_out",
    )
    excluded = non_products.selectExpr("product_id as clean_product_id", "true as is_non_product")
    return frame.join(F.broadcast(excluded), "clean_product_id", "left").withColumn(
        "reason", F.expr(build_reason(settings.cancellations, settings.non_products))
    )


def write_classified(classified: "DataFrame", order_lines: Path, quarantine: Path) -> None:
    good = {f"clean_{name}": name for name in ORDER_LINES.names}
    good_lines = classified.filter("reason = ''").withColumnsRenamed(good)
    write_parquet(good_lines, ORDER_LINES.names, order_lines)
    bad = {f"raw_{name}": name for name in ORDER_LINES.names}
    bad_lines = classified.filter("reason <> ''").withColumnsRenamed(bad)
    write_parquet(bad_lines, QUARANTINE.names, quarantine)


def _build_product_table(
    spark: "SparkSession", lines: "DataFrame", read: ReadSource, described: ReadSource | None,
    settings: ReadSettings,
) -> "DataFrame":  # fmt: skip
    """The most frequent value of each product; prices that the table lacks come from the lines."""
    if described is None:
        return describe_products(lines.filter("left_out is null"), read.reading)
    frame = _load(spark, described, settings)
    return _fill_prices(describe_products(frame, described.reading), lines)


def describe_products(frame: "DataFrame", reading: Reading) -> "DataFrame":
    from pyspark.sql import functions as F

    there = {"attributes", *(ours for file in reading.files for ours in file.columns)}
    texts = [field.name for field in PRODUCTS if str(field.type) == "string"]
    trimmed = {name: F.nullif(F.trim(name), F.lit("")) for name in texts}
    filled = frame.withColumns(trimmed).filter("product_id is not null")
    return filled.groupBy("product_id").agg(
        *[
            # The most frequent value costs a sort, also of nulls alone.
            (F.mode(name, deterministic=True) if name in there else F.any_value(name)).alias(name)
            for name in PRODUCTS.names[1:]
        ]
    )


def _fill_prices(products: "DataFrame", lines: "DataFrame") -> "DataFrame":
    from pyspark.sql import functions as F

    paid = lines.select(F.trim("product_id").alias("product_id"), F.col("price").alias("paid"))
    usual = paid.filter("paid > 0").groupBy("product_id")
    joined = products.join(
        usual.agg(F.mode("paid", deterministic=True).alias("paid")), "product_id", "left"
    )
    return joined.withColumn("price", F.coalesce("price", "paid")).drop("paid")


def write_parquet(frame: "DataFrame", names: list[str], path: Path) -> None:
    with atomic_write(path) as aside:
        frame.select(*names).write.parquet(str(aside))


def _check_all_used(text: str, *sources: ReadSource | None) -> None:
    files = [file for source in sources if source for file in source.reading.files]
    used = {
        (ours, one)
        for file in files
        for ours, column in file.columns.items()
        for one in column.theirs
    }
    for ours, theirs in parse_columns(text).items():
        if not any(ours == name and theirs.casefold() == one.casefold() for name, one in used):
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
    recognised = sum(counts.get(f"quarantined: {reason}", 0) for reason in RECOGNISED)
    if lost - recognised > settings.max_loss * (read - recognised) or lost == read:
        reasons = "; ".join(f"{name}: {n}" for name, n in counts.items() if name.startswith("quar"))
        raise OrdersError(
            f"orders: {lost} of {read} lines of {source} are quarantined ({reasons}), expected at "
            f"most {settings.max_loss:.0%}; check --columns and the file, or raise max_loss"
        )
