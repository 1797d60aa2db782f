"""Formats that a column leaves open: its file's other columns decide, other files only hint."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.sources.errors import SourceError
from components.sources.formats import NUMBERS
from components.sources.reading import ColumnReading
from components.sources.understand import Kind, ReadSettings, Understood, understand_file

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MARKS = {"decimal comma": ",", "decimal point": "."}
NO_MARK = "no value has"
ORDERS = ("day first", "month first", "year first")
OWN = "as other columns of the file show"
OTHERS = "nothing in this file decides; read as the other files are"


def settle_doubts(
    con: "DuckDBPyConnection", one: Understood, number: int, files: Sequence[Understood],
    kind: Kind, settings: ReadSettings, staging: Path,
) -> Understood:  # fmt: skip
    """The file read again by its own other columns or, still in doubt, by the other files."""
    doubtful = {ours for ours, column in one.reading.columns.items() if not column.is_certain}
    own_marks = set(_find_marks([one]))
    marks, patterns = own_marks or set(_find_marks(files)), set(_find_patterns(files))
    choices = {}
    if doubtful & set(NUMBERS) and len(marks) == 1:
        choices["decimal"] = next(iter(marks))
    if "ts" in doubtful and len(patterns) == 1:
        choices["ts_format"] = next(iter(patterns))
    if not choices:
        return one
    given = settings.model_copy(update=choices)
    try:
        again = understand_file(con, one.file, number, kind, given, staging)
    except SourceError:  # another spelling than in the other files
        return understand_file(con, one.file, number, kind, settings, staging)
    columns = {
        ours: _as_borrowed(column, ours in NUMBERS and bool(own_marks))
        if ours in doubtful
        else column
        for ours, column in again.reading.columns.items()
    }
    return replace(again, reading=again.reading.model_copy(update={"columns": columns}))


def _as_borrowed(column: ColumnReading, is_certain: bool) -> ColumnReading:
    if not column.is_certain:
        return column
    evidence = OWN if is_certain else OTHERS
    return column.model_copy(update={"evidence": evidence, "is_certain": is_certain})


def _find_marks(files: Sequence[Understood]) -> Iterator[str]:
    """Decimal marks of the columns that prove theirs."""
    for file in files:
        for ours, column in file.reading.columns.items():
            mark = MARKS.get(column.format.partition(",")[0])
            is_proven = column.is_certain and not column.evidence.startswith(NO_MARK)
            if ours in NUMBERS and mark and is_proven:
                yield mark


def _find_patterns(files: Sequence[Understood]) -> Iterator[str]:
    """Patterns of times whose order of day and month is proven."""
    for file in files:
        column = file.reading.columns.get("ts")
        if column and column.is_certain and column.evidence.startswith(ORDERS):
            yield column.format
