"""How shops spell a moment: values to patterns of strptime, and rewrites for what it lacks."""

from __future__ import annotations

import re
from datetime import date
from typing import Literal, NamedTuple

Zone = Literal["local", "utc", "offset"]

ORDERS = {"dmy": "day first", "mdy": "month first", "ymd": "year first"}

DIGITS = r"\d+(?:\.\d*)?"

MONTHS = {
    "Jan": "januari?|janvier|janv|enero|ene|gennaio|gen|janeiro|ocak|oca|styczeń|stycznia|sty|jän|"
    "jänner",
    "Feb": "februari?|février|févr|fév|fevrier|febrero|febbraio|fevereiro|fev|şubat|şub|subat|luty|"
    "lutego|lut",
    "Mar": "märz|mär|mrz|maart|mrt|mars|marzo|março|marco|mart|marzec|marca",
    "Apr": "avril|avr|abril|abr|aprile|nisan|nis|kwiecień|kwietnia|kwi",
    "May": "mai|mei|mayo|maggio|mag|maio|mayıs|mayis|maja?",
    "Jun": "juni|juin|junio|giugno|giu|junho|haziran|haz|czerwiec|czerwca|cze",
    "Jul": "juli|juillet|juil|julio|luglio|lug|julho|temmuz|tem|lipiec|lipca|lip",
    "Aug": "augustus|août|aout|agosto|ago|ağustos|agustos|ağu|agu|sierpień|sierpnia|sie",
    "Sep": "sept|septembre|septiembre|settembre|set|setembro|eylül|eylul|eyl|wrzesień|września|wrz",
    "Oct": "oktober|okt|octobre|octubre|ottobre|ott|outubro|out|ekim|eki|październik|"
    "października|paź",
    "Nov": "novembre|noviembre|novembro|kasım|kasim|kas|listopada?|lis",
    "Dec": "dezember|dez|déc|décembre|decembre|diciembre|dic|dicembre|dezembro|aralık|"
    "aralik|ara|grudzień|grudnia|gru",
}
"""German, French, Spanish, Italian, Portuguese, Dutch, Turkish and Polish; English needs none."""

ZONES = {
    "PST": "-0800", "PDT": "-0700", "MST": "-0700", "MDT": "-0600", "CST": "-0600", "CDT": "-0500",
    "EST": "-0500", "EDT": "-0400", "WET": "+0000", "WEST": "+0100", "CET": "+0100",
    "CEST": "+0200", "MEZ": "+0100", "MESZ": "+0200", "EET": "+0200", "EEST": "+0300",
    "TRT": "+0300", "MSK": "+0300", "JST": "+0900", "KST": "+0900", "AEST": "+1000",
    "AEDT": "+1100",
}  # fmt: skip
"""BST and IST are not among them: each is the name of several zones."""

WORDS = r"(?i)\s(?:de|del|at|on|of|um|alle|ore|às|as|à|om|saat|godz\.|a las|klo|kl\.)\s"
EDGE = r"(^|[\s\d.,/-])(?i:{})\.?($|[\s\d.,/-])"

