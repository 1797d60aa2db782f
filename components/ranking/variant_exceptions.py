"""Pairs of variants that a shop wants recommended together all the same."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.orders.source import detect_separator, fetch, is_parquet, local_files

COLUMNS = ("product_id", "other_id")  # A file may have more columns, such as a reason
FILES = (".csv", ".parquet")

Pair = tuple[str, str]


class ExceptionsError(ValueError):
    """The exceptions cannot be read; names what was found and expected."""


def read_exceptions(given: str) -> list[Pair]:
    """Pairs from text, `A1+A2, B7+B9`, or from a file or URL with the COLUMNS.

    Raises ExceptionsError, and SourceError for a missing file.
    """
    if not is_file(given):
        return parse_pairs(given)
    if given.startswith("jdbc:"):
        raise ExceptionsError("variant_exceptions: found a jdbc: query, expected a file or pairs")
    with tempfile.TemporaryDirectory() as folder:
        files = local_files(str(fetch(given, Path(folder) / "fetched")))
        pairs = [pair for file in files for pair in _read_pairs(file, given)]
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


def _read_pairs(file: Path, given: str) -> list[Pair]:
    table, columns = _read_file(file, given), []
    for name in COLUMNS:
        if name not in table.column_names:
            raise ExceptionsError(
                f"variant_exceptions: {given} has the columns {', '.join(table.column_names)}; "
                f"expected {' and '.join(COLUMNS)}, in a CSV file named by its first line"
            )
        ids = [str(one or "").strip() for one in table[name].cast("string").to_pylist()]
        if "" in ids:
            row = ids.index("") + 1
            raise ExceptionsError(f"variant_exceptions: {name} is empty in row {row} of {given}")
        columns.append(ids)
    return list(zip(*columns, strict=True))


def _read_file(file: Path, given: str) -> Any:
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if is_parquet(file):
            return parquet.read_table(file)
        # As text: leading zeros survive.
        texts = csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()))
        parsing = csv.ParseOptions(delimiter=detect_separator(file), newlines_in_values=True)
        return csv.read_csv(file, parse_options=parsing, convert_options=texts)
    except pa.ArrowException as error:
        raise ExceptionsError(
            f"variant_exceptions: {given} is neither CSV nor Parquet: {error}"
        ) from None
