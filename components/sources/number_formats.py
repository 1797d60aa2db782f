"""The grammar of numbers in shops' files, as SQL that reads a column by one decimal mark."""

import re

from pydantic import BaseModel, ConfigDict

from components.sources.tables import sql_text

MARKS = {"": "", ",": ",", ".": r"\.", " ": "[\\s\u00a0\u2007\u2009\u202f]", "'": "['’]"}
"""Thousands marks and the regular expression of each."""

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
SPACE = "[\\s\u00a0\u2007\u2009\u202f]*"
MINUS = "[-−–]"
NEGATIVE = rf"^\D*[-−–(]|[^.,\-–]\s*{MINUS}\s*$"


class NumberFormat(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    decimal: str
    """`.` or `,`."""
    thousands: str
    """Of `MARKS`; a space stands for any kind of space."""
    is_percent: bool
    """Some values carry a percent sign: `12 %` is read as 0.12."""
    evidence: str
    is_certain: bool

    def sql(self, column: str) -> str:
        """DOUBLE; null where this format does not read the text."""
        number = read_number(column, self.decimal, self.thousands, with_percent=self.is_percent)
        return f"(case when isfinite({number}) then {number} end)"


def read_number(column: str, decimal: str, thousands: str, *, with_percent: bool = True) -> str:
    """DOUBLE (also infinite) or null.

    The grammar takes ten times as long as a cast, so common spellings go before.
    """
    slow = _read_by_grammar(column, decimal, thousands, with_percent)
    if (decimal, thousands) == (".", ""):
        return f"coalesce(try_cast({column} as double), {slow})"
    whens = " ".join(
        f"when {condition} then try_cast(replace({text}, '{decimal}', '.') as double)"
        for condition, text in _list_common_spellings(column, decimal, thousands)
    )
    return f"coalesce(case {whens} end, {slow})"


def _list_common_spellings(column: str, decimal: str, thousands: str) -> list[tuple[str, str]]:
    """Conditions, and the text without thousands marks and currency of the values that meet it."""
    bare = f"replace({column}, {sql_text(thousands)}, '')" if thousands else column
    number = _match_number(decimal, thousands)
    found = [
        (f"regexp_full_match({column}, {sql_text(f'-?{number}')})", bare),
        (f"regexp_full_match({column}, {sql_text(f'[{SYMBOLS}]{number}')})", f"{bare}[2:]"),
    ]
    if thousands in ("", ",", "."):
        found.insert(0, (f"not contains({column}, {sql_text(thousands or '.')})", column))
    return found


def _read_by_grammar(column: str, decimal: str, thousands: str, with_percent: bool) -> str:
    bare = f"regexp_replace({column}, {sql_text(CURRENCY)}, '', 'g')"
    digits = f"regexp_extract({bare}, {sql_text(_match_number(decimal, thousands))}, 0)"
    if thousands:
        digits = f"regexp_replace({digits}, {sql_text(MARKS[thousands])}, '', 'g')"
    digits = f"replace(rtrim({digits}, '-–'), '{decimal}', '.')"
    is_negative = f"regexp_matches({column}, {sql_text(NEGATIVE)})"
    sign = f"case when {is_negative} then -1 else 1 end"
    scale = f"case when contains({column}, '%') then 100 else 1 end" if with_percent else "1"
    amount = sql_text(_match_amount(decimal, thousands, "%|" if with_percent else ""))
    return (
        f"(case when regexp_full_match({column}, {amount}) "
        f"then try_cast({digits} as double) * {sign} / {scale} end)"
    )


def _match_number(decimal: str, thousands: str) -> str:
    """Thousands stand in groups of three, or as in India of two and a last one of three.

    `12,-` is how the Dutch and Germans write 12.
    """
    point, mark = re.escape(decimal), MARKS[thousands]
    grouped = rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+|[1-9]\d?(?:{mark}\d{{2}})+{mark}\d{{3}}|"
    whole = rf"(?:{grouped if thousands else ''}\d+)"
    return rf"(?:{whole}(?:{point}(?:\d+|--?|–)?)?|{point}\d+)(?:[eE][+-]?\d+)?"


def _match_amount(decimal: str, thousands: str, percent: str) -> str:
    number, unit = _match_number(decimal, thousands), f"(?:{percent}{CURRENCY})"
    after = f"{number}(?:{SPACE}{unit})?"
    amount = f"(?:{unit}{SPACE})?{after}"
    signed = f"(?:(?:{MINUS}|\\+){SPACE})?{amount}|{unit}{SPACE}{MINUS}{SPACE}{after}"
    negative = f"{amount}{SPACE}{MINUS}|(?:{unit}{SPACE})?\\({SPACE}{amount}{SPACE}\\)"
    return f"{SPACE}(?:{signed}|{negative}){SPACE}"
