"""Mapping of our column names to those of a shop's table."""

from typing import TYPE_CHECKING

from components.contracts import ORDER_LINES, PRODUCTS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

REQUIRED = ("order_id", "product_id")
DERIVED_COLUMN = "attributes"
"""Built from all columns of a product table that are not mapped."""
KNOWN_COLUMNS = tuple(
    one for one in dict.fromkeys([*ORDER_LINES.names, *PRODUCTS.names]) if one != DERIVED_COLUMN
)


class ColumnsError(ValueError):
    """The column mapping does not fit the table."""


def parse_columns(text: str) -> dict[str, str]:
    """Parse `order_id=Invoice,…` to {our name: the shop's name}; raises ColumnsError."""
    columns: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals or not theirs:
            raise ColumnsError(
                f"columns: {pair!r} is no pair, expected OURS=THEIRS; separate by commas"
            )
        if ours not in KNOWN_COLUMNS:
            raise ColumnsError(
                f"columns: {ours!r} is unknown, expected one of {', '.join(KNOWN_COLUMNS)}; write "
                "OURS=THEIRS"
            )
        columns[ours] = theirs
    return columns


def resolve_columns(
    columns: dict[str, str], found: list[str], required: tuple[str, ...], source: str
) -> dict[str, str]:
    """Columns that are `found`, those with our names included; raises ColumnsError."""
    own = {name: name for name in KNOWN_COLUMNS if name in found}
    resolved = own | {ours: theirs for ours, theirs in columns.items() if theirs in found}
    for ours in required:
        if ours not in resolved:
            named = columns.get(ours)
            missing = f"column {named!r} (for {ours})" if named else f"a column for {ours}"
            raise ColumnsError(
                f"{source}: {missing} is missing; found {', '.join(found)}; "
                f"name it with --columns {ours}=ITS_NAME"
            )
    return resolved


def cast_to_text(frame: "DataFrame", name: str) -> "Column":
    """Whole floats lose their .0: ids that a spreadsheet made numbers."""
    from pyspark.sql import functions as F

    quoted = F.col(f"`{name}`")
    if frame.schema[name].dataType.typeName() in ("float", "double"):
        whole = quoted == F.floor(quoted)
        return F.when(whole, quoted.cast("decimal(38,0)").cast("string")).otherwise(
            quoted.cast("string")
        )
    return quoted.cast("string")
