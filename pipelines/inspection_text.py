"""An inspection for a terminal."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from components.sources.reading import FileReading, Reading
from pipelines.inspection import Inspection

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
KINDS = {"text": "separated text", "json": "JSON", "parquet": "Parquet"}
N_UNUSED = 12
BAR_WIDTH = 30


def print_inspection(found: Inspection) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    _print_reading(console, "Orders", found.reading)
    if found.products:
        _print_reading(console, "Products", found.products)
    _print_lines(console, found)
    _print_content(console, found)
    _print_lost(console, found)
    _print_checks(console, found)
    console.print("\n[bold]Run it[/bold]")
    console.print(f"  {found.command}", markup=False, soft_wrap=True)


def _print_reading(console: "Console", title: str, reading: Reading) -> None:
    console.print(f"\n[bold]{title}[/bold]", end=" ")
    console.print(reading.source, markup=False, soft_wrap=True)
    for alike in _group_alike(reading.files):
        _print_files(console, alike)
    for doubt in reading.doubts():
        console.print(f"  ? {doubt}", style="yellow", markup=False)


def _group_alike(files: Sequence[FileReading]) -> Iterable[list[FileReading]]:
    """Files that were read in the same way."""

    def key(file: FileReading) -> str:
        shown = file.model_copy(update={"name": "", "n_malformed": 0, "dropped": {}})
        columns = {ours: (one.theirs, one.format) for ours, one in file.columns.items()}
        return f"{shown.kind} {shown.encoding} {shown.separator} {shown.platform} {columns}"

    return (list(alike) for _, alike in groupby(sorted(files, key=key), key=key))


def _print_files(console: "Console", files: Sequence[FileReading]) -> None:
    file = files[0]
    name = file.name if len(files) == 1 else f"{len(files)} files like {file.name}"
    console.print(f"  {name}: {_describe_kind(file)}", markup=False)
    if file.platform:
        console.print(f"  recognised: {file.platform}", style="green", markup=False)
    for note in file.notes:
        console.print(f"  {note}", markup=False)
    table = _new_table("ours", "the shop's column", "read as", "because")
    for ours, column in file.columns.items():
        theirs = ", ".join(column.theirs)
        how = f"{theirs} (by synonym)" if ours in file.by_synonym else theirs
        _add_row(table, ours, how, column.format or "text", column.evidence)
    console.print(table)
    if file.unused:
        more = f" and {len(file.unused) - N_UNUSED} more" if len(file.unused) > N_UNUSED else ""
        unused = ", ".join(file.unused[:N_UNUSED])
        console.print(f"  not used: {unused}{more}", style="dim", markup=False)


def _describe_kind(file: FileReading) -> str:
    parts = [KINDS.get(file.kind, file.kind)]
    if file.compression:
        parts.append(file.compression)
    if file.encoding:
        parts.append(f"{file.encoding} ({file.encoding_evidence})")
    if file.separator:
        parts.append(f"separated by {SEPARATORS.get(file.separator, repr(file.separator))}")
        parts.append(f"header in line {file.header_line}")
    return ", ".join(parts)


def _print_lines(console: "Console", found: Inspection) -> None:
    if not found.lines:
        return
    names = [name for name in found.lines[0] if any(line[name] is not None for line in found.lines)]
    table = _new_table(*names)
    for line in found.lines:
        _add_row(table, *["" if line[one] is None else _format(line[one]) for one in names])
    console.print("\n[bold]Lines as understood[/bold]")
    console.print(table)


def _format(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and value < 1e6 else str(value)


def _print_content(console: "Console", found: Inspection) -> None:
    console.print("\n[bold]Content[/bold]")
    n = found.numbers
    part = "" if found.sampled_share == 1 else f" (of {found.sampled_share:.1%} that was read)"
    customers = f" by {n['n_customers']:,} customers" if n["n_customers"] else ""
    console.print(
        f"  {n['n_lines']:,} lines in {n['n_orders']:,} orders of {n['n_products']:,} products"
        f"{customers}{part}"
    )
    span = f"{found.first} to {found.last}" if found.first else "orders without dates"
    console.print(f"  {span} ({found.reading.timezone})")
    most = max(found.basket_sizes.values(), default=1)
    for size, n_orders in found.basket_sizes.items():
        bar = "█" * max(1, round(BAR_WIDTH * n_orders / most))
        console.print(f"  {size:>5} products  {bar} {n_orders:,}")


def _print_lost(console: "Console", found: Inspection) -> None:
    console.print(f"\n[bold]Lost[/bold] {found.lost_share:.1%} of the lines")
    for reason, n_lines in found.lost.items():
        console.print(f"  {n_lines:,} lines: {reason}", markup=False)
    for file in found.reading.files:
        for reason, n_rows in file.dropped.items():
            console.print(f"  {n_rows:,} rows are no lines: {reason}", markup=False)
    for ours, lost in found.reading.unreadable.items():
        examples = ", ".join(map(repr, lost.examples))
        console.print(
            f"  {lost.n_values:,} values of {ours} become empty, such as {examples}", markup=False
        )


def _print_checks(console: "Console", found: Inspection) -> None:
    console.print("\n[bold]Data checks[/bold]", end=" ")
    console.print("all pass" if not found.checks else f"{len(found.checks)} do not pass")
    for check in found.checks:
        style = "red" if check["severity"] == "critical" else "yellow"
        console.print(
            f"  {check['severity']}: {check['title']}: found {check['observed']}, expected "
            f"{check['expected']}. {check['remedy']}", style=style, markup=False,
        )  # fmt: skip


def _new_table(*names: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name == "ts")
    return table


def _add_row(table: "Table", *values: str) -> None:
    """As text: names of products may hold markup."""
    from rich.text import Text

    table.add_row(*[Text(value.replace("\n", "⏎")) for value in values])
