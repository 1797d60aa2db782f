"""Values that differ in their digits only, counted as one: evidence for a column's decimal mark."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from components.sources.number_formats import MARKS, read_number

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_SHAPES = 5000
"""A column of numbers has some dozens of shapes (`9.999,99 €`); a column of text has millions."""

FORMATS = [
    (decimal, mark) for mark in ("", ",", ".", " ", "'") for decimal in ".," if decimal != mark
]
"""Marks of decimals and thousands."""


class Shape(NamedTuple):
    """A format reads all of its values or none."""

    n: int
    example: str
    readings: list[float | None]
    """By each of `FORMATS`."""
    is_unmarked: bool
    is_above_999: bool

    def read(self, decimal: str) -> float | None:
        pairs = zip(FORMATS, self.readings, strict=True)
        return next((x for (mark, _), x in pairs if mark == decimal and x is not None), None)

    @property
    def side(self) -> str:
        """`.` or `,`: the only mark that reads it; `?`: both do, differently; else nothing."""
        point, comma = self.read("."), self.read(",")
        if point is None or comma is None:
            return "," if comma is not None else "." if point is not None else ""
        return "" if point == comma else "?"


def count_shapes(con: "DuckDBPyConnection", relation: str) -> list[Shape]:
    """Of its column `v`; the commonest first."""
    rows = con.execute(
        "select sum(k)::bigint as n, min(v) as example from "
        f"(select v, count(*) as k from {relation} where v is not null group by v) group by "
        "regexp_replace(v, '\\d', '9', 'g'), regexp_matches(v, '^\\D*0') "
        f"order by n desc, example limit {MAX_SHAPES}"
    ).fetchall()
    examples = [example for _, example in rows]
    found = con.execute(
        f"select [{_read_all(examples)}], regexp_full_match(v, '\\D*\\d+\\D*') and not "
        "regexp_matches(v, '[.,]'), regexp_matches(v, '[1-9]\\d{3}') from "
        "(select unnest($1::varchar[]) as v)",
        [examples],
    ).fetchall()
    return [Shape(*row, *more) for row, more in zip(rows, found, strict=True)]


def _read_all(examples: Sequence[str]) -> str:
    """A mark that no value has reads them as no mark does."""
    there = {mark for mark, one in MARKS.items() if any(re.search(one, v) for v in examples)}
    return ", ".join(
        read_number("v", decimal, mark) if mark in there else "null::double"
        for decimal, mark in FORMATS
    )


def count_values(shapes: Sequence[Shape]) -> int:
    return sum(shape.n for shape in shapes)


def describe_values(shapes: Sequence[Shape]) -> str:
    n = count_values(shapes)
    return f"{n:,} value{'s' * (n != 1)} like {shapes[0].example.strip()}"
