"""The columns of a product table."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa


def product_schema() -> "pa.Schema":
    """One product, one row.

    `price` and `margin` are per unit, in the shop's currency; `attributes` is a JSON object of
    texts: all other columns that the shop has.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("product_id", pa.string(), nullable=False),
            pa.field("name", pa.string()),
            pa.field("category", pa.string()),
            pa.field("brand", pa.string()),
            pa.field("price", pa.float64()),
            pa.field("image_url", pa.string()),
            pa.field("in_stock", pa.bool_()),
            pa.field("margin", pa.float64()),
            pa.field("added_at", pa.timestamp("us", tz="UTC")),
            pa.field("attributes", pa.string()),
        ],
        metadata={"name": "products"},
    )
