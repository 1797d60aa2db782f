"""Decimal point or comma: decided for a whole column by evidence, never value by value."""

import re
from typing import TYPE_CHECKING

from components.sources.errors import SourceError
from components.sources.number_formats import NumberFormat
from components.sources.number_shapes import (
    FORMATS,
    Shape,
    count_shapes,
    count_values,
    describe_values,
)
from components.sources.tables import fetch_one

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_STRAY_SHARE = 0.01
"""Above this share, values that contradict the others are no typing errors."""

N_SAMPLED = 20_000

MIN_SHORT_FLOATS = 20
"""Floats in their shortest form end in fewer than three digits one time in ten."""

PLAIN = "try_cast(v as double)"


def detect_number_format(
    con: "DuckDBPyConnection", table: str, column: str, *, name: str, decimal: str = ""
) -> NumberFormat:
    """`column` is an expression of text, `decimal` the user's choice, `name` that of errors.

    Raises SourceError where values contradict one another.
    """
    relation = f"(select {column} as v from {table})"
    if decimal not in ("", ".", ","):
        raise SourceError(f"{name}: --decimal is {decimal!r}; expected '.' or ','; correct it.")
    if decimal != "," and (plain := _detect_plain(con, relation)):
        return plain
    if not decimal and (clear := _detect_clear(con, relation, name)):
        return clear
    shapes = count_shapes(con, relation)
    if decimal:
        return _choose_format(shapes, decimal, f"the decimal mark {decimal!r} was given", True)
    return _decide_format(shapes, name)


def _detect_plain(con: "DuckDBPyConnection", relation: str) -> NumberFormat | None:
    """The fast path: every value is a number of SQL, and one of them proves the point."""
    first = f"select v from {relation} where v <> '' limit {N_SAMPLED}"
    if fetch_one(con, f"select any_value(v) from ({first}) where {PLAIN} is null")[0]:
        return None  # A cast that fails takes ten times as long.
    shows_point = "contains(v, '.') and v[-4] <> '.'"
    n_filled, n_plain, n_points, n_proofs, example = fetch_one(
        con,
        f"select count(*) filter (v <> ''), count({PLAIN}), "
        f"count(*) filter (contains(v, '.')), count(*) filter ({shows_point}), "
        f"any_value(v) filter ({shows_point}) from {relation}",
    )
    if n_plain < n_filled or (n_points and n_proofs <= MAX_STRAY_SHARE * n_points):
        return None
    evidence = f"{n_proofs:,} values like {example}" if n_proofs else "no value has a mark"
    return NumberFormat(
        decimal=".", thousands="", is_percent=False, evidence=evidence, is_certain=True
    )


def _detect_clear(con: "DuckDBPyConnection", relation: str, name: str) -> NumberFormat | None:
    """The next faster path: a sample decides, and its format reads every value."""
    n_filled = _count_filled(con, relation, "v")
    step = n_filled // N_SAMPLED
    if step < 2:
        return None
    shapes = count_shapes(con, f"(select v from {relation} where hash(v) % {step} = 0)")
    try:
        found = _decide_format(shapes, name)
    except SourceError:
        return None
    if not found.is_certain or _count_filled(con, relation, found.sql("v")) < n_filled:
        return None
    example = next(s.example.strip() for s in shapes if s.side == found.decimal or not s.side)
    return found.model_copy(update={"evidence": f"{n_filled:,} values read, like {example}"})


def _count_filled(con: "DuckDBPyConnection", relation: str, value: str) -> int:
    return int(fetch_one(con, f"select count({value}) from {relation} where v <> ''")[0])


def _decide_format(shapes: list[Shape], name: str) -> NumberFormat:
    sides = {side: [shape for shape in shapes if shape.side == side] for side in ".,?"}
    n_point, n_comma, n_unclear = (count_values(sides[side]) for side in ".,?")
    if min(n_point, n_comma) > MAX_STRAY_SHARE * (n_point + n_comma):
        raise SourceError(_describe_contradiction(sides, name))
    if n_point or n_comma:
        decimal = "." if n_point > n_comma else ","
        is_certain = max(n_point, n_comma) > MAX_STRAY_SHARE * n_unclear
        return _choose_format(shapes, decimal, describe_values(sides[decimal]), is_certain)
    if n_unclear:
        return _guess_format(shapes, sides["?"])
    seen = any(shape.read(".") is not None for shape in shapes)
    evidence = "no value has a decimal mark" if seen else "no value is a number"
    return _choose_format(shapes, ".", evidence, True)


def _guess_format(shapes: list[Shape], unclear: list[Shape]) -> NumberFormat:
    """All marked values look like `1,234`: the values without a mark tell which is likelier."""
    n_unclear = count_values(unclear)
    n_points = count_values([shape for shape in unclear if "." in shape.example])
    mark, other = (".", ",") if 2 * n_points >= n_unclear else (",", ".")
    seen = f"all values with a mark look like {unclear[0].example}"
    unmarked = [shape for shape in shapes if shape.is_unmarked and shape.read(".") is not None]
    large = [shape for shape in unmarked if shape.is_above_999]
    if count_values(large) > MAX_STRAY_SHARE * n_unclear:
        why = f"{seen}; {describe_values(large)} show that thousands have no mark"
        return _choose_format(shapes, mark, why, True)
    ends_in_zero = any(re.search(r"0\D*$", shape.example) for shape in unclear)
    if unmarked and (ends_in_zero or n_unclear >= MIN_SHORT_FLOATS):
        why = f"{seen}, values below 1000 have no mark: read as thousands"
        return _choose_format(shapes, other, why, False)
    usual = "thousands" if mark == "," else "a decimal point"
    return _choose_format(shapes, ".", f"{seen}: read as {usual}, the commoner", False)


def _choose_format(
    shapes: list[Shape], decimal: str, evidence: str, is_certain: bool
) -> NumberFormat:
    """With the thousands mark that reads the most."""
    pairs = [pair for pair in FORMATS if pair[0] == decimal]
    _, thousands = max(pairs, key=lambda pair: _count_read(shapes, pair))
    n_percent = count_values([shape for shape in shapes if "%" in shape.example])
    if n_percent:
        evidence += f"; {n_percent:,} of {count_values(shapes):,} values carry a percent sign"
    return NumberFormat(
        decimal=decimal,
        thousands=thousands,
        is_percent=n_percent > 0,
        evidence=evidence,
        is_certain=is_certain,
    )


def _count_read(shapes: list[Shape], pair: tuple[str, str]) -> int:
    at = FORMATS.index(pair)
    return count_values([shape for shape in shapes if shape.readings[at] is not None])


def _describe_contradiction(sides: dict[str, list[Shape]], name: str) -> str:
    found = [
        f"{count_values(sides[mark]):,} values have a decimal {word} "
        f"({', '.join(shape.example.strip() for shape in sides[mark][:2])})"
        for mark, word in ((",", "comma"), (".", "point"))
    ]
    return (
        f"{name}: {found[0]}, {found[1]}; expected one decimal mark in all values. "
        "Write all values alike, or name the right mark with --decimal , or --decimal . "
        "(the other values then become empty)."
    )
