"""`fbt bench scale`: costs of training by size of the shop, each part in its own process."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.bench.processes import python_command
from tests.bench.costs import Cost, measure
from tests.bench.orders import Shop, write_baskets, write_products

SIZES = (Shop(1_000_000, 20_000), Shop(50_000_000, 1_000_000))
"""Small and large: as many lines per product."""

MIN_ORDERS, SEED = 5, 1

N_SIMILAR, K_SIMILAR = 2_000, 100
"""Products whose substitutes are asked for, and how many of them, as by the service."""

PARTS = ("weighting", "vectors", "pairs", "neighbours", "ranking", "refit", "bundle")
"""Functions of this module, in the order of a run."""

CONTEXT = {
    "measured": "baskets in Parquet to a bundle, one training of item2vec, in one thread",
    "not measured": "cleaning orders, building baskets (fbt bench baskets), trials of the sweep",
}


def bench(sizes: tuple[Shop, ...] = SIZES) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Figures and rows: peak memory of the largest, its CPU seconds per line to the first's, and
    the p99 of its substitutes.

    From baskets to the bundle; orders are cleaned and baskets built before.
    """
    rows: list[dict[str, Any]] = []
    similar_ms = 0.0
    for shop in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_shop(shop, Path(folder))
            rows += [measure_part(shop, part, Path(folder)) for part in PARTS]
            similar_ms = measure_similar(Path(folder) / "bundle")
    figures, rows = compute_figures(rows, sizes)
    return {**figures, "similar_p99_ms": similar_ms}, rows


def measure_similar(bundle_dir: Path) -> float:
    """p99 of the milliseconds in which a process finds the substitutes of a product."""
    from components.model.bundle import read_bundle
    from components.model.recommender import Recommender

    recommender = Recommender(read_bundle(bundle_dir))
    rng, n_items = np.random.default_rng(SEED), recommender.n_items
    known = recommender.bundle.product_ids
    ids = [known[row] for row in rng.integers(n_items, size=N_SIMILAR)]
    recommender.similar_items(ids[0], K_SIMILAR)  # Loads the index
    times_ms = []
    for id_ in ids:
        start = time.perf_counter()
        recommender.similar_items(id_, K_SIMILAR)
        times_ms.append(1000 * (time.perf_counter() - start))
    return float(np.quantile(times_ms, 0.99))


def compute_figures(
    rows: list[dict[str, Any]], sizes: tuple[Shop, ...]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The figures of measured rows, and the rows with each part's ratio to that of the first."""
    small, large = sizes[0].n_lines, sizes[-1].n_lines
    first = {row["part"]: row["cpu_us_per_line"] for row in rows if row["lines"] == small}
    rows = [{**row, "ratio": row["cpu_us_per_line"] / first[row["part"]]} for row in rows]
    per_line = sum(row["cpu_us_per_line"] for row in rows if row["lines"] == large)
    figures = {
        "scale_peak_gb": max(row["peak_gb"] for row in rows),
        "scale_cost_per_line_ratio": per_line / sum(first.values()),
        "scale_cpu_us_per_line": per_line,
    }
    return figures, rows


def write_shop(shop: Shop, folder: Path) -> None:
    """What training starts from."""
    print(f"  writing {shop.n_lines:,} lines of {shop.n_products:,} products", flush=True)
    write_baskets(shop, folder / "baskets")
    write_products(shop, folder / "products.parquet")
    (folder / "counts.json").write_text('{"first_order": null}')


def measure_part(shop: Shop, part: str, folder: Path) -> dict[str, Any]:
    """The row of a part, after those before it; shown at once, for a large shop takes hours."""
    print(f"  {part}: {shop.n_lines:,} lines of {shop.n_products:,} products", flush=True)
    cost: Cost = measure(
        python_command(f"from tests.bench.scale import *; {part}(Path({str(folder)!r}))"),
        {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    row = {
        "lines": shop.n_lines, "products": shop.n_products, "part": part,
        "cpu_s": cost.cpu_s, "cpu_us_per_line": 1e6 * cost.cpu_s / shop.n_lines,
        "peak_gb": cost.peak_gb, "wall_s": cost.wall_s,
    }  # fmt: skip
    print(f"  {json.dumps(row)}", flush=True)
    return row


def weighting(folder: Path) -> None:
    """Which training baskets count how much."""
    from components.results import write_json
    from components.weighting.choose import choose_weighting

    chosen, _ = choose_weighting(folder / "baskets", MIN_ORDERS, SEED)
    write_json(chosen.model_dump(), folder / "weighting.json")


def vectors(folder: Path) -> None:
    """item2vec by its defaults, and its betas."""
    from components.embeddings.item2vec import TrainSettings
    from components.embeddings.model import train_vectors

    settings = TrainSettings(seed=SEED)
    train_vectors(folder / "baskets", settings, MIN_ORDERS, folder / "vectors")


def pairs(folder: Path) -> None:
    """The strongest pairs of all products."""
    from components.embeddings.model import count_cooccurrence

    count_cooccurrence(
        folder / "baskets", folder / "vectors", folder / "cooccurrence", _read_weighting(folder)
    )


def neighbours(folder: Path) -> None:
    """The regressions of all products, with the counts that they learn from."""
    from components.neighbours.model import train_neighbours

    train_neighbours(folder / "baskets", folder / "vectors", folder / "neighbours")


def ranking(folder: Path) -> None:
    """What is mixed, variants and re-rankers, all by validation baskets."""
    from components.ranking.model import train_ranking

    train_ranking(
        folder / "baskets", folder / "vectors", folder / "cooccurrence", folder / "neighbours",
        folder / "products.parquet", folder / "ranking", SEED, _read_weighting(folder),
    )  # fmt: skip


def refit(folder: Path) -> None:
    """All that is counted, counted again, the index, and every page."""
    from components.refit import refit

    refit.refit(
        folder / "baskets", folder / "vectors", folder / "ranking", folder / "products.parquet",
        _model(folder), SEED, _read_weighting(folder),
    )  # fmt: skip


def bundle(folder: Path) -> None:
    """All that serving needs, in one directory."""
    from components.bundle.build import build_bundle

    model = _model(folder)
    build_bundle(
        model.vectors, model.cooccurrence, model.neighbours, model.ranking,
        folder / "products.parquet", folder / "counts.json", {"config": {}}, SEED,
        folder / "bundle",
    )  # fmt: skip


def _read_weighting(folder: Path) -> Any:
    from components.baskets.weighting import BasketWeighting
    from components.results import read_json

    return BasketWeighting(**read_json(folder / "weighting.json"))


def _model(folder: Path) -> Any:
    from components.refit.refit import ModelPaths

    names = ("vectors", "cooccurrence", "neighbours", "ranking")
    return ModelPaths(*(folder / "newest" / name for name in names))
