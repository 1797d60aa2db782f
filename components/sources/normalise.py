"""Any source as Parquet files of one schema, and a record of how it was understood.

Each file has its own encoding, dialect, header and formats; files are joined by column name.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.progress import log_progress
from components.sources.doubts import settle_doubts
from components.sources.ids import IdRepair, detect_id_damage
from components.sources.reading import FileReading, Reading, Unreadable
from components.sources.selection import IDS, NO_LINES
from components.sources.tables import fetch_one, sql_text
from components.sources.typed_columns import RAW
from components.sources.understand import Kind, ReadSettings, Understood, understand_file
from components.sources.unpack import PlainFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

N_EXAMPLES = 3
MEMORY = "2GB"
MAX_THREADS = 8
"""Each needs its part of the memory, and a pod sees all cores of its node."""
MALFORMED = "malformed line"
MAX_SHOWN = 1_000
"""Characters kept of a line that is no row, in place of its order id."""


@contextmanager
def connect(scratch: Path) -> "Iterator[DuckDBPyConnection]":
    """A database in memory that spills to `scratch`."""
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "temp_directory": str(scratch / "spill"),
        "threads": str(min(os.cpu_count() or 1, MAX_THREADS)),
        "preserve_insertion_order": "false",
    }
    con = duckdb.connect(config=config)
    try:
        con.execute("set TimeZone='UTC'")
        yield con
    finally:
        con.close()


Repairs = dict[str, list[IdRepair]]
"""By our name of the id."""


@dataclass(frozen=True)
class Lines:
    """All files of a source, understood but not yet written."""

    files: list[Understood]
    repairs: list[Repairs]
    """Of each file."""

    def select(self, number: int) -> str:
        found = {ours: _apply(ours, several) for ours, several in self.repairs[number].items()}
        lines = self.files[number].select_lines(found)
        if malformed := self.files[number].table.malformed:
            text = f"left(line, {MAX_SHOWN}) as order_id, '{MALFORMED}' as left_out"
            lines += f" union all by name select {text} from {malformed}"
        return lines

    def select_all(self) -> str:
        return " union all by name ".join(self.select(i) for i in range(len(self.files)))


def understand_files(
    con: "DuckDBPyConnection", files: Sequence[PlainFile], kind: Kind, settings: ReadSettings,
    staging: Path, known: str | None = None,
) -> Lines:  # fmt: skip
    """`known` is a relation of the product table's ids. Raises SourceError."""
    staging.mkdir(parents=True, exist_ok=True)
    found = []
    for number, file in enumerate(files):
        if len(files) > 20 and number % 20 == 0:
            log_progress(f"reading file {number + 1} of {len(files)}")
        found.append(understand_file(con, file, number, kind, settings, staging))
    settled = [
        settle_doubts(con, one, number, found, kind, settings, staging)
        for number, one in enumerate(found)
    ]
    return Lines(settled, _find_repairs(con, settled, kind, known))


def _find_repairs(
    con: "DuckDBPyConnection", files: Sequence[Understood], kind: Kind, known: str | None
) -> list[Repairs]:
    """Of ids that passed through a spreadsheet: `.0` and exponents within a file, zeros in all."""
    looks = [_look_at_ids(con, one, IDS if kind == "orders" else ("product_id",)) for one in files]
    repairs: list[Repairs] = [{} for _ in files]
    for number, look in enumerate(looks):
        for ours, found in look.items():
            if found.has_marks:
                ids = known if ours == "product_id" else None
                repairs[number][ours] = detect_id_damage(con, files[number].texts, ours, known=ids)
    products = [look["product_id"] for look in looks if "product_id" in look]
    if kind == "orders" and _may_lack_zeros(products, known):
        views = " union all ".join(f"select product_id from {one.texts}" for one in files)
        for repair in detect_id_damage(con, f"({views})", "product_id", known=known):
            for one in repairs if repair.kind == "lost_zeros" else ():
                one.setdefault("product_id", []).append(repair)
    return repairs


class _IdLook(NamedTuple):
    has_marks: bool
    """Some end in .0 or have an exponent."""
    has_zeros: bool
    """Some begin with 0."""
    least: int
    most: int
    """Characters."""


