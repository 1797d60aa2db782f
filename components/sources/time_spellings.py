"""How shops spell a moment: from a value to the pattern of strptime that reads all its like."""

import functools
import re
from datetime import date
from typing import Literal, NamedTuple

Zone = Literal["local", "utc", "offset"]

ORDERS = {"dmy": "day first", "mdy": "month first", "ymd": "year first"}

WEEKDAYS = (
    "Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?"
)
MONTH = (
    r"(?P<B>Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|"
    r"Sep(?:tember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
)
YEAR = r"(?P<Y>(?:19|20)\d\d)"
DATES = (
    rf"{YEAR}(?P<s>[-/. ])(?P<m>\d{{1,2}})(?P=s)(?P<d>\d{{1,2}})",
    rf"(?P<a>\d{{1,2}})(?P<s>[-/. ])(?P<b>\d{{1,2}})(?P=s){YEAR}",
    r"(?P<a>\d{1,2})(?P<s>[-/.])(?P<b>\d{1,2})(?P=s)(?P<c>\d\d)",
    rf"(?P<d>\d{{1,2}})[-/. ]{{0,2}}{MONTH}[-/., ]{{0,2}}(?:{YEAR}|(?P<y>\d\d))",
    rf"{MONTH}[-/. ]{{1,2}}(?P<d>\d{{1,2}})[-/., ]{{1,2}}{YEAR}",
    rf"{YEAR}[-/. ]{{1,2}}{MONTH}[-/. ]{{1,2}}(?P<d>\d{{1,2}})",
)
ZONE = r"(?: ?(?P<z>[+-]\d\d(?::?\d\d)?)| ?(?P<u>Z|z|UTC|GMT)| (?P<N>[A-Za-z_]+/[A-Za-z_/]+))?"
SECONDS = r":(?P<M>\d\d)(?::(?P<S>\d\d)(?:\.(?P<f>\d{1,9}))?)?"
TIMES = (
    rf"(?P<H>\d{{1,2}}){SECONDS}{ZONE}",
    rf"(?P<I>0?[1-9]|1[0-2]){SECONDS} ?(?P<p>[AaPp][Mm]){ZONE}",
)
COMPACT = (
    rf"(?P<eight>\d{{8}})(?:[T ]?(?P<H>\d\d):?(?P<M>\d\d)(?::?(?P<S>\d\d))?"
    rf"(?:\.(?P<f>\d{{1,9}}))?{ZONE})?",
    r"(?P<a>\d\d)(?P<b>\d\d)(?P<c>\d\d)",
)
CTIME = (
    rf"(?P<A>{WEEKDAYS}) {MONTH} +(?P<d>\d{{1,2}}) (?P<H>\d\d){SECONDS} "
    rf"(?:(?P<z>[+-]\d{{4}}) |(?P<u>UTC|GMT) )?{YEAR}"
)

PIECES = {
    "Y": ("%Y", r"\d{4}"),
    "m": ("%m", r"\d{1,2}"),
    "d": ("%d", r"\d{1,2}"),
    "y": ("%y", r"\d\d"),
    "a": ("{a}", r"\d{1,2}"),
    "b": ("{b}", r"\d{1,2}"),
    "c": ("{c}", r"\d\d"),
    "eight": ("{eight}", r"\d{8}"),
    "H": ("%H", r"\d{1,2}"),
    "I": ("%I", r"\d{1,2}"),
    "M": ("%M", r"\d\d"),
    "S": ("%S", r"\d\d"),
    "f": ("%n", r"\d{1,9}"),
    "p": ("%p", "[AaPp][Mm]"),
    "z": ("%z", r"[+-]\d\d(?::?\d\d)?"),
    "N": ("%Z", "[A-Za-z_]+/[A-Za-z_/]+"),
}
"""By group: its piece of the pattern (`{a}`: by the order of the column), and the expression of
all text that this piece reads."""


