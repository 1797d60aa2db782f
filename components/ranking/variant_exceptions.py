"""Pairs of variants that a shop wants recommended together all the same."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from components.sources.csv_tables import open_csv
from components.sources.errors import SourceError
from components.sources.json_tables import open_json
from components.sources.normalise import connect
from components.sources.parquet_tables import open_parquet
from components.sources.source import open_source
from components.sources.tables import Table
from components.sources.unpack import PlainFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

COLUMNS = ("product_id", "other_id")  # A file may have more columns, such as a reason
FILES = (".csv", ".parquet")

Pair = tuple[str, str]


class ExceptionsError(SourceError):
    """The exceptions cannot be read; names what was found and expected."""


def read_exceptions(given: str) -> list[Pair]:
    """Pairs from text, `A1+A2, B7+B9`, or from a file or URL with the COLUMNS.

    Raises ExceptionsError, and SourceError for a missing file.
    """
    if not is_file(given):
        return parse_pairs(given)
    if given.startswith("jdbc:"):
        raise ExceptionsError("variant_exceptions: found a jdbc: query, expected a file or pairs")
    with tempfile.TemporaryDirectory() as folder, connect(Path(folder)) as con:
        con.execute("set preserve_insertion_order=true")  # for the rows that messages name
        files = open_source(given, Path(folder))
        pairs = [pair for file in files for pair in _read_pairs(con, file, Path(folder))]
    return list(dict.fromkeys(pairs))


def is_file(given: str) -> bool:
    """Whether `given` names a file or URL instead of pairs."""
    return "://" in given or given.strip().lower().endswith(FILES)


def parse_pairs(text: str) -> list[Pair]:
    """Raises ExceptionsError unless the text is like `A1+A2, B7+B9`."""
    pairs = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        ids = tuple(one.strip() for one in part.split("+"))
        if len(ids) != 2 or not all(ids):
            raise ExceptionsError(
                f"variant_exceptions: {part!r} is not a pair; expected ID+ID, or a file whose name "
                f"ends in {' or '.join(FILES)}, with the columns {' and '.join(COLUMNS)}"
            )
        pairs.append((ids[0], ids[1]))
    return list(dict.fromkeys(pairs))


def unknown_ids(pairs: Iterable[Pair], product_ids: Iterable[str]) -> list[str]:
    known = set(product_ids)
    return [one for one in dict.fromkeys(id_ for pair in pairs for id_ in pair) if one not in known]


def _read_pairs(con: "DuckDBPyConnection", file: PlainFile, staging: Path) -> list[Pair]:
    """As text, so that leading zeros survive."""
    table = _open_table(con, file, staging)
    for name in COLUMNS:
        if name not in table.columns:
            raise ExceptionsError(
                f"variant_exceptions: {file.name} has the columns {', '.join(table.columns)}; "
                f"expected {' and '.join(COLUMNS)}, in a CSV file named by its first line"
            )
    ids = ", ".join(f"coalesce(trim({table.columns[name].text}), '')" for name in COLUMNS)
    pairs: list[Pair] = con.execute(f"select {ids} from {table.relation}").fetchall()
    for row, pair in enumerate(pairs, start=1):
        for name, id_ in zip(COLUMNS, pair, strict=True):
            if not id_:
                raise ExceptionsError(
                    f"variant_exceptions: {name} is empty in row {row} of {file.name}"
                )
    return pairs


def _open_table(con: "DuckDBPyConnection", file: PlainFile, staging: Path) -> Table:
    if file.kind == "parquet":
        return open_parquet(con, file)
    if file.kind == "json":
        return open_json(con, file)
    return open_csv(con, file, lambda names: set(COLUMNS) <= set(names), staging)
