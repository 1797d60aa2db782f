"""`fbt bench scale`: what training costs as shops grow, part by part, each in its own process."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.bench.measure import Cost, measure, python
from pipelines.bench.orders import Shop, write_baskets

SIZES = (Shop(1_000_000, 20_000), Shop(50_000_000, 1_000_000))
"""Small and large: as many lines per product."""

MIN_ORDERS = 5

PARTS = ("encode", "pairs", "neighbours")
"""Functions of this module that measure; item2vec costs by its epochs and has a bench of its own.
What a part of the pipeline reads from Parquet again counts once, in `encode`."""

CONTEXT = {
    "measured": "baskets in Parquet to catalogue and integers, pairs, neighbours, in one thread",
    "not measured": "cleaning orders, building baskets (fbt bench baskets), item2vec, the bundle",
}


def bench(sizes: tuple[Shop, ...] = SIZES) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Figures and rows: peak memory of the largest, and its CPU seconds per line to the first's.

    From baskets to the neighbours' weights; orders are cleaned and baskets built before.
    """
    rows: list[dict[str, Any]] = []
    for shop in sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows += _measured(shop, Path(folder))
    per_line = {
        shop: sum(row["cpu_s"] for row in rows if row["lines"] == shop.n_lines) / shop.n_lines
        for shop in sizes
    }
    figures = {
        "scale_peak_gb": max(row["peak_gb"] for row in rows),
        "scale_cost_per_line_ratio": per_line[sizes[-1]] / per_line[sizes[0]],
        "scale_cpu_us_per_line": 1e6 * per_line[sizes[-1]],
    }
    return figures, rows


def _measured(shop: Shop, folder: Path) -> list[dict[str, Any]]:
    print(f"  writing {shop.n_lines:,} lines of {shop.n_products:,} products", flush=True)
    write_baskets(shop, folder / "baskets")
    rows = []
    for part in PARTS:
        print(f"  {part}: {shop.n_lines:,} lines of {shop.n_products:,} products", flush=True)
        cost: Cost = measure(
            python(f"from pipelines.bench.scale import *; {part}(Path({str(folder)!r}))"),
            {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        rows.append(
            {
                "lines": shop.n_lines, "products": shop.n_products, "part": part,
                "cpu_s": cost.cpu_s, "cpu_us_per_line": 1e6 * cost.cpu_s / shop.n_lines,
                "peak_gb": cost.peak_gb, "wall_s": cost.wall_s,
            }
        )  # fmt: skip
    return rows


def encode(folder: Path) -> None:
    """Baskets as Parquet to the catalogue and its training baskets as integers."""
    from components.baskets import corpus

    baskets = corpus.read_baskets(folder / "baskets")
    product_ids, n_orders = corpus.catalogue_of(baskets, MIN_ORDERS)
    found = corpus.encode(baskets, product_ids, "train")
    np.save(folder / "n_orders.npy", n_orders)
    for name, array in vars(found).items():
        np.save(folder / f"{name}.npy", array)
    print(f"  {len(n_orders):,} products in {len(found):,} training baskets", flush=True)


def pairs(folder: Path) -> None:
    """The strongest pairs of all products."""
    from components.embeddings.cooccurrence import count_pairs, write_pairs

    n_orders = np.load(folder / "n_orders.npy")
    found = count_pairs(_corpus(folder), len(n_orders))
    write_pairs(found, folder / "pairs")
    print(f"  {len(found.rows):,} pairs", flush=True)


def neighbours(folder: Path) -> None:
    """The regressions of all products, with the counts that they learn from."""
    from components.baskets.tricks import Training
    from components.bundle.bundle import save_group
    from components.neighbours.model import fit_training
    from components.neighbours.ridge import NeighbourSettings

    n_items = len(np.load(folder / "n_orders.npy"))
    found = fit_training(Training(_corpus(folder), None), n_items, NeighbourSettings())
    save_group(found, folder)
    print(f"  {len(found.rows):,} weights", flush=True)


def _corpus(folder: Path) -> Any:
    from components.baskets.corpus import Corpus

    return Corpus(*(np.load(folder / f"{name}.npy") for name in ("items", "offsets", "weights")))
