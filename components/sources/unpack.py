"""Turn an input file of any kind into UTF-8 text, JSON or Parquet on the local disk."""

import codecs
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.sources.compression import decompress, unpack_zip
from components.sources.encoding import check_given, judge, transcode
from components.sources.errors import SourceError
from components.sources.files import InputFile, read_partition, write_whole
from components.sources.signatures import name_format, name_text
from components.sources.survey import ASCII, Survey, survey
from components.sources.workbook import write_sheets

HEAD = 1 << 20
MAX_DEPTH = 2
"""A .csv.gz in a ZIP, not more."""


@dataclass(frozen=True)
class PlainFile:
    path: Path
    name: str
    partition: dict[str, str]
    kind: Literal["text", "parquet", "json"]
    encoding: str
    """Python's name of what was found; text is UTF-8 now."""
    compression: str
    """Of the outermost: "", gzip, zip, zstd, bzip2, xz, lz4, workbook."""
    encoding_is_certain: bool
    evidence: str
    n_nul: int
    """NUL bytes dropped."""
    n_replaced: int
    """Broken characters, now U+FFFD."""


@dataclass(frozen=True)
class Wrapped:
    """An input file, or what was inside of one."""

    file: InputFile
    compression: str = ""
    depth: int = 0
    survey: Survey | None = None


def unpack(file: InputFile, staging: Path, encoding: str = "") -> list[PlainFile]:
    """Plain UTF-8 text is used where it is; `encoding` is the user's, "" finds it."""
    staging.mkdir(parents=True, exist_ok=True)
    before = file.path.stat()
    found = list(_unpack(Wrapped(file), staging, encoding))
    check_unchanged(before, file.path, file.name)
    return found


def check_unchanged(before: os.stat_result, path: Path, name: str) -> None:
    try:
        now = path.stat()
    except FileNotFoundError:
        raise SourceError(f"{name}: was removed while it was read; export it again") from None
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (
        now.st_size, now.st_mtime_ns, now.st_ino,
    ):  # fmt: skip
        raise SourceError(
            f"{name}: changed while it was read ({before.st_size:,} bytes before, "
            f"{now.st_size:,} now), expected a finished file; wait until its export ends"
        )


def _unpack(one: Wrapped, staging: Path, encoding: str) -> Iterator[PlainFile]:
    file = one.file
    with file.path.open("rb") as stream:
        head = stream.read(4096)
    form = name_format(head, file.path, file.name)
    if form == "parquet":
        yield _check_parquet(one)
    elif not form:
        yield _read_text(one, staging, encoding)
    elif one.depth == MAX_DEPTH:
        raise SourceError(
            f"{file.name}: packed more than {MAX_DEPTH} times, expected once; unpack it yourself"
        )
    else:
        for inner in _open_wrapping(one, form, _stage(staging, file.name)):
            yield from _unpack(inner, staging, encoding)


def _open_wrapping(one: Wrapped, form: str, staged: Path) -> Iterator[Wrapped]:
    file, outermost, depth = one.file, one.compression or form, one.depth + 1
    if form == "zip":
        for name, path, found in unpack_zip(file.path, file.name, staged):
            columns = file.partition | read_partition(name.removeprefix(file.name))
            yield Wrapped(InputFile(path, name, columns), outermost, depth, found)
    elif form == "workbook":
        for sheet, path in write_sheets(file.path, file.name, staged):
            inner = InputFile(path, f"{file.name}/{sheet}", file.partition)
            yield Wrapped(inner, outermost, depth)
    else:
        found = decompress(file.path, form, staged, file.name)
        yield Wrapped(InputFile(staged, file.name, file.partition), outermost, depth, found)


def _stage(staging: Path, name: str) -> Path:
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return staging / f"{digest}-{re.sub(r'[^A-Za-z0-9.]+', '_', Path(name).name)[-60:]}"


def _check_parquet(one: Wrapped) -> PlainFile:
    file = one.file
    with file.path.open("rb") as stream:
        stream.seek(-4, os.SEEK_END)
        end = stream.read()
    if end != b"PAR1":
        raise SourceError(
            f"{file.name}: Parquet that ends early (no PAR1 at its end); fetch or write it again"
        )
    return PlainFile(
        file.path, file.name, file.partition, "parquet", "", one.compression, True,
        "Parquet", 0, 0,
    )  # fmt: skip


def _read_text(one: Wrapped, staging: Path, encoding: str) -> PlainFile:
    file, found = one.file, one.survey
    if found is None:
        with file.path.open("rb") as stream:
            found = survey(stream)
    if encoding and one.compression != "workbook":
        codec, is_certain, evidence = check_given(encoding, found, file.name), True, "as given"
    else:
        codec, is_certain, evidence = judge(found, file.name)
    path, n_nul, n_replaced = file.path, 0, 0
    if not _is_plain(codec, found):
        path = _stage(staging, f"{file.name} as UTF-8")
        is_lenient = not encoding and codec == "utf-8"
        with file.path.open("rb") as source, write_whole(path) as new, new.open("wb") as target:
            n_nul, n_replaced = transcode(source, target, codec, file.name, is_lenient)
        if one.compression:
            file.path.unlink()
    kind = name_text(_read_start(path, file.name), file.name)
    return PlainFile(
        path, file.name, file.partition, kind, codec, one.compression, is_certain,
        evidence, n_nul, n_replaced,
    )  # fmt: skip


def _is_plain(codec: str, found: Survey) -> bool:
    """Whether DuckDB reads it as it is; it skips the mark of UTF-8."""
    if found.n_nul or found.n_bad or (found.has_carriage_return and not found.has_line_feed):
        return False
    if codec in ("utf-8", "utf-8-sig"):
        return True
    is_ascii = not found.n_valid
    return is_ascii and codecs.decode(ASCII, codec, "replace") == ASCII.decode("ascii")


def _read_start(path: Path, name: str) -> str:
    with path.open("rb") as stream:
        start = stream.read(HEAD).decode("utf-8-sig", "ignore")
    if not start.strip():
        raise SourceError(
            f"{name}: holds only blanks or NUL bytes, expected a header and at least one line; "
            "export it again"
        )
    return start
