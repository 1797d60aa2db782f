"""An inspection for a terminal."""

from typing import TYPE_CHECKING

from components.report.formats import describe_format
from components.report.reading import (
    MAX_GROUPS,
    FileGroup,
    describe_file,
    group_files,
    list_doubts,
)
from components.sources.reading import Reading
from pipelines.inspection import Inspection

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

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
    for group in group_files(reading)[:MAX_GROUPS]:
        _print_group(console, group)
    for what, why in list_doubts(reading):
        console.print(f"  nothing decides: {what}: {why}", style="yellow", markup=False)
    if list_doubts(reading):
        console.print("  settle it with --ts-format, --decimal or --encoding", style="yellow")
    for note in reading.notes:
        console.print(f"  {note}", style="yellow", markup=False)


def _print_group(console: "Console", group: FileGroup) -> None:
    console.print(f"  {group.title}: {describe_file(group.first)}", markup=False)
    if group.first.platform:
        console.print(f"  recognised: {group.first.platform}", style="green", markup=False)
    for note in group.notes:
        console.print(f"  {note}", markup=False)
    table = _new_table("ours", "the shop's column", "read as", "because")
    for ours, column in group.columns.items():
        theirs = ", ".join(column.theirs)
        how = f"{theirs} (by synonym)" if ours in group.first.by_synonym else theirs
        _add_row(table, ours, how, describe_format(column.format) or "text", column.evidence)
    console.print(table)
    if group.unused:
        more = len(group.unused) - N_UNUSED
        unused = ", ".join(group.unused[:N_UNUSED]) + (f" and {more} more" if more > 0 else "")
        console.print(f"  not used: {unused}", style="dim", markup=False)


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
