"""`fbt inspect`: how a source would be read, before any run."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from components.contracts import ORDER_LINES, PRODUCTS
from components.orders.clean import RECOGNISED, OrderSettings
from components.orders.reasons import build_reason, matches
from components.sources.database import hide_credentials
from components.sources.normalise import Lines, connect, describe, understand_files
from components.sources.reading import Reading
from components.sources.sampling import SAMPLE_FROM, sample_text
from components.sources.selection import IDS, NO_LINES
from components.sources.source import open_source
from components.sources.tables import fetch_one, sql_name, sql_text
from components.sources.typed_columns import RAW
from components.sources.understand import Kind
from components.sources.unpack import PlainFile
from data_checks.check import check_order_lines
from data_checks.expectations import compare
from data_checks.settings import CheckSettings
from pipelines.parameters import format_command

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

N_SHOWN = 10
SAMPLE_ROWS = 1_000_000
"""Of Parquet, in which no file is cut."""
OF_TIME = ("longest_gap_days", "busiest_day_share")
"""Checks that a sample would fail for its gaps."""
SHOWN = ("order_id", "user_id", "product_id", "ts", "position", "quantity", "price", "name")


class Inspection(BaseModel):
    model_config = ConfigDict(frozen=True)

    reading: Reading
    products: Reading | None
    sampled_share: float
    """Of the bytes or rows; 1 for sources that were read whole."""
    numbers: dict[str, int]
    """n_lines, n_orders, n_products, n_customers of the part that was read, without lost lines."""
    lost: dict[str, int]
    """Lines by the reason for which they would be set aside."""
    lost_share: float
    """Without the lines that a platform itself marks as no sale."""
    basket_sizes: dict[str, int]
    first: str
    last: str
    """Days of the shop."""
    lines: list[dict[str, Any]]
    checks: list[dict[str, Any]]
    """Those that do not pass."""
    command: str


def inspect_source(orders: str, products: str, settings: OrderSettings) -> Inspection:
    """Raises SourceError."""
    with tempfile.TemporaryDirectory(prefix="fbt-inspect-") as folder, connect(Path(folder)) as con:
        scratch, given = Path(folder), settings.model_dump()
        con.execute("set preserve_insertion_order=true")
        con.execute("create macro regexp_like(text, pattern) as regexp_matches(text, pattern)")
        described = _read_products(con, products, settings, scratch / "products")
        known = "described" if described else None
        lines, share = _understand(con, orders, "orders", settings, scratch / "orders", known)
        share *= _create_lines(con, lines)
        _classify(con, known, settings)
        return Inspection(
            reading=describe(con, hide_credentials(orders), lines, "lines", settings),
            products=described, sampled_share=share, lines=_show_lines(con, settings.timezone),
            checks=_check(con, known, settings.timezone, scratch, is_whole=share == 1),
            command=format_command("run", {"orders": orders, "products": products, **given}),
            **_count(con, settings.timezone),
        )  # fmt: skip


def _read_products(
    con: "DuckDBPyConnection", source: str, settings: OrderSettings, scratch: Path
) -> Reading | None:
    if not source:
        return None
    found, _ = _understand(con, source, "products", settings, scratch, None)
    con.execute(f"create temp table described as {found.select_all()}")
    return describe(con, hide_credentials(source), found, "described", settings)


def _understand(
    con: "DuckDBPyConnection", source: str, kind: Kind, settings: OrderSettings, scratch: Path,
    known: str | None,
) -> tuple[Lines, float]:  # fmt: skip
    """With the share of the source that was read."""
    files = open_source(source, scratch, settings.encoding)
    sampled = [_sample(file, scratch, number) for number, file in enumerate(files)]
    n_bytes = [file.path.stat().st_size for file in files]
    read = sum(share * n for (_, share), n in zip(sampled, n_bytes, strict=True))
    chosen = [file for file, _ in sampled]
    lines = understand_files(con, chosen, kind, settings, scratch / "tables", known)
    return lines, read / max(1, sum(n_bytes))


def _sample(file: PlainFile, scratch: Path, number: int) -> tuple[PlainFile, float]:
    if file.kind != "text" or file.path.stat().st_size < SAMPLE_FROM:
        return file, 1.0
    target = scratch / f"sample-{number}"
    share = sample_text(file.path, target)
    return replace(file, path=target), share


def _create_lines(con: "DuckDBPyConnection", lines: Lines) -> float:
    """The table `lines`, of whole orders where there are very many; return their share."""
    reasons = ", ".join(map(sql_text, NO_LINES))
    every = f"select * from ({lines.select_all()}) where coalesce(left_out, '') not in ({reasons})"
    n_rows = fetch_one(con, f"select count(*) from ({every})")[0]
    part = max(1, n_rows // SAMPLE_ROWS)
    chosen = f"where hash(order_id) % {part} = 0" if part > 1 else ""
    con.execute(f"create temp table lines as select * from ({every}) {chosen}")
    return float(1 / part)


def _classify(con: "DuckDBPyConnection", known: str | None, settings: OrderSettings) -> None:
    """The tables `classified`, with the reason for which a line would be set aside, and `good`."""
    is_excluded = matches(settings.non_products, "product_id", "name", "category")
    excluded = f"select distinct trim(product_id) as id from {known or 'lines'} where {is_excluded}"
    reason = build_reason(settings.cancellations, settings.non_products)
    clean = ", ".join(f"nullif(trim({one}), '') as clean_{one}" for one in IDS)
    joined = (
        f"select *, {clean}, quantity as clean_quantity, "
        f"case when trim(product_id) in ({excluded}) then true end as is_non_product from lines"
    )
    con.execute(f"create temp table classified as select *, {reason} as reason from ({joined})")
    con.execute("create temp view good as select * from classified where reason = ''")


def _count(con: "DuckDBPyConnection", timezone: str) -> dict[str, Any]:
    day = f"strftime(ts at time zone {sql_text(timezone)}, '%Y-%m-%d')"
    numbers = fetch_one(
        con,
        "select count(*), count(distinct clean_order_id), count(distinct clean_product_id), "
        f"count(distinct clean_user_id), coalesce(min({day}), ''), coalesce(max({day}), '') "
        "from good",
    )
    lost = dict(
        con.execute(
            "select reason, count(*) from classified where reason <> '' group by 1 order by 2 desc"
        ).fetchall()
    )
    faults = sum(n for reason, n in lost.items() if reason not in RECOGNISED)
    names = ("n_lines", "n_orders", "n_products", "n_customers")
    return {
        "numbers": dict(zip(names, numbers[:4], strict=True)),
        "lost": lost,
        "lost_share": faults / max(1, faults + numbers[0]),
        "basket_sizes": _count_sizes(con),
        "first": numbers[4],
        "last": numbers[5],
    }


def _count_sizes(con: "DuckDBPyConnection") -> dict[str, int]:
    sizes = "select count(distinct clean_product_id) as n from good group by clean_order_id"
    bar = "when n > 20 then '21+' when n > 10 then '11–20' when n > 5 then '6–10' else n::text"
    query = f"select case {bar} end, count(*) from ({sizes}) group by 1 order by min(n)"
    return dict(con.execute(query).fetchall())


def _show_lines(con: "DuckDBPyConnection", timezone: str) -> list[dict[str, Any]]:
    """The first and the last lines as understood, times on the shop's clock."""
    found = con.execute("select name from pragma_table_info('good')").fetchall()
    there = {name for (name,) in found}
    clock = f"strftime(ts at time zone {sql_text(timezone)}, '%Y-%m-%d %H:%M:%S') as ts"
    names = [one for one in SHOWN if one in there]
    columns = ", ".join(clock if one == "ts" else one for one in names)
    numbered = "(select *, row_number() over () as n, count(*) over () as n_all from good)"
    shown = f"n <= {N_SHOWN // 2} or n > n_all - {N_SHOWN // 2}"
    rows = con.execute(f"select {columns} from {numbered} where {shown} order by n").fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