class Spelling(NamedTuple):
    template: str
    """A pattern of strptime but for the order of day, month and year."""
    expression: str
    zone: Zone
    orders: tuple[str, ...]
    """Of `ORDERS`; empty where the value itself shows it."""

    def format_pattern(self, order: str) -> str:
        if not self.orders:
            return self.template
        a, b, c = (f"%{part}" for part in order)
        return self.template.format(a=a, b=b, c=c, eight=(a + b + c).replace("y", "Y"))


class Moment(NamedTuple):
    spelling: Spelling
    orders: frozenset[str]
    """Those by which the value is a day of the calendar."""


def parse_moment(value: str) -> Moment | None:
    for expression in _compile_moments():
        if match := expression.fullmatch(value):
            return Moment(_spell(match), _find_orders(match.groupdict()))
    return None


@functools.cache
def _compile_moments() -> list[re.Pattern[str]]:
    weekday = rf"(?:(?P<A>{WEEKDAYS})\.?,? +)?"
    expressions = (
        *(rf"{weekday}{day}(?:(?:T| +|, *){time})?" for day in DATES for time in TIMES),
        *(rf"{time},? +{day}" for day in DATES[:4] for time in TIMES),
        *COMPACT,
        CTIME,
    )
    return [re.compile(rf"\s*(?i:{expression})\s*") for expression in expressions]


def _spell(match: re.Match[str]) -> Spelling:
    text, groups = match.string, match.groupdict()
    spans = sorted(
        (match.span(key), key) for key in groups if key in {*PIECES, "A", "B"} and groups[key]
    )
    template, expression, at = "", r"\s*", len(text) - len(text.lstrip())
    for (start, end), key in spans:
        piece, pattern = _name_piece(key, groups[key])
        pattern = r"\d\d" if key in "ab" and not groups.get("s") else pattern
        template += text[at:start] + piece
        expression += _escape(text[at:start]) + pattern
        at = end
    template, expression = template + text[at:].rstrip(), expression + _escape(text[at:].rstrip())
    zone: Zone = "offset" if groups.get("z") or groups.get("N") else "local"
    zone = "utc" if groups.get("u") else zone
    return Spelling(re.sub(" +", " ", template), expression + r"\s*", zone, _list_orders(groups))


def _name_piece(key: str, text: str) -> tuple[str, str]:
    if key == "B":
        return ("%b", "[A-Za-z]{3}") if len(text) == 3 else ("%B", "[A-Za-z]{4,9}")
    if key == "A":
        return ("%a", "[A-Za-z]{3}") if len(text) == 3 else ("%A", "[A-Za-z]{6,9}")
    return PIECES[key]


def _escape(text: str) -> str:
    return re.sub(r"(?:\\ )+", " +", re.escape(text))


def _list_orders(groups: dict[str, str | None]) -> tuple[str, ...]:
    if groups.get("eight") or groups.get("c"):
        return tuple(ORDERS)
    return ("dmy", "mdy") if groups.get("a") else ()


def _find_orders(groups: dict[str, str | None]) -> frozenset[str]:
    if eight := groups.get("eight"):
        cuts = {"ymd": (eight[:4], eight[4:6], eight[6:])}
        cuts |= dict.fromkeys(("dmy", "mdy"), (eight[:2], eight[2:4], eight[4:]))
        return frozenset(order for order, parts in cuts.items() if _is_day(order, parts))
    parts = tuple(groups.get(key) or "" for key in ("a", "b", "c"))
    parts = (parts[0], parts[1], parts[2] or groups.get("Y") or "")
    return frozenset(order for order in _list_orders(groups) if _is_day(order, parts))


def _is_day(order: str, parts: tuple[str, ...]) -> bool:
    year, month, day = (int(parts[order.index(part)]) for part in "ymd")
    try:
        return 1970 <= date(year + 2000 * (year < 100), month, day).year < 2100
    except ValueError:
        return False
