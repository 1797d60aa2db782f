"""One file under our names, with typed columns, and how it was understood."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from components.sources.baskets import is_fimi, open_fimi, unnest_text
from components.sources.columns import (
    ColumnMapping,
    ColumnsError,
    MissingColumnError,
    map_columns,
    parse_columns,
)
from components.sources.csv_tables import open_csv
from components.sources.errors import SourceError
from components.sources.formats import (
    NUMBERS,
    TIMES,
    FormatChoices,
    Parsed,
    parse_number,
    parse_time,
)
from components.sources.json_tables import open_json
from components.sources.notes import list_notes
from components.sources.parquet_tables import open_parquet
from components.sources.platforms import simplify, vague_synonyms
from components.sources.reading import ColumnReading, FileReading
from components.sources.second_headers import refuse_other_headers
from components.sources.selection import Selection, has_marks, select_texts
from components.sources.tables import Column, Table, sql_name, sql_text
from components.sources.typed_columns import select_typed
from components.sources.unpack import PlainFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Kind = Literal["orders", "products"]
REQUIRED: dict[Kind, tuple[str, ...]] = {
    "orders": ("order_id", "product_id"),
    "products": ("product_id",),
}
SMALL = 256 << 10
"""Bytes of a file whose texts are kept, because reading them again takes longer."""


class ReadSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: str = ""
    """`order_id=Invoice,product_id=StockCode`: our name = the shop's name."""
    ts_format: str = ""
    """strptime pattern of timestamps as text, e.g. `%d/%m/%Y %H:%M`; empty: by evidence."""
    timezone: str = "UTC"
    """IANA name of the zone of clocks without an offset."""
    encoding: str = ""
    """Python's name, e.g. `cp1254`; empty: by evidence."""
    decimal: str = ""
    """`.` or `,`; empty: by evidence."""


@dataclass(frozen=True)
class Understood:
    file: PlainFile
    table: Table
    mapping: ColumnMapping
    selection: Selection
    texts: str
    """View or table of our columns as text."""
    parsed: Mapping[str, Parsed]
    reading: FileReading

    def select_lines(self, repairs: Mapping[str, str]) -> str:
        """Typed columns, null where a value cannot be; `repairs` are expressions of ids."""
        return select_typed(self.texts, self.mapping, self.selection, self.parsed, repairs)


def understand_file(
    con: "DuckDBPyConnection", file: PlainFile, number: int, kind: Kind, settings: ReadSettings,
    staging: Path,
) -> Understood:  # fmt: skip
    """Raises SourceError, naming the file, for what cannot be read with certainty."""
    given = parse_columns(settings.columns)
    table = _open_table(con, file, given, kind, staging)
    mapping = _map(table, given, kind)
    if mapping.items and not table.columns[mapping.items].nested_in:
        table = unnest_text(con, table, mapping.items)
    extra = _select_attributes(table, mapping) if kind == "products" else ""
    selection = select_texts(table, mapping, number, extra)
    if has_marks(con, selection):
        selection = select_texts(table, mapping, number, extra, is_marked=True)
    texts = f"texts_{kind}_{number}"
    form = "table" if file.path.stat().st_size <= SMALL else "view"
    con.execute(f"create or replace temp {form} {texts} as {selection.sql}")
    refuse_other_headers(con, table, mapping, texts)
    parsed = dict(_parse_columns(con, texts, selection, _choices(settings, mapping), file.name))
    reading = _describe(con, file, table, mapping, selection, parsed)
    return Understood(file, table, mapping, selection, texts, parsed, reading)


def _choices(settings: ReadSettings, mapping: ColumnMapping) -> FormatChoices:
    in_utc = mapping.platform.utc if mapping.platform else ()
    is_utc = set(mapping.columns.get("ts", ())[:1]) & set(in_utc)
    timezone = "UTC" if is_utc else settings.timezone
    return FormatChoices(settings.ts_format, settings.decimal, timezone)


