"""How the sources were read, in words."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.report.formats import describe_format
from components.report.formatting import count
from components.sources.legacy_encoding import name_encoding
from components.sources.reading import ColumnReading, FileReading, Reading, join_platforms

COLUMNS = {
    "order_id": "Order",
    "user_id": "Customer",
    "product_id": "Product",
    "ts": "Time",
    "position": "Position in the order",
    "quantity": "Quantity",
    "price": "Price",
    "name": "Name",
    "category": "Category",
    "brand": "Brand",
    "image_url": "Picture",
    "in_stock": "In stock",
    "margin": "Margin",
    "added_at": "Added",
}
"""In the order of the tables."""
KINDS = {"text": "text", "json": "JSON", "parquet": "Parquet"}
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "spaces"}
MAX_GROUPS = 10
"""Groups of files on the page; reading.json has all."""


@dataclass(frozen=True)
class FileGroup:
    """Files that were read alike; evidence is that of the first."""

    files: list[FileReading]

    @property
    def first(self) -> FileReading:
        return self.files[0]

    @property
    def title(self) -> str:
        n_files = len(self.files)
        return f"{count(n_files)} files like {self.first.name}" if n_files > 1 else self.first.name

    @property
    def columns(self) -> dict[str, ColumnReading]:
        found = self.first.columns
        ordered = [ours for ours in COLUMNS if ours in found]
        return {ours: found[ours] for ours in (*ordered, *found)}

    @property
    def unused(self) -> list[str]:
        return list(dict.fromkeys(one for file in self.files for one in file.unused))

    @property
    def notes(self) -> list[str]:
        return list(dict.fromkeys(one for file in self.files for one in file.notes))

    @property
    def n_lines(self) -> int:
        return sum(file.n_lines for file in self.files)

    @property
    def n_malformed(self) -> int:
        return sum(file.n_malformed for file in self.files)

    @property
    def dropped(self) -> dict[str, int]:
        total = Counter[str]()
        for file in self.files:
            total.update(file.dropped)
        return dict(total.most_common())


def parse_readings(found: Mapping[str, Any]) -> dict[str, Reading]:
    """By kind of source: `orders`, and `products` where there was a product table."""
    return {kind: Reading.model_validate(one) for kind, one in found.items() if one}


def group_files(reading: Reading) -> list[FileGroup]:
    """The largest group first."""
    groups: dict[tuple[object, ...], list[FileReading]] = {}
    for file in reading.files:
        groups.setdefault(_how_read(file), []).append(file)
    return [FileGroup(files) for files in sorted(groups.values(), key=len, reverse=True)]


def _how_read(file: FileReading) -> tuple[object, ...]:
    columns = ((o, c.theirs, c.format, c.is_certain) for o, c in file.columns.items())
    return (
        *(file.kind, file.encoding, file.encoding_is_certain, file.compression, file.separator),
        *(file.quote, file.header_line, file.platform, *sorted(columns)),
    )


def describe_origin(reading: Reading) -> str:
    n_files = f"{count(len(reading.files))} {'file' if len(reading.files) == 1 else 'files'}"
    platforms = " and ".join(join_platforms(reading.files))
    n_others = sum(not file.platform for file in reading.files)
    if not platforms:
        return f"{n_files} with columns of the shop's own."
    others = f"; {count(n_others)} with columns of the shop's own" if n_others else ""
    return f"{n_files}, recognised by the header as: {platforms}{others}."


def describe_file(file: FileReading) -> str:
    facts = [KINDS.get(file.kind, file.kind)]
    if file.encoding:
        facts.append(f"letters in {name_encoding(file.encoding)} ({file.encoding_evidence})")
    if file.compression == "workbook":
        facts.append("from an Excel workbook")
    elif file.compression:
        facts.append(f"compressed with {file.compression}")
    if file.separator:
        facts.append(f"columns separated by {SEPARATORS.get(file.separator, repr(file.separator))}")
    if file.header_line:
        facts.append(f"names of the columns in line {file.header_line}")
    return ", ".join(facts)


def list_doubts(reading: Reading) -> list[tuple[str, str]]:
    """Choices that nothing decides: of what in which files, and what was chosen and why."""
    files_of: dict[tuple[str, str], list[str]] = {}
    for file in reading.files:
        for doubt in _doubts_of(file):
            files_of.setdefault(doubt, []).append(file.name)
    return [(f"{what} in {_name_some(names)}", why) for (what, why), names in files_of.items()]


def _doubts_of(file: FileReading) -> list[tuple[str, str]]:
    found = [
        (f"{name_column(ours)} {quote_names(column.theirs)}", _describe_doubt(column))
        for ours, column in file.columns.items()
        if not column.is_certain
    ]
    if not file.encoding_is_certain:
        found.append(("Letters", f"{name_encoding(file.encoding)}: {file.encoding_evidence}"))
    return found


def _describe_doubt(column: ColumnReading) -> str:
    parts = (column.evidence, describe_format(column.format))
    return ". ".join(part[0].upper() + part[1:] for part in parts if part)


def _name_some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {count(len(names) - 1)} more"


def name_column(ours: str) -> str:
    return COLUMNS.get(ours, ours)


def describe_repair(note: str) -> str:
    """`ours: …` with the column's name for people."""
    ours, colon, rest = note.partition(":")
    return f"{name_column(ours)}{colon}{rest}"


def quote_names(theirs: Iterable[str]) -> str:
    return ", ".join(f"“{one}”" for one in theirs)


def explain_column(ours: str, file: FileReading) -> str:
    """Why the values are read as they are or, of texts, why it is this column."""
    if evidence := file.columns[ours].evidence:
        return evidence
    return "a usual name of it" if ours in file.by_synonym else ""
