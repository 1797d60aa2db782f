"""Separated text as a table: its dialect and its header.

DuckDB's sniffer finds the dialect. It lacks: a header below title lines, headers of columns that
are all text, quotes that begin after its sample, and lines with too few or too many values.
"""

import codecs
import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.sources.csv_rows import MAX_MALFORMED, open_rows
from components.sources.errors import SourceError
from components.sources.tables import Dialect, Table, fetch_one, name_twins, sql_text
from components.sources.unpack import PlainFile

if TYPE_CHECKING:
    from _csv import Reader

    from duckdb import DuckDBPyConnection

SEPARATORS = (",", ";", "\t", "|")
SAMPLE_BYTES = 1 << 20
N_HEADER_LINES = 40
"""The header is looked for in so many first records."""
SNIFFED = 100_000
"""Characters shown to DuckDB's sniffer."""

IsHeader = Callable[[list[str]], bool]


@dataclass(frozen=True)
class _Head:
    dialect: Dialect
    names: list[str]
    end: int
    """Place of the first byte after the header."""


def open_csv(
    con: "DuckDBPyConnection", file: PlainFile, is_header: IsHeader, staging: Path
) -> Table:
    """Raises SourceError where no line, or more than one, can be the header."""
    text = _read_sample(file.path)
    head, names = _find_head(file, text, _sniff(con, text, staging), is_header)
    path = file.path
    if head.dialect.n_skipped or "\n" in text[: head.end].rstrip("\r\n"):
        path = _cut_head(file.path, text[: head.end], staging)
    return open_rows(con, path, head.dialect, names, file, staging)


def _read_sample(path: Path) -> str:
    with path.open("rb") as stream:
        sample = stream.read(SAMPLE_BYTES)
    if len(sample) == SAMPLE_BYTES:
        sample = sample[: sample.rfind(b"\n") + 1] or sample
    return sample.decode("utf-8-sig", errors="replace")


def _find_head(
    file: PlainFile, text: str, sniffed: Dialect, is_header: IsHeader
) -> tuple[_Head, list[str]]:
    """With the names of all columns, by the first dialect that fits the header and the lines.

    The sniffer's dialect is tried first, for it is wrong at times about quotes.
    """
    refusal = None
    candidates = [sniffed, *map(Dialect, (sniffed.separator, *SEPARATORS))]
    for dialect in (_find_quotes(text, one) for one in dict.fromkeys(candidates)):
        if head := _find_header(file, text, dialect, is_header):
            try:
                return head, _pad_names(head, text[head.end :], file.name)
            except SourceError as error:
                refusal = refusal or error
    if refusal:
        raise refusal
    head = _guess_head(list(_read_heads(text, sniffed)), file)
    return head, head.names


def _find_header(file: PlainFile, text: str, dialect: Dialect, is_header: IsHeader) -> _Head | None:
    """The record that names our columns; raises SourceError where two different ones do."""
    found = [one for one in _read_heads(text, dialect) if is_header(one.names)]
    different = {tuple(one.names): one for one in found}
    if len(different) > 1:
        first, second, *_ = different.values()
        raise SourceError(
            f"{file.name}: lines {first.dialect.n_skipped + 1} and "
            f"{second.dialect.n_skipped + 1} can both be the header "
            f"({', '.join(first.names[:8])} and {', '.join(second.names[:8])}), expected one; "
            "delete one of them"
        )
    return found[0] if found else None


def _guess_head(heads: Sequence[_Head], file: PlainFile) -> _Head:
    """The first of the widest records, for the message on what it lacks."""
    if not heads:
        raise SourceError(
            f"{file.name}: no lines, expected a header and at least one line; export it again"
        )
    return max(heads[:10], key=lambda one: sum(bool(name.strip()) for name in one.names))


