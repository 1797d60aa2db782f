"""`fbt bench reading`: 10 M lines of CSV, read and cleaned, against Spark's own CSV reader."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from components.sources.tables import sql_text
from pipelines.bench.processes import python_command
from tests.bench.costs import Cost, measure

N_LINES, N_PRODUCTS = 10_000_000, 100_000
ROUNDS = 3


def bench() -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Figures and rows; both readers take turns, so that noise hits them alike."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "orders.csv")
        generate(source)
        commands = {
            "fbt orders": python_command(_call("clean", source)),
            "Spark's CSV reader": python_command(_call("clean_by_spark", source)),
            "fbt inspect": python_command(_call("inspect", source)),
        }
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for round_ in range(1, ROUNDS + 1):
            for name, command in commands.items():
                print(f"  round {round_} of {ROUNDS}: {name}", flush=True)
                costs[name].append(measure(command))
    cpu = {name: statistics.median(c.cpu_s for c in found) for name, found in costs.items()}
    peak = {name: max(c.peak_gb for c in found) for name, found in costs.items()}
    wall = {name: statistics.median(c.wall_s for c in found) for name, found in costs.items()}
    ours, spark, inspect = commands
    figures = {
        "read_cpu_vs_before": cpu[ours] / cpu[spark],
        "read_peak_vs_before": peak[ours] / peak[spark],
        "inspect_s": wall[inspect],
    }
    rows = [
        {"what": name, "cpu_s": cpu[name], "peak_gb": peak[name], "wall_s": wall[name]}
        for name in commands
    ]
    return figures, rows


def _call(function: str, source: Path) -> str:
    return f"from tests.bench.reading import {function}; {function}({str(source)!r})"


def generate(path: Path, n_lines: int = N_LINES) -> None:
    """Orders of four lines over three years, 79 bytes a line."""
    import duckdb

    lines = f"""
        select printf('%08d', i // 4) as order_id,
            printf('U%06d', hash(i // 4) % 800000) as user_id,
            printf('P%06d', hash(i) % {N_PRODUCTS}) as product_id,
            strftime(timestamp '2023-01-01' + to_seconds(12 * (i // 4)), '%Y-%m-%d %H:%M:%S') as ts,
            1 + hash(7 * i) % 3 as quantity,
            printf('%.2f', (hash(3 * i) % 10000) / 100.0) as price,
            'Product of the name ' || (hash(i) % {N_PRODUCTS}) as name
        from range({n_lines}) as numbers(i)
    """
    duckdb.connect().execute(f"copy ({lines}) to {sql_text(str(path))} (header)")


def clean(source: str) -> None:
    from components.orders.clean import OrderSettings, clean_orders

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("lines", "quarantine", "products")]
        clean_orders(source, "", OrderSettings(), *paths)


def clean_by_spark(source: str) -> None:
    """As before DuckDB: the columns by place, one known format."""
    from pyspark.sql import functions as F

    from components.contracts import PRODUCTS
    from components.orders import clean as steps
    from components.orders.reasons import matches
    from components.sources.reading import ColumnReading, FileReading, Reading
    from components.spark import spark_session

    there = ("order_id", "user_id", "product_id", "ts", "quantity", "price", "name")
    columns = {name: ColumnReading(theirs=(name,)) for name in there}
    reading = Reading(source=source, files=(FileReading(name="", kind="text", columns=columns),))
    settings = steps.OrderSettings()
    with tempfile.TemporaryDirectory() as folder, spark_session("bench") as spark:
        frame = spark.read.csv(source, header=True, escape='"', ignoreLeadingWhiteSpace=False)
        texts = {f"{name}_text": F.col(name) for name in ("ts", "quantity", "price")}
        typed = {
            "ts": F.try_to_timestamp("ts", F.lit("yyyy-MM-dd HH:mm:ss")),
            "quantity": F.col("quantity").try_cast("double"),
            "price": F.col("price").try_cast("double"),
        }
        absent = ("category", "brand", "image_url", "attributes", "position_text", "left_out")
        lines = frame.withColumns(texts | typed).withColumns(
            {name: F.lit(None).cast("string") for name in absent}
            | {"position": F.lit(None).cast("int"), "in_stock": F.lit(None).cast("boolean")}
            | {"margin": F.lit(None).cast("double"), "added_at": F.lit(None).cast("timestamp")}
        )
        table = steps.describe_products(lines, reading).cache()
        is_excluded = matches(settings.non_products, "product_id", "name", "category")
        names = PRODUCTS.names
        steps.write_parquet(table.filter(f"not {is_excluded}"), names, Path(folder, "products"))
        classified = steps.classify_lines(lines, table.filter(is_excluded), settings)
        steps.write_classified(classified, Path(folder, "lines"), Path(folder, "quarantine"))


def inspect(source: str) -> None:
    from components.orders.clean import OrderSettings
    from pipelines.inspection import inspect_source

    inspect_source(source, "", OrderSettings())