def _check(
    con: "DuckDBPyConnection", known: str | None, timezone: str, scratch: Path, is_whole: bool
) -> list[dict[str, Any]]:
    """The data checks of a run that do not pass."""
    raw = ", ".join(f"{one}_text as {one}" if one in RAW else one for one in ORDER_LINES.names)
    clean = ", ".join(f"clean_{one} as {one}" if one in IDS else one for one in ORDER_LINES.names)
    queries = {
        "lines": f"select {clean} from good",
        "quarantine": f"select {raw}, reason from classified where reason <> ''",
        "products": _select_products(known),
    }
    paths = {name: scratch / f"{name}.parquet" for name in queries}
    for name, query in queries.items():
        con.execute(f"copy ({query}) to {sql_text(str(paths[name]))} (format parquet)")
    found = check_order_lines(
        paths["lines"],
        paths["quarantine"],
        paths["products"],
        None,
        CheckSettings.model_validate({"timezone": timezone}),
        compare,
    )
    skipped = () if is_whole else OF_TIME
    return [dict(one) for one in found.results if not one["passed"] and one["name"] not in skipped]


def _select_products(known: str | None) -> str:
    names = [name for name in PRODUCTS.names if name != "product_id"]
    values = ", ".join(f"any_value({sql_name(name)}) as {sql_name(name)}" for name in names)
    return (
        f"select trim(product_id) as product_id, {values} from {known or 'good'} "
        "where trim(product_id) <> '' group by 1"
    )