CLEANING: dict[str, list[tuple[str, str]]] = {
    "spaces": [("[\u00a0\u2009\u202f]", " ")],
    "zone comment": [
        (r"([+-]\d{2}:?\d{2})\s*\([^)]*\)\s*$", r"\1"),
        (r"([\dZ])\[[^\]]*\]\s*$", r"\1"),
    ],
    "zone names": [
        (r"\s?(?:UTC|GMT)\s?([+-])(\d)$", r" \g<1>0\2"),
        (r"\s?(?:UTC|GMT)\s?([+-]\d{2}(?::?\d{2})?)", r" \1"),
        *((rf"\s{name}\s*$", f" {offset}") for name, offset in ZONES.items()),
    ],
    "ideograms": [
        (r"(\d{4})年\s?(\d{1,2})月\s?(\d{1,2})日", r"\1-\2-\3"),
        (r"(\d{4})\.\s(\d{1,2})\.\s(\d{1,2})\.?", r"\1-\2-\3"),
    ],
    "ordinals": [(r"(?i)\b(\d{1,2})(?:st|nd|rd|th|er|º)\b", r"\1")],
    "words": [*([(WORDS, " ")] * 3), (r"(?i)\s(?:uhr|h)\s*$", "")],
    "weekday": [
        (r"^[^\d\s]+\s+(\d{1,2}\s?[./-]?\s?[^\d\s,:]|\d+[./-]\d+)", r"\1"),
        (r"^[A-Za-z]{2,}\.?,?\s+([A-Za-z]{3,}\.?\s+\d)", r"\1"),
        (r"(?i)(\d{4})\s+(?:pazartesi|salı|çarşamba|perşembe|cuma|cumartesi|pazar)(\s|$)", r"\1\2"),
    ],
    **{
        f"month {month}": [(EDGE.format(names), rf"\1{month}\2")] for month, names in MONTHS.items()
    },
    "short month": [(r"(?i)\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\.", r"\1")],
    "meridiem": [
        (r"\s*(?:ÖÖ|öö)\s*$", " AM"),
        (r"\s*(?:ÖS|ös)\s*$", " PM"),
        (r"(?i)(\d)\s*([ap])\.\s?m\b\.?", r"\1 \2m"),
        (r"(?i)(:\d\d)\s*([ap])\s*$", r"\1 \2m"),
        (r"(?i)([\s]\d{1,2})\s?([ap]m)\s*$", r"\1:00 \2"),
    ],
    "24-hour meridiem": [
        (r"(?i)([\sT])(1[3-9]|2[0-3]|00)(:\d\d(?::\d\d)?(?:\.\d+)?)\s?[ap]m\b", r"\1\2\3"),
    ],
    "hour mark": [(r"(?i)\b(\d{1,2})\s?h\s?(\d{2})\b", r"\1:\2")],
    "dotted time": [
        (r"(\d{4}-\d\d-\d\d)-(\d\d\.\d\d\.\d\d)", r"\1 \2"),
        (
            r"(\s\d{1,2})\.(\d{2})\.(\d{2})((?:\.\d{1,9})?(?: ?[AaPp][Mm])?)\s*$",
            r"\1:\2:\3\4",
        ),
        (r"(\s\d{1,2})\.(\d{2})\s*$", r"\1:\2"),
    ],
    "decimal comma": [(r"(:\d\d),(\d{1,9})", r"\1.\2"), (r"^\s*(\d+),(\d+)\s*$", r"\1.\2")],
}
"""Rewrites that make a value one that strptime reads; a column gets those it needs."""


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
WHOLE = [
    re.compile(rf"\s*(?i:{expression})\s*")
    for expression in (
        *(
            rf"(?:(?P<A>{WEEKDAYS})\.?,? +)?{day}(?:(?:T| +|, *){time})?"
            for day in DATES
            for time in TIMES
        ),
        *(rf"{time},? +{day}" for day in DATES[:4] for time in TIMES),
        *COMPACT,
        CTIME,
    )
]

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
"""What stands for a group in a pattern of strptime (`{a}`: by the order of the column), and the
expression of all values that this pattern reads."""


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
    for expression in WHOLE:
        if match := expression.fullmatch(value):
            return Moment(spell(match), find_orders(match.groupdict()))
    return None


def spell(match: re.Match[str]) -> Spelling:
    text, groups = match.string, match.groupdict()
    spans = sorted(
        (match.span(key), key) for key in groups if key in {*PIECES, "A", "B"} and groups[key]
    )
    template, expression, at = "", r"\s*", len(text) - len(text.lstrip())
    for (start, end), key in spans:
        piece, pattern = name_piece(key, groups[key])
        pattern = r"\d\d" if key in "ab" and not groups.get("s") else pattern
        template += text[at:start] + piece
        expression += escape(text[at:start]) + pattern
        at = end
    template, expression = template + text[at:].rstrip(), expression + escape(text[at:].rstrip())
    zone: Zone = "offset" if groups.get("z") or groups.get("N") else "local"
    zone = "utc" if groups.get("u") else zone
    return Spelling(re.sub(" +", " ", template), expression + r"\s*", zone, list_orders(groups))


def name_piece(key: str, text: str) -> tuple[str, str]:
    if key == "B":
        return ("%b", "[A-Za-z]{3}") if len(text) == 3 else ("%B", "[A-Za-z]{4,9}")
    if key == "A":
        return ("%a", "[A-Za-z]{3}") if len(text) == 3 else ("%A", "[A-Za-z]{6,9}")
    return PIECES[key]


def escape(text: str) -> str:
    return re.sub(r"(?:\\ )+", " +", re.escape(text))


def list_orders(groups: dict[str, str | None]) -> tuple[str, ...]:
    if groups.get("eight") or groups.get("c"):
        return tuple(ORDERS)
    return ("dmy", "mdy") if groups.get("a") else ()


def find_orders(groups: dict[str, str | None]) -> frozenset[str]:
    if eight := groups.get("eight"):
        cuts = {"ymd": (eight[:4], eight[4:6], eight[6:])}
        cuts |= dict.fromkeys(("dmy", "mdy"), (eight[:2], eight[2:4], eight[4:]))
        return frozenset(order for order, parts in cuts.items() if is_day(order, parts))
    parts = tuple(groups.get(key) or "" for key in ("a", "b", "c"))
    parts = (parts[0], parts[1], parts[2] or groups.get("Y") or "")
    return frozenset(order for order in list_orders(groups) if is_day(order, parts))


def is_day(order: str, parts: tuple[str, ...]) -> bool:
    year, month, day = (int(parts[order.index(part)]) for part in "ymd")
    try:
        return 1970 <= date(year + 2000 * (year < 100), month, day).year < 2100
    except ValueError:
        return False


def clean_value(value: str, steps: tuple[str, ...]) -> str:
    for step in steps:
        for expression, replacement in CLEANING[step]:
            value = re.sub(expression, replacement, value, count=1)
    return value


def find_steps(value: str) -> tuple[str, ...]:
    """The rewrites that change this value, in their order."""
    steps = []
    for step in CLEANING:
        cleaned = clean_value(value, (step,))
        if cleaned != value:
            steps.append(step)
        value = cleaned
    return tuple(steps)
