"""A shop's own Parquet files as Spark frames with the columns of normalised lines."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from components.sources.formats import NUMBERS, TIMES, TRUE
from components.sources.plain_parquet import CLOCKS, PlainColumn, PlainParquet
from components.sources.tables import sql_text
from components.sources.typed_columns import EARLIEST, RAW, TEXTS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def read_plain(
    spark: "SparkSession", files: Iterable[PlainParquet], timezone: str
) -> "list[DataFrame]":
    """Spark applies one schema to all files of a read: they are grouped by theirs."""
    groups: dict[tuple[PlainColumn, ...], list[str]] = {}
    for file in files:
        groups.setdefault(file.columns, []).append(escape_glob(file.address))
    return [
        spark.read.parquet(*found).selectExpr(
            *[f"{sql} as {name}" for name, sql in _select(columns, timezone).items()]
        )
        for columns, found in groups.items()
    ]


def escape_glob(path: str) -> str:
    """Spark takes brackets and stars in a path for a pattern."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path)


def _select(columns: Iterable[PlainColumn], timezone: str) -> dict[str, str]:
    """The same values as `Understood.select_lines` gives, in Spark's SQL."""
    there = {one.ours: one for one in columns}
    texts = {name: _text(there, name) for name in TEXTS}
    texts |= {f"{name}_text": _text(there, name) for name in RAW}
    numbers = {name: _number(there, name) for name in NUMBERS}
    times = {name: _moment(there, name, timezone) for name in TIMES}
    price, position, ts = numbers["price"], numbers["position"], times["ts"]
    flags = ", ".join(map(sql_text, TRUE))
    return {
        **texts, **numbers, **times,
        "quantity": numbers["quantity"] if "quantity" in there else "1.0D",
        "price": f"case when {price} >= 0 then {price} end",
        "position": f"try_cast(case when {position} >= 0 and {position} = floor({position}) "
        f"then {position} end as int)",
        "ts": f"case when {ts} between timestamp '{EARLIEST}' "
        f"and current_timestamp() + interval 1 day then {ts} end",
        "in_stock": f"lower(trim({_text(there, 'in_stock')})) in ({flags})",
        "attributes": "cast(null as string)",
        "left_out": "cast(null as string)",
    }  # fmt: skip


def _text(there: Mapping[str, PlainColumn], name: str) -> str:
    """Whole numbers without .0."""
    if name not in there:
        return "cast(null as string)"
    column, kind = f"`{there[name].theirs}`", there[name].type
    text = f"cast({column} as string)"
    if kind.startswith(("FLOAT", "DOUBLE")):
        whole = f"cast(cast({column} as decimal(38,0)) as string)"
        return f"case when {column} = floor({column}) then {whole} else {text} end"
    if kind.startswith("DECIMAL"):
        return f"regexp_replace({text}, '\\.0+$', '')"
    return text


def _number(there: Mapping[str, PlainColumn], name: str) -> str:
    if name not in there:
        return "cast(null as double)"
    number = f"cast(`{there[name].theirs}` as double)"
    return f"case when abs({number}) < double('Infinity') then {number} end"


def _moment(there: Mapping[str, PlainColumn], name: str, timezone: str) -> str:
    """Clocks without zone are those of the shop."""
    if name not in there:
        return "cast(null as timestamp)"
    moment = f"cast(`{there[name].theirs}` as timestamp)"
    is_clock = there[name].type in CLOCKS
    return f"to_utc_timestamp({moment}, {sql_text(timezone)})" if is_clock else moment
