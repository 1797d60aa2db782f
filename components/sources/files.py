"""Find the local files of a source: a file, a folder or a glob."""

import contextlib
import errno
import glob
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from components.sources.errors import SourceError

MARKER = re.compile(r"_(SUCCESS|(common_)?metadata|(committed|started)_.*)(\.json)?|_temporary")
"""Spark's and Hive's own files: no glob means them, a name does."""
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi", "*.metadata.json": "Iceberg"}


@dataclass(frozen=True)
class InputFile:
    path: Path
    name: str
    """Relative to the source, for messages and the report."""
    partition: dict[str, str]
    """Of Hive-style folders, as {"dt": "2024-01-01"}; null is ""."""


def find_files(source: str) -> list[InputFile]:
    """Files that are not empty, sorted by name."""
    path = Path(source).expanduser()
    root, found = path.parent, [path]
    if path.is_dir():
        _refuse_table_format(path)
        root, found = path, _list_folder(path)
    elif not path.is_symlink() and not path.exists():
        root, found = _expand_glob(path)
    if not found:
        _refuse_missing(source, path)
    for file in found:
        _check_regular(file, source)
    filled = [file for file in sorted(set(found)) if file.stat().st_size]
    if not filled:
        raise SourceError(
            f"{source}: empty (0 bytes), expected a header and at least one line; export it again"
        )
    return [
        InputFile(file, file.relative_to(root).as_posix(), read_partition(file.as_posix()))
        for file in filled
    ]


def _refuse_table_format(folder: Path) -> None:
    """Their logs say which files still count."""
    for log, name in LOGS.items():
        if next(folder.rglob(log), None):
            raise SourceError(
                f"{folder}: is a {name} table, of which some files may be deleted rows; expected "
                "plain files; write its present state as Parquet"
            )


def local_fingerprint(source: str) -> str:
    """A hash of names and contents."""
    digest = hashlib.sha256(source.encode())
    for file in find_files(source):
        with file.path.open("rb") as stream:
            digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def read_partition(path: str) -> dict[str, str]:
    folders = [part.split("=", 1) for part in path.split("/")[:-1] if re.match("[^=]+=.", part)]
    return {
        unquote(column): "" if value == NULL_PARTITION else unquote(value)
        for column, value in folders
    }


def is_hidden(path: str) -> bool:
    """Unfinished writes, checksums and markers: as Spark sees it."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return any(part[0] == "." or (part[0] == "_" and "=" not in part) for part in parts)


def _list_folder(folder: Path) -> list[Path]:
    return [
        file
        for file in folder.rglob("*")
        if not is_hidden(file.relative_to(folder).as_posix()) and not file.is_dir()
    ]


def _expand_glob(pattern: Path) -> tuple[Path, list[Path]]:
    """The folder before the first wildcard, and files; of a folder, the files in it."""
    fixed = [part for part in pattern.parts if not glob.has_magic(part)]
    n_fixed = next((n for n, part in enumerate(pattern.parts) if glob.has_magic(part)), len(fixed))
    root = Path(*pattern.parts[:n_fixed])
    if n_fixed == len(pattern.parts):
        return root.parent, []
    found: list[Path] = []
    for name in glob.glob(str(pattern), recursive=True):  # noqa: PTH207
        path = Path(name)
        if any(MARKER.fullmatch(part) for part in path.relative_to(root).parts):
            continue
        if not path.is_dir():
            found.append(path)
        elif "**" not in pattern.parts:
            found += _list_folder(path)
    return root, found


def _refuse_missing(source: str, path: Path) -> None:
    if path.is_dir():
        raise SourceError(f"{source}: a folder without files, expected a Parquet or CSV file in it")
    raise SourceError(
        f"{source}: no such file; give a Parquet or CSV file, a folder, a glob, an http(s) or "
        "s3:// address, or a jdbc: query"
    )


def _check_regular(file: Path, source: str) -> None:
    if not file.is_file():
        found = "a link to nothing" if file.is_symlink() and not file.exists() else "not a file"
        raise SourceError(f"{source}: {file} is {found}, expected a file; remove it or name others")
    if not os.access(file, os.R_OK):
        raise SourceError(f"{source}: {file} may not be read by you; change its permissions")


@contextlib.contextmanager
def write_whole(target: Path) -> Iterator[Path]:
    """A path to write to, that becomes `target` when all went well, else is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        yield unfinished
        unfinished.replace(target)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SourceError(
            f"{target.name}: {target.parent} is full ({error}); free some space"
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)
