"""Write the sheets of a workbook as CSV."""

import csv
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from components.sources.errors import SourceError
from components.sources.files import write_whole

if TYPE_CHECKING:
    from python_calamine import CalamineWorkbook

ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
Cell = int | float | str | bool | date | time | datetime | timedelta | None


def write_sheets(path: Path, name: str, staged: Path) -> Iterator[tuple[str, Path]]:
    """The name and the file, beside `staged`, of each sheet that is not empty."""
    from python_calamine import CalamineError, SheetTypeEnum, SheetVisibleEnum

    is_empty = True
    try:
        with _open(path, name) as workbook:
            for number, sheet in enumerate(workbook.sheets_metadata):
                is_shown = sheet.visible == SheetVisibleEnum.Visible
                if sheet.typ != SheetTypeEnum.WorkSheet or not is_shown:
                    continue
                rows = workbook.get_sheet_by_name(sheet.name).to_python()
                if any(cell not in ("", None) for row in rows for cell in row):
                    is_empty = False
                    target = staged.with_name(f"{staged.name}-{number}.csv")
                    _write_rows(rows, target)
                    yield sheet.name, target
    except (CalamineError, OSError) as error:
        raise SourceError(
            f"{name}: a damaged workbook ({error}); open it in a spreadsheet and save as CSV"
        ) from None
    if is_empty:
        raise SourceError(f"{name}: a workbook without a filled sheet, expected order lines")


def _open(path: Path, name: str) -> "CalamineWorkbook":
    import python_calamine

    try:
        # By content: given a path, it would believe the suffix.
        with path.open("rb") as stream:
            return python_calamine.load_workbook(stream)
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        if ENCRYPTED in path.read_bytes():
            raise SourceError(
                f"{name}: protected by a password; save it without one, or as CSV"
            ) from None
        raise SourceError(
            f"{name}: a damaged workbook, or another Office file, as of Word ({error}); open it "
            "and save as CSV"
        ) from None


def _write_rows(rows: Sequence[Sequence[Cell]], target: Path) -> None:
    with (
        write_whole(target) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows(map(format_cell, row) for row in rows)


def format_cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e16 else repr(cell)
    if isinstance(cell, datetime):
        # A day's fraction does not hold a whole second exactly.
        return (
            (cell + timedelta(milliseconds=0.5)).isoformat(" ", "milliseconds").removesuffix(".000")
        )
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)
