"""`fbt judge --case`: a case of the workbench, its results, files and record in the registry."""

import getpass
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from bento.store.errors import StoreError
from bento.store.poller import DATABASE_URL
from bento.store.store import Store
from bento.workbench.judging.exchange import import_grades, make_files
from bento.workbench.judging.recording import record_case
from bento.workbench.judging.results import CaseFiles, compare, read_case
from components.judging.page import read_page
from components.judging.read import compare_systems, read_grades, read_key
from pipelines.home import Home
from pipelines.judging import KEY, PAGE, format_result, write_text
from pipelines.serve import build_store_settings


def judge_case(
    name: str, home: Home, grades: Sequence[Path] = (), key: Path | None = None,
    json: Path | None = None, to: Path | None = None, record: bool = False,
) -> str:  # fmt: skip
    """What to print. Imports `grades` first, if there are any. Raises ValueError."""
    with open_store(home) as store:
        if grades:
            import_files(store, name, grades, key)
        files = read_case(store, name)
    result = compare(files, files.systems)
    lines = [format_result(result)] if result else ["no page is graded for all systems yet"]
    if json and result:
        write_text(json, result.model_dump_json(indent=2))
    if to:
        lines.append(f"written: {', '.join(map(str, write_files(files, to)))}")
    if record:
        recorded = record_case(files)
        lines.append(f"recorded with {', '.join(recorded) or 'no version: none is graded'}")
    return "\n".join(lines)


@contextmanager
def open_store(home: Home) -> Iterator[Store]:
    """The service's. Raises ValueError for what the store refuses."""
    with closing(Store(build_store_settings(home)[DATABASE_URL])) as store:
        try:
            store.migrate()
            yield store
        except StoreError as error:
            raise ValueError(f"judge: {error}") from None


def import_files(store: Store, name: str, files: Sequence[Path], key: Path | None) -> None:
    """The sheet, page.html, lies beside the key. Raises ValueError."""
    key = key or files[0].with_name(KEY)
    found, grades = read_key(key), [read_grades(file) for file in files]
    compare_systems(found, grades)  # refuses grades of another sheet
    sheet = read_page(key.with_name(PAGE))
    if sheet.sheet_id != found.sheet_id:
        raise ValueError(
            f"judge: {key.with_name(PAGE)} is sheet {sheet.sheet_id}, {key} is of "
            f"{found.sheet_id}; put the page beside the key that was written with it"
        )
    import_grades(store, name, sheet, found, grades, getpass.getuser())


def write_files(files: CaseFiles, folder: Path) -> list[Path]:
    """The page without names of products: the database has none."""
    texts = make_files(files, files.systems, {})
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
