"""Write known lines as an export of any kind."""

import bz2
import csv
import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

COLUMNS = ("order_id", "product_id", "ts", "quantity", "price", "user_id", "name")

WORDS = {
    "western": [
        "Käse, gerieben",
        "Crème brûlée",
        "Größe XL",
        "Piñata",
        "Brötchen",
        "Soße",
        "Müsli",
    ],
    "central": ["Žluťoučký kůň", "Łyżka, duża", "Čokoláda", "Świeca", "Příbor", "Żurek", "Šunka"],
    "cyrillic": ["Чайник", "Книга, новая", "Ложка для супа", "Подушка", "Зелёный чай", "Сковорода"],
    "greek": ["Καφές", "Τυρί, φέτα", "Ελαιόλαδο", "Μέλι", "Ψωμί", "Κρασί κόκκινο"],
    "turkish": ["Güğüm", "Şeker kâsesi", "Çaydanlık, büyük", "Ilık süt", "Kaşık", "Öğütücü"],
    "unicode": ["🫖 teapot", "茶壶", "Żurek 🍲", "Чайник", "Größe", "naïve \u202fspace"],
}
PLAIN = [
    "Tea pot", 'Pipe 5" long', "Cup, small; blue", "C:\\path", "=cmd|' /C calc'!A0", "two\nlines",
    'He said "no"', "tab\there", "0012", "007", "a|b", "O'Neill", "-5", "+1", "@home", "100 %",
]  # fmt: skip
LETTERS = {
    "utf-8": "unicode", "utf-8-sig": "unicode", "utf-16": "unicode", "utf-16-le": "unicode",
    "utf-16-be": "unicode", "cp1250": "central", "iso8859-2": "central", "cp1251": "cyrillic",
    "iso8859-5": "cyrillic", "cp1252": "western", "iso8859-1": "western", "iso8859-15": "western",
    "cp1254": "turkish", "iso8859-9": "turkish", "iso8859-7": "greek",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    order_id: str
    product_id: str
    ts: datetime | None
    """In UTC."""
    quantity: float | None
    price: float | None
    user_id: str | None
    name: str | None


@dataclass(frozen=True)
class TimeStyle:
    name: str
    write: Callable[[datetime], str]
    """Of the moment, in the zone of the shop."""
    unit: timedelta = timedelta(seconds=1)
    """Finer parts of the clock are lost."""


def strftime(pattern: str, seconds: int = 1) -> TimeStyle:
    return TimeStyle(pattern, lambda ts: ts.strftime(pattern), timedelta(seconds=seconds))


def write_serial(ts: datetime) -> str:
    return f"{(ts.replace(tzinfo=None) - datetime(1899, 12, 30)) / timedelta(days=1):.6f}"


def write_epoch(factor: int) -> Callable[[datetime], str]:
    return lambda ts: str(int(ts.timestamp()) * factor)


DAY = 86_400
TIME_STYLES = {
    one.name: one
    for one in (
        *map(
            strftime,
            (
                "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S%z", "%Y%m%dT%H%M%S",
                "%Y-%m-%d %H:%M:%S %z", "%Y-%m-%dT%H:%M:%S.000%z", "%Y/%m/%d %H:%M:%S",
                "%d.%m.%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d-%m-%Y %H:%M:%S",
                "%m/%d/%Y %I:%M:%S %p", "%d %b %Y %H:%M:%S", "%b %d, %Y %I:%M:%S %p",
                "%a, %d %b %Y %H:%M:%S %z", "%Y%m%d%H%M%S", "%d.%m.%y %H:%M:%S",
                "%m/%d/%y %I:%M:%S %p", "%B %d, %Y %H:%M:%S", "%H:%M:%S %d.%m.%Y",
            ),
        ),
        *(
            strftime(one, 60)
            for one in ("%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M", "%Y-%m-%d %H:%M", "%d/%m/%y %H:%M")
        ),
        *(
            strftime(one, DAY)
            for one in ("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d-%b-%y", "%Y%m%d", "%d/%m/%Y")
        ),
        TimeStyle("colon", lambda ts: ts.isoformat(sep="T", timespec="seconds")),
        TimeStyle("Z", lambda ts: ts.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")),
        TimeStyle("excel", write_serial),
        TimeStyle("epoch s", write_epoch(1)),
        TimeStyle("epoch ms", write_epoch(1_000)),
        TimeStyle("epoch us", write_epoch(1_000_000)),
        TimeStyle("epoch ns", write_epoch(1_000_000_000)),
    )
}  # fmt: skip


@dataclass(frozen=True)
class NumberStyle:
    decimal: str = "."
    thousands: str = ""
    before: str = ""
    behind: str = ""
    n_digits: int = 2

    def write(self, number: float) -> str:
        text = f"{number:,.{self.n_digits}f}"
        marks = {",": self.thousands, ".": self.decimal}
        return f"{self.before}{''.join(marks.get(one, one) for one in text)}{self.behind}"


@dataclass(frozen=True)
class Style:
    encoding: str = "utf-8"
    separator: str = ","
    quoting: str = "minimal"
    """minimal, all, none or backslash."""
    line_end: str = "\n"
    n_titles: int = 0
    has_totals: bool = False
    has_trailing: bool = False
    n_blank: int = 0
    header: str = "ours"
    order: tuple[str, ...] = COLUMNS
    extra: tuple[str, ...] = ()
    null: str = ""
    time: str = "%Y-%m-%d %H:%M:%S"
    price: NumberStyle = NumberStyle()
    n_quantity_digits: int = 0
    packing: str = ""
    """gz, bz2, zst, zip or nothing."""


HEADERS: dict[str, dict[str, str]] = {
    "ours": {one: one for one in COLUMNS},
    "upper": {one: one.upper() for one in COLUMNS},
    "spaces": {one: f" {one} " for one in COLUMNS},
    "synonyms": dict(
        zip(
            COLUMNS,
            ("Order No.", "SKU", "Order Date", "Qty", "Unit Price", "Customer ID", "Product Name"),
            strict=True,
        )
    ),
    "german": dict(
        zip(
            COLUMNS,
            ("Bestellnummer", "Artikelnummer", "Bestelldatum", "Menge", "Einzelpreis",
             "Kundennummer", "Artikelbezeichnung"),
            strict=True,
        )
    ),
    "given": dict(zip(COLUMNS, ("F1", "F2", "F3", "F4", "F5", "F6", "F7"), strict=True)),
}  # fmt: skip
GIVEN = ",".join(f"{ours}={theirs}" for ours, theirs in HEADERS["given"].items())


def make_lines(
    rng: random.Random, n_lines: int, start: int, style: Style, zone: str, ids: str
) -> list[Line]:
    """As the style can write them: a clock without seconds has none."""
    span = rng.choice([1, 20, 200, 800]) * DAY
    first = datetime(rng.randint(2012, 2021), rng.randint(1, 12), rng.randint(1, 28), tzinfo=UTC)
    moments = [first + timedelta(seconds=rng.randrange(span)) for _ in range(n_lines)]
    moments = sorted(moments) if rng.random() < 0.5 else moments
    names = list_names(style)
    most = rng.choice([9.99, 999.99, 9_999.99, 150_000.0])
    share = rng.choice([0, 0, 0.2])
    lines = []
    for number, moment in enumerate(moments):
        order, product = start + number // 3, 3 * rng.randrange(30) + number % 3
        line = Line(
            order_id=write_id(ids, order), product_id=write_id(ids, product),
            ts=round_time(moment, style, zone), quantity=float(rng.choice([1, 1, 2, 3, 12, 40])),
            price=round(rng.uniform(0.01, most), style.price.n_digits),
            user_id=write_id(ids, rng.randrange(20)), name=rng.choice(names),
        )  # fmt: skip
        lines.append(forget(line, rng, share))
    return lines


def forget(line: Line, rng: random.Random, share: float) -> Line:
    optional = ("ts", "price", "user_id", "name")
    return Line(
        **{
            name: None if name in optional and rng.random() < share else value
            for name, value in vars(line).items()
        }
    )


def write_id(kind: str, number: int) -> str:
    return {"zeros": f"{number:06d}", "numbers": f"{number + 1}", "text": f"A-{number:02d}/x"}[kind]


def round_time(moment: datetime, style: Style, zone: str) -> datetime:
    clock = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
    unit = TIME_STYLES[style.time].unit
    clock -= (clock - datetime(1970, 1, 1)) % unit
    return clock.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None)


def list_names(style: Style) -> list[str]:
    names = [*WORDS[LETTERS[style.encoding]], *PLAIN]
    if style.quoting == "none":  # then nothing may be taken for a mark of the format
        marks = {style.separator, '"', "\n", "\\"}
        names = [one for one in names if not marks & {*one}]
    elif style.quoting == "backslash":  # one that is doubled is like two
        names = [one for one in names if "\\" not in one]
    return names


def write_texts(lines: Sequence[Line], style: Style, zone: str) -> list[dict[str, str]]:
    quantity = NumberStyle(style.price.decimal, n_digits=style.n_quantity_digits)
    write_time = TIME_STYLES[style.time].write
    rows = []
    for line in lines:
        values = vars(line) | {
            "ts": line.ts and write_time(line.ts.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))),
            "quantity": None if line.quantity is None else quantity.write(line.quantity),
            "price": None if line.price is None else style.price.write(line.price),
        }
        rows.append({ours: style.null if one is None else one for ours, one in values.items()})
    return rows


