"""Numbers as shops write them: the decimal mark of a column by evidence, never value by value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

from components.sources.errors import SourceError

if TYPE_CHECKING:
    import duckdb

MAX_STRAY_SHARE = 0.01
"""Above this share, values that contradict the others are no typing errors."""

N_SAMPLED = 20_000

MAX_SHAPES = 5000
"""A column of numbers has some dozens of shapes (`9.999,99 €`); a column of text has millions."""

MIN_SHORT_FLOATS = 20
"""Floats in their shortest form end in fewer than three digits one time in ten."""

MARKS = {"": "", ",": ",", ".": r"\.", " ": "[\\s\u00a0\u2007\u2009\u202f]", "'": "['’]"}
"""Thousands marks and the regular expression of each."""

FORMATS = [
    (decimal, mark) for mark in ("", ",", ".", " ", "'") for decimal in ".," if decimal != mark
]

SYMBOLS = "$€£¥₺₽₴₹₩₪₫₱₦₲₵₸₼₾₡₮₭฿¢৳₨﷼"
LOCAL_SIGNS = (
    r"US\$|CA\$|AU\$|A\$|C\$|NZ\$|HK\$|S\$|R\$|MX\$|zł|zl|Kčs?|kr|Ft|TL|YTL|лв|руб|р|грн|ден|дин|"
    r"din|KM|lei|Rs|Rp|RM|Bs|S/|Fr|DM|Eur|euros?|د\.إ|ر\.س|元|円|원"
)
CODES = (
    "USD|EUR|GBP|CHF|TRY|RUB|UAH|PLN|CZK|HUF|RON|BGN|SEK|NOK|DKK|ISK|RSD|MKD|ALL|BAM|MDL|GEL|AMD|"
    "AZN|KZT|BYN|JPY|CNY|RMB|KRW|INR|PKR|BDT|LKR|NPR|IDR|MYR|SGD|THB|VND|PHP|HKD|TWD|AUD|NZD|CAD|"
    "MXN|BRL|ARS|CLP|COP|PEN|UYU|PYG|BOB|CRC|DOP|GTQ|ZAR|NGN|KES|GHS|EGP|MAD|TND|DZD|ILS|SAR|AED|"
    "QAR|KWD|BHD|OMR|JOD|LBP|IQD|IRR"
)
CURRENCY = rf"(?:[{SYMBOLS}]|(?i:(?:{LOCAL_SIGNS}|{CODES}))\.?)"
PLAIN = "try_cast(v AS DOUBLE)"
SPACE = "[\\s\u00a0\u2007\u2009\u202f]*"
MINUS = "[-−–]"
NEGATIVE = rf"^\D*[-−–(]|[^.,\-–]\s*{MINUS}\s*$"


class NumberFormat(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    decimal: str
    """`.` or `,`."""
    thousands: str
    """Empty, `,`, `.`, a space (any kind of space) or `'`."""
    is_percent: bool
    """Some values carry a percent sign: `12 %` is read as 0.12."""
    evidence: str
    is_certain: bool

    def sql(self, column: str) -> str:
        """Reads the text as DOUBLE; what this format does not read is NULL."""
        read = read_as(column, self.decimal, self.thousands, with_percent=self.is_percent)
        return f"(CASE WHEN isfinite({read}) THEN {read} END)"


class Shape(NamedTuple):
    """Values that differ in their digits only, so that a format reads all or none of them."""

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


def detect_number_format(
    con: duckdb.DuckDBPyConnection,
    table: str,
    column: str,
    decimal: str = "",
    *,
    name: str = "a column of numbers",
) -> NumberFormat:
    """`table` is what stands after FROM, `column` an expression of text, `decimal` the user's
    choice. SourceError where values contradict one another."""
    relation = f"(SELECT {column} AS v FROM {table})"
    if decimal not in ("", ".", ","):
        raise SourceError(f"{name}: the decimal mark is {decimal!r}; expected '.' or ','.")
    if decimal != "," and (plain := detect_plain(con, relation)):
        return plain
    if not decimal and (clear := detect_clear(con, relation, name)):
        return clear
    shapes = count_shapes(con, relation)
    if decimal:
        return choose_format(shapes, decimal, f"the decimal mark {decimal!r} was given", True)
    return decide_format(shapes, name)


def detect_plain(con: duckdb.DuckDBPyConnection, relation: str) -> NumberFormat | None:
    """The fast path: every value is a number of SQL, and one of them proves the point."""
    first = f"SELECT v FROM {relation} WHERE v <> '' LIMIT {N_SAMPLED}"
    if con.execute(f"SELECT any_value(v) FROM ({first}) WHERE {PLAIN} IS NULL").fetchall()[0][0]:
        return None  # A cast that fails takes ten times as long.
    shows_point = "contains(v, '.') AND v[-4] <> '.'"
    rows = con.execute(
        f"SELECT count(*) FILTER (v <> ''), count({PLAIN}), "
        f"count(*) FILTER (contains(v, '.')), count(*) FILTER ({shows_point}), "
        f"any_value(v) FILTER ({shows_point}) FROM {relation}"
    ).fetchall()
    n_filled, n_plain, n_points, n_proofs, example = rows[0]
    if n_plain < n_filled or (n_points and n_proofs <= MAX_STRAY_SHARE * n_points):
        return None
    evidence = f"{n_proofs:,} values like {example}" if n_proofs else "no value has a mark"
    return NumberFormat(
        decimal=".", thousands="", is_percent=False, evidence=evidence, is_certain=True
    )


def detect_clear(con: duckdb.DuckDBPyConnection, relation: str, name: str) -> NumberFormat | None:
    """The next faster path: a sample decides, and its format reads every value."""
    n_filled = count_filled(con, relation, "v")
    step = n_filled // N_SAMPLED
    if step < 2:
        return None
    shapes = count_shapes(con, f"(SELECT v FROM {relation} WHERE hash(v) % {step} = 0)")
    try:
        found = decide_format(shapes, name)
    except SourceError:
        return None
    if not found.is_certain or count_filled(con, relation, found.sql("v")) < n_filled:
        return None
    example = next(s.example.strip() for s in shapes if s.side == found.decimal or not s.side)
    return found.model_copy(update={"evidence": f"{n_filled:,} values read, like {example}"})


def count_filled(con: duckdb.DuckDBPyConnection, relation: str, what: str) -> int:
    query = f"SELECT count({what}) FROM {relation} WHERE v <> ''"
    return int(con.execute(query).fetchall()[0][0])


def count_shapes(con: duckdb.DuckDBPyConnection, relation: str) -> list[Shape]:
    rows = con.execute(
        "SELECT sum(k)::BIGINT AS n, min(v) AS example FROM "
        f"(SELECT v, count(*) AS k FROM {relation} WHERE v IS NOT NULL GROUP BY v) GROUP BY "
        "regexp_replace(v, '\\d', '9', 'g'), regexp_matches(v, '^\\D*0') "
        f"ORDER BY n DESC, example LIMIT {MAX_SHAPES}"
    ).fetchall()
    examples = [example for _, example in rows]
    there = {mark for mark, one in MARKS.items() if any(re.search(one, v) for v in examples)}
    # A mark that no value has reads them as no mark does.
    readings = ", ".join(
        read_as("v", *pair) if pair[1] in there else "NULL::DOUBLE" for pair in FORMATS
    )
    found = con.execute(
        f"SELECT [{readings}], regexp_full_match(v, '\\D*\\d+\\D*') AND NOT "
        "regexp_matches(v, '[.,]'), regexp_matches(v, '[1-9]\\d{3}') FROM "
        "(SELECT unnest($1::VARCHAR[]) AS v)",
        [examples],
    ).fetchall()
    return [Shape(*row, *more) for row, more in zip(rows, found, strict=True)]


def decide_format(shapes: list[Shape], name: str) -> NumberFormat:
    sides = {side: [shape for shape in shapes if shape.side == side] for side in ".,?"}
    n_point, n_comma = count(sides["."]), count(sides[","])
    if min(n_point, n_comma) > MAX_STRAY_SHARE * (n_point + n_comma):
        raise SourceError(describe_contradiction(sides, name))
    if n_point or n_comma:
        decimal = "." if n_point > n_comma else ","
        is_certain = max(n_point, n_comma) > MAX_STRAY_SHARE * count(sides["?"])
        return choose_format(shapes, decimal, describe_values(sides[decimal]), is_certain)
    if sides["?"]:
        return guess_format(shapes, sides["?"])
    seen = any(shape.read(".") is not None for shape in shapes)
    evidence = "no value has a decimal mark" if seen else "no value is a number"
    return choose_format(shapes, ".", evidence, True)


def guess_format(shapes: list[Shape], unclear: list[Shape]) -> NumberFormat:
    """All marked values look like `1,234`: the values without a mark tell which is likelier."""
    n_points = count([shape for shape in unclear if "." in shape.example])
    mark = "." if 2 * n_points >= count(unclear) else ","
    other = "," if mark == "." else "."
    seen = f"all values with a mark look like {unclear[0].example}"
    unmarked = [shape for shape in shapes if shape.is_unmarked and shape.read(".") is not None]
    large = [shape for shape in unmarked if shape.is_above_999]
    if count(large) > MAX_STRAY_SHARE * count(unclear):
        why = f"{seen}; {describe_values(large)} show that thousands have no mark"
        return choose_format(shapes, mark, why, True)
    ends_in_zero = any(re.search(r"0\D*$", shape.example) for shape in unclear)
    if unmarked and (ends_in_zero or count(unclear) >= MIN_SHORT_FLOATS):
        why = f"{seen}, values below 1000 have no mark: read as thousands"
        return choose_format(shapes, other, why, False)
    if mark == ",":
        return choose_format(shapes, other, f"{seen}: read as thousands, the commoner", False)
    return choose_format(shapes, mark, f"{seen}: read as a decimal point, the commoner", False)


def choose_format(
    shapes: list[Shape], decimal: str, evidence: str, is_certain: bool
) -> NumberFormat:
    """With the thousands mark that reads the most."""
    pairs = [pair for pair in FORMATS if pair[0] == decimal]
    _, thousands = max(pairs, key=lambda pair: count_read(shapes, pair))
    n_percent = count([shape for shape in shapes if "%" in shape.example])
    if n_percent:
        evidence += f"; {n_percent:,} of {count(shapes):,} values carry a percent sign"
    return NumberFormat(
        decimal=decimal,
        thousands=thousands,
        is_percent=n_percent > 0,
        evidence=evidence,
        is_certain=is_certain,
    )


def count(shapes: list[Shape]) -> int:
    return sum(shape.n for shape in shapes)


def count_read(shapes: list[Shape], pair: tuple[str, str]) -> int:
    at = FORMATS.index(pair)
    return sum(shape.n for shape in shapes if shape.readings[at] is not None)


def describe_values(shapes: list[Shape]) -> str:
    n = count(shapes)
    return f"{n:,} value{'s' * (n != 1)} like {shapes[0].example.strip()}"


def describe_contradiction(sides: dict[str, list[Shape]], name: str) -> str:
    found = [
        f"{count(sides[mark]):,} values have a decimal {word} "
        f"({', '.join(shape.example.strip() for shape in sides[mark][:2])})"
        for mark, word in ((",", "comma"), (".", "point"))
    ]
    return (
        f"{name}: {found[0]}, {found[1]}; expected one decimal mark in all values. "
        "Write all values alike, or name the right mark with --decimal , or --decimal . "
        "(the other values then become empty)."
    )


def read_as(column: str, decimal: str, thousands: str, *, with_percent: bool = True) -> str:
    """SQL: DOUBLE or NULL. The whole grammar takes ten times as long as a cast, so common
    spellings go before."""
    slow = read_by_grammar(column, decimal, thousands, with_percent=with_percent)
    if (decimal, thousands) == (".", ""):
        return f"coalesce(try_cast({column} AS DOUBLE), {slow})"
    bare = f"replace({column}, {quote(thousands)}, '')" if thousands else column
    number = match_number(decimal, thousands)
    cases = [
        (f"regexp_full_match({column}, {quote(f'-?{number}')})", bare),
        (f"regexp_full_match({column}, {quote(f'[{SYMBOLS}]{number}')})", f"{bare}[2:]"),
    ]
    if thousands in (",", "."):
        cases.insert(0, (f"NOT contains({column}, {quote(thousands)})", column))
    elif not thousands:
        cases.insert(0, (f"NOT contains({column}, '.')", column))
    whens = " ".join(
        f"WHEN {condition} THEN try_cast(replace({text}, '{decimal}', '.') AS DOUBLE)"
        for condition, text in cases
    )
    return f"coalesce(CASE {whens} END, {slow})"


def read_by_grammar(column: str, decimal: str, thousands: str, *, with_percent: bool) -> str:
    digits = f"regexp_extract(regexp_replace({column}, {quote(CURRENCY)}, '', 'g'), {{}}, 0)"
    digits = digits.format(quote(match_number(decimal, thousands)))
    if thousands:
        digits = f"regexp_replace({digits}, {quote(MARKS[thousands])}, '', 'g')"
    digits = f"replace(rtrim({digits}, '-–'), '{decimal}', '.')"
    is_negative = f"regexp_matches({column}, {quote(NEGATIVE)})"
    sign = f"CASE WHEN {is_negative} THEN -1 ELSE 1 END"
    scale = f"CASE WHEN contains({column}, '%') THEN 100 ELSE 1 END" if with_percent else "1"
    grammar = quote(match_amount(decimal, thousands, "%|" if with_percent else ""))
    return (
        f"(CASE WHEN regexp_full_match({column}, {grammar}) "
        f"THEN try_cast({digits} AS DOUBLE) * {sign} / {scale} END)"
    )


def match_number(decimal: str, thousands: str) -> str:
    """Thousands stand in groups of three, or as in India of two and a last one of three.
    `12,-` is how the Dutch and Germans write 12."""
    point, mark = re.escape(decimal), MARKS[thousands]
    grouped = rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+|[1-9]\d?(?:{mark}\d{{2}})+{mark}\d{{3}}|"
    whole = rf"(?:{grouped if thousands else ''}\d+)"
    return rf"(?:{whole}(?:{point}(?:\d+|--?|–)?)?|{point}\d+)(?:[eE][+-]?\d+)?"


def match_amount(decimal: str, thousands: str, percent: str) -> str:
    number, unit = match_number(decimal, thousands), f"(?:{percent}{CURRENCY})"
    after = f"{number}(?:{SPACE}{unit})?"
    amount = f"(?:{unit}{SPACE})?{after}"
    return SPACE.join(
        [
            "",
            f"(?:(?:(?:{MINUS}|\\+){SPACE})?{amount}|{unit}{SPACE}{MINUS}{SPACE}{after}|"
            f"{amount}{SPACE}{MINUS}|(?:{unit}{SPACE})?\\({SPACE}{amount}{SPACE}\\))",
            "",
        ]
    )


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
