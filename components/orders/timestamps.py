"""Timestamps as shops write them: typed, ISO text, day or month first, or seconds since 1970."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

FORMATS = (
    "yyyy-M-d['T'][ ][H:m[:s][.SSSSSS][.SSS][XXX]]",
    "yyyy/M/d[ H:m[:s]]",
    "yyyyMMdd[HHmmss]",
    "d.M.yyyy[ H:m[:s]]",
    "d/M/yyyy[ H:m[:s]]",
    "M/d/yyyy[ H:m[:s]]",
    "d-M-yyyy[ H:m[:s]]",
)
EPOCH = "epoch"
"""Seconds since 1970-01-01 UTC, or milliseconds, told apart by their size."""


class TimestampError(ValueError):
    """No known format reads the column; the message shows what was found."""


def parse_timestamp(
    frame: "DataFrame", column: str | None, ts_format: str, source: str
) -> "Column":
    """The column as UTC timestamps; null where it cannot be read, and throughout without a column.

    One format is chosen for the whole column, the one that reads most of it: choosing line by line
    would read 3/4 as April and 13/4 as April too.

    Raises TimestampError when no format reads a single value.
    """
    from pyspark.sql import functions as F

    if column is None:
        return F.lit(None).cast("timestamp")
    value = F.col(f"`{column}`")
    kind = frame.schema[column].dataType.typeName()
    if kind in ("timestamp", "timestamp_ntz", "date"):
        return value.cast("timestamp")
    text = F.trim(value.cast("string"))
    if ts_format:
        return _parse_text(text, ts_format)
    sample = frame.select(text.alias("t")).filter("t <> ''").limit(100_000)
    counts = sample.agg(
        F.count("t").alias("n"), F.first("t").alias("example"),
        *[F.count(_parse_text(F.col("t"), one)).alias(one) for one in (*FORMATS, EPOCH)],
    ).first()  # fmt: skip
    assert counts is not None
    best = max((*FORMATS, EPOCH), key=lambda one: counts[one])
    if counts["n"] and not counts[best]:
        raise TimestampError(
            f"{source}: column {column!r} (for ts) holds {counts['example']!r}, which no known "
            f"format reads; give its Spark pattern with --ts-format, e.g. 'd/M/yyyy H:mm'"
        )
    return _parse_text(text, best)


def _parse_text(text: "Column", ts_format: str) -> "Column":
    from pyspark.sql import functions as F

    if ts_format != EPOCH:
        return F.try_to_timestamp(text, F.lit(ts_format))
    seconds = F.when(text.rlike(r"^\d{9,13}(\.\d+)?$"), text.try_cast("double"))
    return F.timestamp_seconds(F.when(seconds > 1e11, seconds / 1000).otherwise(seconds))
