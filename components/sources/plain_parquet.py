"""Parquet that Spark can read as it is: typed columns under one name each."""

from collections.abc import Mapping
from dataclasses import dataclass

from components.sources.formats import NUMBERS, TIMES, is_numeric
from components.sources.tables import INT96, TEXT, Column
from components.sources.understand import Understood

SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
MOMENTS = (INT96, "DATE", "TIMESTAMP", "TIMESTAMP_MS", "TIMESTAMP WITH TIME ZONE")
IDS = ("order_id", "user_id", "product_id")


@dataclass(frozen=True)
class PlainParquet:
    address: str
    columns: Mapping[str, str]
    """{our name: the shop's name}"""


def find_plain(one: Understood) -> PlainParquet | None:
    """None where the file needs normalising."""
    mapping = one.mapping
    if one.file.kind != "parquet" or mapping.platform or mapping.items or mapping.is_numbered:
        return None
    columns = one.selection.columns
    if not all(_is_plain(ours, theirs, one) for ours, theirs in columns.items()):
        return None
    return PlainParquet(str(one.file.path), {ours: next(iter(columns[ours])) for ours in columns})


def _is_plain(ours: str, theirs: Mapping[str, Column], one: Understood) -> bool:
    name, column = next(iter(theirs.items()))
    if len(theirs) > 1 or column.nested_in or "." in name or name in one.file.partition:
        return False
    return is_plain_type(ours, column.type)


def is_plain_type(ours: str, kind: str) -> bool:
    if ours in TIMES:
        return kind in MOMENTS
    if ours in NUMBERS:
        return kind in SIGNED or kind.startswith(("DECIMAL", "FLOAT", "DOUBLE"))
    if ours in IDS:
        return kind == TEXT or kind in SIGNED
    return kind == TEXT or kind == "BOOLEAN" or is_numeric(kind)
