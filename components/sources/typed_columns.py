"""SQL that gives the texts of a file their types; a value that cannot be becomes null."""

from collections.abc import Mapping

from components.sources.columns import ColumnMapping
from components.sources.formats import Parsed, parse_flag
from components.sources.selection import Selection
from components.sources.tables import sql_name

TEXTS = ("order_id", "user_id", "product_id", "name", "category", "brand", "image_url")
RAW = ("ts", "position", "quantity", "price")
"""Columns whose text is kept beside the value, for the quarantine."""
EARLIEST = "1990-01-01"


def select_typed(
    texts: str, mapping: ColumnMapping, selection: Selection, parsed: Mapping[str, Parsed],
    repairs: Mapping[str, str],
) -> str:  # fmt: skip
    """`texts` is a relation of our columns as text; `repairs` are expressions of ids."""
    values = "".join(f", {one.sql} as {_value(name)}" for name, one in parsed.items())
    values += f", {selection.left_out} as left_out"
    typed = _type_columns(mapping, selection, parsed) | dict(repairs)
    listed = ", ".join(f"{sql} as {sql_name(name)}" for name, sql in typed.items())
    is_line = f"coalesce({', '.join(map(sql_name, selection.texts))}) is not null"
    return f"select {listed} from (select *{values} from {texts}) where {is_line}"


def _value(name: str) -> str:
    """Parsed once in a subquery: DuckDB computes an expression as often as it is written."""
    return sql_name(f"value:{name}")


def _type_columns(
    mapping: ColumnMapping, selection: Selection, parsed: Mapping[str, Parsed]
) -> dict[str, str]:
    there = {*selection.texts}
    names = {name: name for name in TEXTS} | {f"{name}_text": name for name in RAW}
    typed = {
        name: sql_name(ours) if ours in there else "null::varchar" for name, ours in names.items()
    }
    return {
        **typed,
        **_type_times(parsed),
        **_type_numbers(mapping, selection, parsed),
        "in_stock": parse_flag("in_stock") if "in_stock" in there else "null::boolean",
        "attributes": "null::varchar" if "order_id" in there else "attributes",
    }


def _type_times(parsed: Mapping[str, Parsed]) -> dict[str, str]:
    """A moment before shops were online, or one to come, is none."""
    ts, added_at = (
        _value(one) if one in parsed else "null::timestamp" for one in ("ts", "added_at")
    )
    latest = "timezone('UTC', now()) + interval 1 day"
    is_possible = f"{ts} between timestamp '{EARLIEST}' and {latest}"
    return {
        "ts": f"timezone('UTC', case when {is_possible} then {ts} end)",
        "added_at": f"timezone('UTC', {added_at})",
    }


def _type_numbers(
    mapping: ColumnMapping, selection: Selection, parsed: Mapping[str, Parsed]
) -> dict[str, str]:
    position, quantity, price, margin = (
        _value(one) if one in parsed else "null::double"
        for one in ("position", "quantity", "price", "margin")
    )
    quantity = quantity if "quantity" in selection.columns else "1.0::double"
    if mapping.platform and "price" in mapping.platform.per_line:
        price = f"({price} / nullif({quantity}, 0))"
    for one in selection.minus.get("quantity", ()):
        quantity = f"({quantity} - coalesce({_value(one)}, 0))"
    first = mapping.platform.position_from if mapping.platform else 0
    return {
        "position": _type_position(position, first),
        "quantity": f"cast({quantity} as double)",
        "price": f"case when {price} >= 0 then {price} end",
        "margin": margin,
        "left_out": _leave_out(selection, quantity),
    }


def _type_position(sql: str, first: int) -> str:
    number = f"({sql} - {first})"
    is_whole = f"{number} >= 0 and {number} = floor({number})"
    return f"try_cast(case when {is_whole} then {number} end as integer)"


def _leave_out(selection: Selection, quantity: str) -> str:
    if not selection.minus:
        return "left_out"
    return f"coalesce(left_out, case when {quantity} <= 0 then 'refund' end)"