def _look_at_ids(
    con: "DuckDBPyConnection", one: Understood, names: Sequence[str]
) -> dict[str, _IdLook]:
    """In one scan, for the most files have no such ids."""
    there = [ours for ours in names if ours in one.selection.texts]
    looks = [
        f"coalesce(bool_or(ends_with({ours}, '.0') or contains({ours}, 'E+') "
        f"or contains({ours}, 'e+')), false), coalesce(bool_or(starts_with({ours}, '0')), false), "
        f"coalesce(min(strlen({ours})), 0), coalesce(max(strlen({ours})), 0)"
        for ours in there
    ]
    row = fetch_one(con, f"select {', '.join(looks)} from {one.texts}")
    return {ours: _IdLook(*row[4 * i : 4 * i + 4]) for i, ours in enumerate(there)}


def _may_lack_zeros(products: Sequence[_IdLook], known: str | None) -> bool:
    differ = min(one.least for one in products) < max(one.most for one in products)
    return known is not None or (differ and any(one.has_zeros for one in products))


def _apply(ours: str, repairs: Sequence[IdRepair]) -> str:
    sql = ours
    for repair in repairs:
        if repair.is_proven:
            sql = repair.sql(sql)
    return sql


def write_lines(
    con: "DuckDBPyConnection", lines: Lines, numbers: Sequence[int], folder: Path
) -> list[Path]:
    """One Parquet file for each of the numbered files, without the rows that are NO_LINES."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {number: folder / f"{number:05d}.parquet" for number in numbers}
    is_line = f"coalesce(left_out, '') not in ({', '.join(map(sql_text, NO_LINES))})"
    for number, path in paths.items():
        kept = f"select * from ({lines.select(number)}) where {is_line}"
        con.execute(f"copy ({kept}) to {sql_text(str(path))} (format parquet)")
    return list(paths.values())


def describe(
    con: "DuckDBPyConnection", source: str, lines: Lines, relation: str, settings: ReadSettings
) -> Reading:
    """`relation` has the lines as written."""
    return Reading(
        source=source,
        timezone=settings.timezone,
        files=tuple(_with_counts(con, one, lines.select(i)) for i, one in enumerate(lines.files)),
        unreadable=count_unreadable(con, relation),
        notes=tuple(
            dict.fromkeys(one for each in lines.repairs for one in _describe_repairs(each))
        ),
    )


def _with_counts(con: "DuckDBPyConnection", one: Understood, lines: str) -> FileReading:
    dropped: Mapping[str, int] = {}
    if one.mapping.platform:
        reasons = ", ".join(map(sql_text, NO_LINES))
        found = con.execute(
            f"select left_out, count(*) from ({lines}) where left_out in ({reasons}) group by all"
        )
        dropped = dict(found.fetchall())
    n_malformed = 0
    if one.table.malformed:
        n_malformed = fetch_one(con, f"select count(*) from {one.table.malformed}")[0]
    return one.reading.model_copy(update={"dropped": dropped, "n_malformed": n_malformed})


def count_unreadable(con: "DuckDBPyConnection", relation: str) -> dict[str, Unreadable]:
    """Values that became null, with examples; quantities are the quarantine's matter."""
    found = {}
    for ours in (one for one in RAW if one != "quantity"):
        is_lost = f"trim({ours}_text) <> '' and {ours} is null and left_out is null"
        n_values = fetch_one(con, f"select count(*) from {relation} where {is_lost}")[0]
        if n_values:
            lost = f"(select {ours}_text as t from {relation} where {is_lost} limit 10000)"
            rows = con.execute(
                f"select t from {lost} group by t order by count(*) desc, t limit {N_EXAMPLES}"
            )
            examples = tuple(one for (one,) in rows.fetchall())
            found[ours] = Unreadable(n_values=n_values, examples=examples)
    return found


def _describe_repairs(repairs: Mapping[str, Sequence[IdRepair]]) -> Iterator[str]:
    kinds = {
        "trailing_zero": "end in .0, as a spreadsheet writes them",
        "exponent": "are written with an exponent, as a spreadsheet shows long numbers",
        "lost_zeros": "lost their leading zeros, as in a spreadsheet",
    }
    for ours, several in repairs.items():
        for one in several:
            done = f"put right: {one.proof}" if one.is_proven else f"left as they are: {one.proof}"
            examples = ", ".join(one.examples[:N_EXAMPLES])
            yield f"{ours}: {one.n_values} values {kinds[one.kind]} ({examples}); {done}"
