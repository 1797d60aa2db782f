"""Timestamps of any common format: typed, ISO, day or month first, Unix time."""

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
"""Unix time in seconds or milliseconds, by magnitude."""


class TimestampError(ValueError):
    """No known format parses the column."""


def parse_timestamp(
    frame: "DataFrame", column: str | None, ts_format: str, source: str
) -> "Column":
    """UTC timestamps, null where unreadable, by the format that parses most of the column.

    A format per line would put 3/4 and 13/4 both in April. Raises TimestampError.
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
            f"{source}: column {column!r} (for ts) holds {counts['example']!r}, expected a known "
            "timestamp format; give its Spark pattern with --ts-format, e.g. 'd/M/yyyy H:mm'"
        )
    return _parse_text(text, best)


def _parse_text(text: "Column", ts_format: str) -> "Column":
    from pyspark.sql import functions as F

    if ts_format != EPOCH:
        return F.try_to_timestamp(text, F.lit(ts_format))
    seconds = F.when(text.rlike(r"^\d{9,13}(\.\d+)?$"), text.try_cast("double"))
    return F.timestamp_seconds(F.when(seconds > 1e11, seconds / 1000).otherwise(seconds))
