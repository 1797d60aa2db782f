"""A record of how a source was understood: for the report, the registry and `fbt inspect`."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnReading(_Model):
    """One of our columns."""

    theirs: tuple[str, ...]
    """The shop's names; the first with a value counts."""
    format: str = ""
    """Of numbers and times, in words."""
    evidence: str = ""
    is_certain: bool = True


class FileReading(_Model):
    name: str
    kind: str
    encoding: str = ""
    encoding_evidence: str = ""
    encoding_is_certain: bool = True
    compression: str = ""
    separator: str = ""
    quote: str = ""
    header_line: int = 1
    platform: str = ""
    by_synonym: tuple[str, ...] = ()
    """Our names that were found by a synonym of theirs."""
    columns: dict[str, ColumnReading] = {}
    """By our names."""
    unused: tuple[str, ...] = ()
    """The shop's columns that are not mapped."""
    n_lines: int = 0
    """0 where they were not counted."""
    n_malformed: int = 0
    dropped: dict[str, int] = {}
    """Rows that are no lines of a sale, by reason."""
    notes: tuple[str, ...] = ()


class Unreadable(_Model):
    """Values of a column that became null."""

    n_values: int
    examples: tuple[str, ...]


class Reading(_Model):
    """A source."""

    source: str
    timezone: str = "UTC"
    files: tuple[FileReading, ...] = ()
    unreadable: dict[str, Unreadable] = {}
    """By our name of the column."""
    notes: tuple[str, ...] = ()

    def with_lines(self, n_lines: Iterable[int]) -> "Reading":
        """`n_lines` of each file."""
        counted = zip(self.files, n_lines, strict=True)
        files = tuple(file.model_copy(update={"n_lines": n}) for file, n in counted)
        return self.model_copy(update={"files": files})

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    def doubts(self) -> list[str]:
        """Choices that nothing decided, one sentence each, without repetitions."""
        found = (
            f"{ours} ({', '.join(column.theirs)}): {column.format}; {column.evidence}"
            for file in self.files
            for ours, column in file.columns.items()
            if not column.is_certain
        )
        encodings = (
            f"encoding: {file.encoding}; {file.encoding_evidence}"
            for file in self.files
            if not file.encoding_is_certain
        )
        return list(dict.fromkeys([*found, *encodings, *self.notes]))


def join_platforms(files: Iterable[FileReading]) -> list[str]:
    return sorted({file.platform for file in files if file.platform})