def write_csv(lines: Sequence[Line], style: Style, zone: str) -> bytes:
    names = HEADERS[style.header]
    width = len(style.order) + len(style.extra) + style.has_trailing
    rows = [[names.get(one, one) for one in (*style.order, *style.extra)]]
    rows += [
        [row[one] for one in style.order] + [f"{one} {i}" for one in style.extra]
        for i, row in enumerate(write_texts(lines, style, zone))
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator=style.line_end, **list_options(style))
    titles = [["Orders of the shop"], [], ["from January", "2024"]][: style.n_titles]
    totals = [["Total", *[""] * (width - 2), str(len(lines))]] if style.has_totals else []
    body = [row + [""] * (width - len(row)) for row in rows]
    writer.writerows(titles)
    for number, row in enumerate([*body, *totals]):
        writer.writerow(row)
        if style.n_blank and number % (len(body) // style.n_blank + 1) == 1:
            stream.write(style.line_end)
    return stream.getvalue().encode(style.encoding)


def list_options(style: Style) -> dict[str, Any]:
    options: dict[str, Any] = {"delimiter": style.separator, "quoting": csv.QUOTE_MINIMAL}
    if style.quoting == "all":
        options["quoting"] = csv.QUOTE_ALL
    elif style.quoting == "none":
        options |= {"quoting": csv.QUOTE_NONE, "quotechar": None}
    elif style.quoting == "backslash":
        options |= {"quoting": csv.QUOTE_ALL, "doublequote": False, "escapechar": "\\"}
    return options


def pack(content: bytes, packing: str, path: Path) -> Path:
    """Write the content, packed, beside `path`."""
    target = path.with_name(f"{path.name}.{packing}") if packing else path
    if packing == "zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.name, content)
        return target
    if packing == "zst":
        import pyarrow as pa

        content = pa.compress(content, "zstd", asbytes=True)
    elif packing:
        content = {"gz": gzip.compress, "bz2": bz2.compress}[packing](content)
    target.write_bytes(content)
    return target


def write_json(lines: Sequence[Line], style: Style, zone: str, shape: str) -> bytes:
    """Flat lines, or orders with nested `line_items`, one a line or as an answer of an API."""
    rows = write_texts(lines, style, zone)
    names = HEADERS[style.header]
    flat = [
        {names[one]: None if row[one] == style.null else row[one] for one in style.order}
        for row in rows
    ]
    if shape == "flat":
        return "\n".join(json.dumps(one, ensure_ascii=False) for one in flat).encode()
    orders: dict[tuple[str, ...], dict[str, Any]] = {}
    of_order = [names[one] for one in ("order_id", "ts", "user_id")]
    for row in flat:
        order = {one: row.pop(one) for one in of_order}
        key = tuple(str(one) for one in order.values())
        orders.setdefault(key, order | {"line_items": []})["line_items"].append(row)
    several = list(orders.values())
    if shape == "answer":
        return json.dumps({"orders": several}, ensure_ascii=False).encode()
    return "\n".join(json.dumps(one, ensure_ascii=False) for one in several).encode()


TIME_TYPES = (
    "timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]", "timestamp[ms, UTC]",
    "timestamp[us, Europe/Berlin]", "timestamp[ns, UTC]", "int96", "epoch s", "epoch ms",
    "string",
)  # fmt: skip
NUMBER_TYPES = ("double", "float", "decimal128(12, 2)", "string", "decimal256(40, 4)")
ID_TYPES = (
    "string", "large_string", "string_view", "binary", "dictionary", "int32", "uint32", "int64",
    "uint64", "decimal128(12, 0)",
)  # fmt: skip


def write_parquet(
    lines: Sequence[Line], style: Style, zone: str, path: Path, time: str, number: str, id_: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {
        "ts": make_times([one.ts for one in lines], zone, time),
        "quantity": pa.array([one.quantity for one in lines]).cast("int16"),
        "price": make_numbers([one.price for one in lines], number),
        "name": pa.array([one.name for one in lines], "string"),
    }
    for ours in ("order_id", "product_id", "user_id"):
        arrays[ours] = make_ids([getattr(one, ours) for one in lines], id_)
    names = HEADERS[style.header]
    table = pa.table({names[one]: arrays[one] for one in style.order})
    pq.write_table(table, path, use_deprecated_int96_timestamps=time == "int96")


def make_times(moments: Sequence[datetime | None], zone: str, kind: str) -> Any:
    """As clocks of the shop where the type has no zone."""
    import pyarrow as pa

    if kind.startswith("epoch"):
        factor = {"epoch s": 1, "epoch ms": 1_000}[kind]
        aware = [one and one.replace(tzinfo=UTC) for one in moments]
        return pa.array([one and int(one.timestamp()) * factor for one in aware], "int64")
    if "," in kind or kind == "int96":
        there = "UTC" if kind == "int96" else kind.split(", ")[1].rstrip("]")
        unit = "ns" if kind == "int96" else kind.split("[")[1].split(",")[0]
        return pa.array(moments, pa.timestamp(unit, there))
    clocks = [
        one and one.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        for one in moments
    ]
    if kind == "string":
        return pa.array([one and str(one) for one in clocks])
    return pa.array(clocks, pa.timestamp(kind.split("[")[1].rstrip("]")))


def make_numbers(numbers: Sequence[float | None], kind: str) -> Any:
    import pyarrow as pa

    if kind.startswith("decimal"):
        digits = [int(one) for one in kind.split("(")[1].rstrip(")").split(", ")]
        build = pa.decimal256 if "256" in kind else pa.decimal128
        exact = [None if one is None else Decimal(str(one)) for one in numbers]
        return pa.array(exact, build(*digits))
    texts = [None if one is None else str(one) for one in numbers]
    return pa.array(texts) if kind == "string" else pa.array(numbers, kind)


def make_ids(ids: Sequence[str | None], kind: str) -> Any:
    import pyarrow as pa

    if kind == "dictionary":
        return pa.array(ids, "string").dictionary_encode()
    if kind.startswith("decimal"):
        return pa.array([one and Decimal(one) for one in ids], pa.decimal128(12, 0))
    if "int" in kind:
        return pa.array([one and int(one) for one in ids], kind)
    return pa.array(ids, "string").cast(kind)
