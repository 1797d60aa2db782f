"""Rewrites of what strptime cannot read: month names of eight languages, names of zones, words."""

import re
from collections.abc import Sequence

from components.sources.tables import sql_text

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
"""Expressions and replacements, in their order; a column gets the rewrites that it needs."""


def find_steps(value: str) -> tuple[str, ...]:
    """The rewrites that change this value, in their order."""
    steps = []
    for step in CLEANING:
        cleaned = clean_value(value, (step,))
        if cleaned != value:
            steps.append(step)
        value = cleaned
    return tuple(steps)


def clean_value(value: str, steps: Sequence[str]) -> str:
    for step in steps:
        for expression, replacement in CLEANING[step]:
            value = re.sub(expression, replacement, value, count=1)
    return value


def clean_column(column: str, steps: Sequence[str]) -> str:
    """As `clean_value`, in SQL."""
    for step in steps:
        for expression, replacement in CLEANING[step]:
            text = replacement.replace(r"\g<1>", r"\1")
            column = f"regexp_replace({column}, {sql_text(expression)}, {sql_text(text)})"
    return column