def _open_table(
    con: "DuckDBPyConnection", file: PlainFile, given: Mapping[str, str], kind: Kind, staging: Path
) -> Table:
    if file.kind == "parquet":
        table = open_parquet(con, file)
    elif file.kind == "json":
        table = open_json(con, file)
    elif kind == "orders" and is_fimi(file):
        table = open_fimi(file)
    else:
        table = open_csv(con, file, _header_test(file, given, kind), staging)
    partition = {name: Column(sql_text(value)) for name, value in file.partition.items()}
    return replace(table, columns=partition | table.columns)


def _header_test(
    file: PlainFile, given: Mapping[str, str], kind: Kind
) -> Callable[[list[str]], bool]:
    def is_header(names: list[str]) -> bool:
        try:
            map_columns([*names, *file.partition], given, REQUIRED[kind], file.name)
        except MissingColumnError:
            return False
        except ColumnsError:
            return True  # a header with another fault, which is told later
        return True

    return is_header


def _map(table: Table, given: Mapping[str, str], kind: Kind) -> ColumnMapping:
    nested = {name for name, column in table.columns.items() if column.nested_in}
    return map_columns(list(table.columns), given, REQUIRED[kind], table.name, nested)


def _select_attributes(table: Table, mapping: ColumnMapping) -> str:
    """All columns that are not mapped, as a JSON object of texts without blanks."""
    used = {one for several in mapping.columns.values() for one in several}
    fields = [
        f"{sql_text(name)}: nullif(trim({column.text}), '')"
        for name, column in sorted(table.columns.items())
        if name not in used and not column.nested_in
    ]
    if not fields:
        return "cast(null as varchar) as attributes"
    filled = f"json_merge_patch('{{}}', to_json({{{', '.join(fields)}}}))"
    return f"nullif(cast({filled} as varchar), '{{}}') as attributes"


def _parse_columns(
    con: "DuckDBPyConnection", texts: str, selection: Selection, choices: FormatChoices, name: str
) -> Iterator[tuple[str, Parsed]]:
    for ours, columns in selection.columns.items():
        label = f"{name}: column {' + '.join(map(repr, columns))} ({ours})"
        if ours in TIMES:
            try:
                yield ours, parse_time(con, texts, sql_name(ours), columns, choices, label)
            except SourceError:
                if not set(map(simplify, columns)) <= set(vague_synonyms().get(ours, ())):
                    raise
                yield ours, _pass_over(tuple(columns))
        elif ours in NUMBERS:
            yield ours, parse_number(con, texts, sql_name(ours), columns, choices, label)
    for one in [one for several in selection.minus.values() for one in several]:
        theirs = one.removeprefix("rule:")
        label = f"{name}: column {theirs!r}"
        columns = {theirs: Column(one)}
        yield one, parse_number(con, texts, sql_name(one), columns, choices, label)


def _pass_over(theirs: tuple[str, ...]) -> Parsed:
    """Of a column whose name promised little: `day=1` may be a day of the month."""
    evidence = "no time can be read from it; name another column with --columns"
    reading = ColumnReading(theirs=theirs, format="empty", evidence=evidence, is_certain=False)
    return Parsed("null::timestamp", reading)


def _describe(
    con: "DuckDBPyConnection", file: PlainFile, table: Table, mapping: ColumnMapping,
    selection: Selection, parsed: Mapping[str, Parsed],
) -> FileReading:  # fmt: skip
    columns = {
        ours: parsed[ours].reading if ours in parsed else ColumnReading(theirs=tuple(theirs))
        for ours, theirs in selection.columns.items()
    }
    used = {one for column in columns.values() for one in column.theirs}
    dialect = table.dialect
    return FileReading(
        name=file.name, kind=file.kind, encoding=file.encoding,
        encoding_evidence=file.evidence, encoding_is_certain=file.encoding_is_certain,
        compression=file.compression,
        separator=dialect.separator if dialect else "",
        quote=dialect.quote if dialect else "",
        header_line=dialect.n_skipped + 1 if dialect else 0,
        platform=mapping.platform.name if mapping.platform else "",
        by_synonym=mapping.by_synonym,
        columns=columns,
        unused=tuple(name for name in table.columns if name not in used)[:200],
        notes=list_notes(con, file, table, mapping, selection),
    )  # fmt: skip
