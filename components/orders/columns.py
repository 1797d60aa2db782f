"""Which column of a shop's table is which column of ours."""

from typing import TYPE_CHECKING

from components.contracts import ORDER_LINES, PRODUCTS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

REQUIRED = ("order_id", "product_id")
DERIVED_COLUMN = "attributes"
"""The column of PRODUCTS that is made of all columns of a product table that are no other."""
KNOWN_COLUMNS = tuple(
    one for one in dict.fromkeys([*ORDER_LINES.names, *PRODUCTS.names]) if one != DERIVED_COLUMN
)


class ColumnsError(ValueError):
    """The column mapping does not fit; the message says which and what was found."""


def parse_columns(text: str) -> dict[str, str]:
    """`order_id=Invoice,product_id=StockCode` as {our name: the shop's name}.

    Raises ColumnsError for a name we do not have or a pair without `=`.
    """
    columns: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals or not theirs:
            raise ColumnsError(f"columns: {pair!r} is no pair, expected ours=theirs")
        if ours not in KNOWN_COLUMNS:
            raise ColumnsError(
                f"columns: {ours!r} is unknown, expected one of {', '.join(KNOWN_COLUMNS)}"
            )
        columns[ours] = theirs
    return columns


def resolve_columns(
    columns: dict[str, str], found: list[str], wanted: tuple[str, ...], source: str
) -> dict[str, str]:
    """The part of the mapping that `found` can serve: {our name: the shop's name}.

    A column that already has our name needs no mapping. Raises ColumnsError when one of `wanted`
    is not to be had.
    """
    resolved = {ours: theirs for ours, theirs in columns.items() if theirs in found}
    for ours in KNOWN_COLUMNS:
        if ours in found:
            resolved.setdefault(ours, ours)
    for ours in wanted:
        if ours not in resolved:
            named = columns.get(ours)
            missing = f"column {named!r} (for {ours})" if named else f"a column for {ours}"
            raise ColumnsError(
                f"{source}: {missing} is missing; found {', '.join(found)}; "
                f"name it with --columns {ours}=ITS_NAME"
            )
    return resolved


def cast_to_text(frame: "DataFrame", name: str) -> "Column":
    """The column as text; whole floats lose their .0, for ids that passed through a spreadsheet."""
    from pyspark.sql import functions as F

    quoted = F.col(f"`{name}`")
    if frame.schema[name].dataType.typeName() in ("float", "double"):
        whole = quoted == F.floor(quoted)
        return F.when(whole, quoted.cast("decimal(38,0)").cast("string")).otherwise(
            quoted.cast("string")
        )
    return quoted.cast("string")
