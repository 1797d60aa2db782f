"""`fbt bench baskets`: basket generation and data checks on 10 M lines, against DuckDB."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.contracts import ORDER_LINES, PRODUCTS, QUARANTINE, write_table
from pipelines.bench.processes import python_command
from tests.bench.costs import Cost, measure

N_LINES, N_PRODUCTS, MEAN_SIZE = 10_000_000, 100_000, 5
ROUNDS = 3
CHUNK = 1_000_000


def bench() -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Figures and rows. Ours, the checks and the peer take turns, so that noise hits all alike."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        generate(path)
        commands = {
            "fbt baskets (Spark)": python_command(_ours(path)),
            "fbt checks (Great Expectations)": python_command(_checks(path)),
            "DuckDB, the same baskets": python_command(
                f"from tests.bench.baskets import peer; peer({folder!r})"
            ),
        }
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for round_ in range(1, ROUNDS + 1):
            for name, command in commands.items():
                print(f"  round {round_} of {ROUNDS}: {name}", flush=True)
                costs[name].append(measure(command))
    cpu = {name: statistics.median(c.cpu_s for c in found) for name, found in costs.items()}
    ours, checks, duckdb = cpu.values()
    peaks = {name: max(c.peak_gb for c in found) for name, found in costs.items()}
    figures = {
        "baskets_cpu_vs_duckdb": ours / duckdb,
        "baskets_peak_gb": next(iter(peaks.values())),
        "checks_cpu_vs_baskets": checks / ours,
    }
    rows = [
        {
            "what": name, "cpu_s": cpu[name], "peak_gb": peaks[name],
            "cpu_s_min": min(c.cpu_s for c in found), "cpu_s_max": max(c.cpu_s for c in found),
            "wall_s": statistics.median(c.wall_s for c in found),
        }
        for name, found in costs.items()
    ]  # fmt: skip
    return figures, rows


def generate(folder: Path, n_lines: int = N_LINES) -> None:
    """ORDER_LINES with Zipf products and geometric basket sizes (mean 5), a year, seeded."""
    rng = np.random.default_rng(1)
    schema = pa.schema(list(ORDER_LINES))
    popularity = 1 / np.arange(1, N_PRODUCTS + 1)
    cumulative = np.cumsum(popularity / popularity.sum())
    order = 0
    (folder / "lines").mkdir()
    for part in range(0, n_lines, CHUNK):
        n = min(CHUNK, n_lines - part)
        order_ids = order + np.cumsum(rng.random(n) < 1 / MEAN_SIZE)
        order = int(order_ids[-1])
        products = np.minimum(np.searchsorted(cumulative, rng.random(n)), N_PRODUCTS - 1)
        table = pa.table(
            [
                pa.array(order_ids).cast(pa.string()),
                pa.array(order_ids % 50_000).cast(pa.string()),
                pa.array(products).cast(pa.string()),
                pa.array(1.7e15 + order_ids * 1e7).cast(pa.int64()).cast(schema.field("ts").type),
                pa.nulls(n, pa.int32()),
                pa.array(rng.integers(1, 4, n).astype(float)),
                pa.array(np.round(rng.gamma(2, 3, n), 2)),
            ],
            schema=schema,
        )
        pq.write_table(table, folder / "lines" / f"part-{part:09d}.parquet")
    write_table(QUARANTINE.empty_table(), QUARANTINE, folder / "quarantine")
    ids = pa.array(np.arange(N_PRODUCTS)).cast(pa.string())
    cards = {
        f.name: ids if f.name == "product_id" else pa.nulls(len(ids), f.type) for f in PRODUCTS
    }
    write_table(pa.table(cards), PRODUCTS, folder / "products")


def peer(folder: str) -> None:
    """The same baskets by DuckDB: distinct products, cap, time split, Parquet."""
    import duckdb

    duckdb.sql(
        f"""
        create table orders as
        select order_id, max(user_id) as user_id, min(ts) as ts,
               list_sort(list_distinct(list(product_id))) as items
        from read_parquet('{folder}/lines/*.parquet') group by order_id
        """
    )
    cap, train, validation = duckdb.execute(
        """
        select (select quantile_cont(len(items), 0.999) from orders),
               quantile_disc(ts, 0.8), quantile_disc(ts, 0.9) from orders where len(items) > 1
        """
    ).fetchall()[0]
    duckdb.execute(
        f"""
        copy (select *, 1.0::float as weight,
                     case when ts <= $1 then 'train' when ts <= $2 then 'validation'
                          else 'test' end as split
              from orders where len(items) between 2 and {int(cap)})
        to '{folder}/peer.parquet' (format parquet)
        """,
        [train, validation],
    )


def _ours(folder: Path) -> str:
    return (
        "from pathlib import Path; from components.baskets.build import *; "
        f"build_baskets(Path({str(folder / 'lines')!r}), Path({str(folder / 'baskets')!r}), "
        "BasketSettings())"
    )


def _checks(folder: Path) -> str:
    paths = ", ".join(
        f"Path({str(folder / name)!r})" for name in ("lines", "quarantine", "products")
    )
    return (
        "from pathlib import Path; from data_checks.check import *; "
        f"check_order_lines({paths}, None, CheckSettings())"
    )
