"""Rows of separated text below its header: in place, or by a lenient copy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.sources.errors import SourceError
from components.sources.tables import Column, Dialect, Table, fetch_one, sql_text
from components.sources.unpack import PlainFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_LINE_BYTES = 2_000_000
MAX_MALFORMED = 0.05
"""Share of lines that are no rows, above which the dialect is taken to be wrong."""


def open_rows(
    con: "DuckDBPyConnection", path: Path, dialect: Dialect, names: Sequence[str],
    file: PlainFile, staging: Path,
) -> Table:  # fmt: skip
    """In place where every line has all values, else by a lenient copy."""
    import duckdb

    if not path.stat().st_size:
        empty = ", ".join(f"null::varchar as {_place(i)}" for i in range(len(names)))
        return _to_table(file, f"(select {empty} limit 0)", names, dialect)
    strict = _scan(path, dialect, len(names), int(path == file.path))
    try:
        fetch_one(con, f"select count({_place(len(names) - 1)}) from {strict}")
    except duckdb.Error:
        return _open_leniently(con, path, dialect, names, file, staging)
    return _to_table(file, strict, names, dialect)


def _open_leniently(
    con: "DuckDBPyConnection", path: Path, dialect: Dialect, names: Sequence[str],
    file: PlainFile, staging: Path,
) -> Table:  # fmt: skip
    """With quotes or, if fewer lines are malformed then, with quotes as part of the values."""
    skipped = int(path == file.path)
    best, chosen = _copy_rows(con, path, dialect, len(names), skipped, staging), dialect
    is_open = _has_open_quote(path, dialect)
    if best.n_malformed or is_open:
        bare = replace(dialect, quote="", escape="")
        other = _copy_rows(con, path, bare, len(names), skipped, staging)
        is_quoted = _count_quoted(con, other, len(names)) > MAX_MALFORMED * other.n_rows
        if is_quoted and is_open:
            raise SourceError(
                f"{file.name}: a quote is not closed (their number is odd), expected two around a "
                "value, and doubled within; close it, or export the file again"
            )
        if (other.n_malformed < best.n_malformed or is_open) and not is_quoted:
            best, chosen = other, bare
    if best.n_malformed > MAX_MALFORMED * (best.n_rows + best.n_malformed):
        line = fetch_one(con, f"select line from {best.malformed} limit 1")[0]
        raise SourceError(
            f"{file.name}: {best.n_malformed} of {best.n_rows + best.n_malformed} lines do not fit "
            f"the header of {len(names)} columns separated by {dialect.separator!r}, such as "
            f"{line[:120]!r}; expected at most {MAX_MALFORMED:.0%}; export it again"
        )
    table = _to_table(file, f"read_parquet({sql_text(str(best.path))})", names, chosen)
    return replace(table, malformed=best.malformed if best.n_malformed else "")


@dataclass(frozen=True)
class _Copy:
    path: Path
    n_rows: int
    n_malformed: int
    malformed: str


def _copy_rows(
    con: "DuckDBPyConnection", path: Path, dialect: Dialect, n_columns: int, skipped: int,
    staging: Path,
) -> _Copy:  # fmt: skip
    """Short lines are padded; malformed ones go to a table of their own."""
    import duckdb

    key = f"{len(list(staging.iterdir()))}"
    target, rejects = staging / f"rows-{key}.parquet", f"rejects_{key}"
    lenient = (
        "null_padding=true, parallel=false, store_rejects=true, "
        f"rejects_table='{rejects}', rejects_scan='scans_{key}'"
    )
    scan = _scan(path, dialect, n_columns, skipped, lenient)
    try:
        con.execute(f"copy (select * from {scan}) to {sql_text(str(target))} (format parquet)")
    except duckdb.Error:
        # CRLF, LF and CR in one file; DuckDB refuses the mix.
        even = _equalise_line_breaks(path, staging)
        even_dialect = replace(dialect, line_end="\n")
        return _copy_rows(con, even, even_dialect, n_columns, skipped, staging)
    n_rows = fetch_one(con, f"select count(*) from read_parquet({sql_text(str(target))})")[0]
    malformed = f"(select any_value(csv_line) as line from {rejects} group by scan_id, line)"
    return _Copy(target, n_rows, fetch_one(con, f"select count(*) from {malformed}")[0], malformed)


def _has_open_quote(path: Path, dialect: Dialect) -> bool:
    """DuckDB drops all lines behind it, without a word in its table of rejects."""
    if dialect.escape != dialect.quote:
        return False
    mark = dialect.quote.encode()
    with path.open("rb") as stream:
        return sum(block.count(mark) for block in iter(lambda: stream.read(1 << 20), b"")) % 2 > 0


def _count_quoted(con: "DuckDBPyConnection", copy: _Copy, n_columns: int) -> int:
    """Rows with a value that begins with a quote."""
    is_quoted = " or ".join(f"starts_with({_place(i)}, '\"')" for i in range(n_columns))
    path = sql_text(str(copy.path))
    return int(fetch_one(con, f"select count(*) from read_parquet({path}) where {is_quoted}")[0])


def _equalise_line_breaks(path: Path, staging: Path) -> Path:
    target = staging / f"even-{len(list(staging.iterdir()))}.csv"
    with path.open(newline="", encoding="utf-8") as source, target.open("wb") as copy:
        while chunk := source.read(1 << 20):
            if chunk.endswith("\r"):
                chunk += source.read(1)
            copy.write(chunk.replace("\r\n", "\n").replace("\r", " ").encode())
    return target


def _scan(path: Path, dialect: Dialect, n_columns: int, skipped: int, lenient: str = "") -> str:
    columns = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(n_columns))
    options = {
        "delim": dialect.separator, "quote": dialect.quote, "escape": dialect.escape,
        "new_line": dialect.line_end.replace("\r", "\\r").replace("\n", "\\n"),
    }  # fmt: skip
    given = ", ".join(f"{name}={sql_text(value)}" for name, value in options.items())
    more = f", {lenient}" if lenient else ""
    return (
        f"read_csv({sql_text(str(path))}, compression='none', "
        f"auto_detect=false, header=false, skip={skipped}, "
        f"max_line_size={MAX_LINE_BYTES}, {given}{more}, columns={{{columns}}})"
    )


def _place(number: int) -> str:
    return f'"c{number}"'


def _to_table(file: PlainFile, relation: str, names: Sequence[str], dialect: Dialect) -> Table:
    columns = {name: Column(_place(i)) for i, name in enumerate(names) if name}
    return Table(file.name, relation, columns, {}, dialect)