def _sniff(con: "DuckDBPyConnection", text: str, staging: Path) -> Dialect:
    import duckdb

    # Of the whole file, it would read a line of megabytes again for each dialect.
    path = staging / "sniffed.csv"
    path.write_text(text[: text.rfind("\n", 0, SNIFFED) + 1] or text[:SNIFFED], newline="")

    options = "compression='none', "
    options += "all_varchar=true, ignore_errors=true, strict_mode=false, sample_size=2000"
    query = f"select Delimiter, Quote, Escape from sniff_csv({sql_text(str(path))}, {options})"
    try:
        separator, quote, escape = fetch_one(con, query)
    except duckdb.Error:
        return Dialect(",")
    separator = "\t" if separator == "\\t" else separator
    if len(separator) != 1 or separator.isalnum():
        return Dialect(",")
    return Dialect(separator, "'" if quote == "'" else '"', "\\" if escape == "\\" else '"')


def _find_quotes(text: str, dialect: Dialect) -> Dialect:
    """Single quotes where more values begin with one than with a double quote.

    A backslash where more quotes within values have one before than are doubled.
    """
    start = f"(?:^|{re.escape(dialect.separator)})"
    n_double, n_single = (len(re.findall(start + one, text, re.MULTILINE)) for one in "\"'")
    if dialect.quote == "'" and n_single > n_double:
        return dialect
    end = f"[{re.escape(dialect.separator)}\r\n]"
    n_backslashes = len(re.findall(rf'\\"(?!{end}|$)', text))
    n_doubled = len(re.findall(rf'(?<!{end})(?<!\\)""(?!{end}|$)', text))
    return replace(dialect, quote='"', escape="\\" if n_backslashes > n_doubled else '"')


def _read_heads(text: str, dialect: Dialect) -> Iterator[_Head]:
    """The first records, each as if it were the header."""
    reader = _read_records(text, dialect)
    ends = _line_ends(text)
    try:
        n_skipped = 0
        for record, _ in zip(reader, range(N_HEADER_LINES), strict=False):
            if record:
                end = ends(reader.line_num)
                line_end = "\r\n" if text.endswith("\r\n", 0, end) else "\n"
                here = replace(dialect, n_skipped=n_skipped, line_end=line_end)
                yield _Head(here, name_twins(record), end)
            n_skipped = reader.line_num
    except csv.Error:
        return


def _read_records(text: str, dialect: Dialect) -> "Reader":
    is_doubled = dialect.escape != "\\"
    return csv.reader(
        io.StringIO(text, newline=""), delimiter=dialect.separator, quotechar=dialect.quote,
        doublequote=is_doubled, escapechar=None if is_doubled else dialect.escape,
    )  # fmt: skip


def _line_ends(text: str) -> Callable[[int], int]:
    ends: list[int] = []
    place = 0
    while len(ends) < N_HEADER_LINES * 10 and place < len(text):
        place = text.find("\n", place) + 1 or len(text)
        ends.append(place)
    return lambda n_lines: ends[min(n_lines, len(ends)) - 1]


def _pad_names(head: _Head, body: str, name: str) -> list[str]:
    """With empty names for values beyond the header, as of trailing separators.

    A value beyond the header means that all values may stand under the wrong name.
    """
    reader = _read_records(body, head.dialect)
    n_names = len(head.names)
    rows = [row for row, _ in zip(reader, range(1000), strict=False) if row]
    longer = [row for row in rows if len(row) > n_names]
    filled = [row for row in longer if any(value.strip() for value in row[n_names:])]
    if len(filled) > MAX_MALFORMED * len(rows):
        raise SourceError(
            f"{name}: the header has {n_names} names, but a line has {len(filled[0])} values "
            f"({head.dialect.separator.join(filled[0])[:80]}), expected as many; add the missing "
            "name, or put values that contain the separator in quotes"
        )
    extra = max((len(row) - n_names for row in longer if row not in filled), default=0)
    return [*head.names, *[""] * extra]


def _cut_head(path: Path, head: str, staging: Path) -> Path:
    target = staging / f"body-{len(list(staging.iterdir()))}.csv"
    with path.open("rb") as source, target.open("wb") as copy:
        mark = len(codecs.BOM_UTF8)
        source.seek(mark * (source.read(mark) == codecs.BOM_UTF8) + len(head.encode()))
        shutil.copyfileobj(source, copy, 1 << 20)
    return target
