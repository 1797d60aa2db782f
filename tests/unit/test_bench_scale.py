"""`fbt bench scale`: its parts are a whole training, and figures say what was measured."""

import numpy as np
import pyarrow.compute as pc
import pytest

from components.contracts import PRODUCTS, read_table
from components.model.bundle import read_bundle
from components.model.recommender import Recommender
from tests.bench import scale
from tests.bench.orders import PER_GROUP, Shop

SHOP = Shop(n_lines=20_000, n_products=400)


def test_the_parts_make_a_bundle_that_knows_what_goes_together(tmp_path):
    scale.write_shop(SHOP, tmp_path)
    for part in scale.PARTS:
        getattr(scale, part)(tmp_path)
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.manifest.n_items == SHOP.n_products
    category = bundle.products["category"].to_numpy()
    rows, _ = Recommender(bundle).rank([np.array([row], np.int32) for row in range(100)], 10)
    # By chance a quarter would be of the same one.
    assert (category[rows] == category[:100, None]).mean() > 0.4
    assert 0 < scale.measure_similar(tmp_path / "bundle") < 1000


def test_products_have_cards_and_come_in_colours(tmp_path):
    scale.write_shop(SHOP, tmp_path)
    products = read_table(tmp_path / "products.parquet", PRODUCTS)
    assert pc.count_distinct(products["name"]).as_py() == SHOP.n_products
    sizes = [one["counts"] for one in pc.value_counts(products["category"]).to_pylist()]
    assert sizes == [PER_GROUP] * (SHOP.n_products // PER_GROUP)
    designs = {name.rsplit(" ", 1)[0] for name in products["name"].to_pylist()}
    assert len(designs) == SHOP.n_products / 4


def test_figures_compare_the_largest_with_the_first():
    def row(shop, part, cpu_s, peak_gb):
        per_line = 1e6 * cpu_s / shop.n_lines
        return {
            "lines": shop.n_lines, "part": part, "cpu_us_per_line": per_line, "peak_gb": peak_gb,
        }  # fmt: skip

    small, large = Shop(1_000, 10), Shop(10_000, 100)
    rows = [row(small, "a", 1, 3), row(small, "b", 3, 1), row(large, "a", 20, 2)]
    figures, shown = scale.compute_figures([*rows, row(large, "b", 30, 5)], (small, large))
    assert figures == {
        "scale_peak_gb": 5,
        "scale_cost_per_line_ratio": pytest.approx(1.25),
        "scale_cpu_us_per_line": pytest.approx(5_000),
    }
    assert [one["ratio"] for one in shown] == pytest.approx([1, 1, 2, 1])
