"""Unpack compressed files block by block."""

import bz2
import gzip
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from components.sources.errors import SourceError
from components.sources.files import MARKER, write_whole
from components.sources.survey import BLOCK, Survey

MAX_RATIO = 500
"""Of sizes: real exports reach 100, a bomb of zeros 1,000 (deflate) and more."""
MIN_BOMB = 100 << 20
RESERVE = 200 << 20
"""Bytes that stay free on the disk."""
SKIPPED = ("__MACOSX", "Thumbs.db", "desktop.ini")
DEFECTS = (
    EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError,
    RuntimeError, ValueError,
)  # fmt: skip


def decompress(path: Path, compression: str, target: Path, name: str) -> Survey:
    try:
        with open_compressed(path, compression) as stream:
            return copy(stream, target, path.stat().st_size, name)
    except SourceError:
        raise
    except DEFECTS as error:
        raise SourceError(
            f"{name}: a damaged or cut {compression} file ({error or 'it ends early'}); fetch or "
            "export it again"
        ) from None


def open_compressed(path: Path, compression: str) -> IO[bytes]:
    if compression in ("gzip", "bzip2", "xz"):
        opener: Any = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}[compression]
        stream: IO[bytes] = opener(path, "rb")
        return stream
    import pyarrow as pa

    return pa.CompressedInputStream(pa.OSFile(str(path)), compression)  # type: ignore[no-any-return]


def copy(stream: IO[bytes], target: Path, n_packed: int, name: str) -> Survey:
    found = Survey()
    with write_whole(target) as unfinished, unfinished.open("wb") as file:
        for block in iter(lambda: stream.read(BLOCK), b""):
            check_size(found.n_bytes + len(block), n_packed, target.parent, name, len(block))
            file.write(block)
            found.add(block)
        found.add(b"", is_last=True)
    return found


def check_size(n_bytes: int, n_packed: int, folder: Path, name: str, n_needed: int) -> None:
    if n_bytes > MIN_BOMB and n_bytes > MAX_RATIO * max(n_packed, 1):
        raise SourceError(
            f"{name}: {n_packed:,} bytes unpack to {n_bytes:,} or more, expected at most "
            f"{MAX_RATIO} times as many (a decompression bomb?); unpack it it if you trust it"
        )
    free = shutil.disk_usage(folder).free
    if n_needed > free - RESERVE:
        raise SourceError(
            f"{name}: needs {n_needed:,} bytes unpacked, but {folder} has {free:,} free; free some "
            "space"
        )


def unpack_zip(path: Path, name: str, staged: Path) -> Iterator[tuple[str, Path, Survey]]:
    """The name, the file beside `staged` and the survey of each member that is not empty."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if _is_data(one)]
            _check_members(members, path, name, staged.parent)
            for number, member in enumerate(members):
                target = staged.with_name(f"{staged.name}-{number}")
                with archive.open(member) as stream:
                    label = f"{name}/{member.filename}"
                    yield label, target, copy(stream, target, member.compress_size, label)
    except SourceError:
        raise
    except DEFECTS as error:
        raise SourceError(
            f"{name}: a damaged or cut ZIP archive, or an unusual one ({error}); unpack it "
            "and give the folder, or export it again"
        ) from None


def _is_data(member: zipfile.ZipInfo) -> bool:
    name = member.filename
    parts = name.split("/")
    is_skipped = any(
        one in SKIPPED or one.startswith(".") or MARKER.fullmatch(one) for one in parts
    )
    return not member.is_dir() and not is_skipped and member.file_size > 0


def _check_members(members: list[zipfile.ZipInfo], path: Path, name: str, staging: Path) -> None:
    if not members:
        raise SourceError(f"{name}: a ZIP archive without data, expected CSV or Parquet in it")
    if secret := [one.filename for one in members if one.flag_bits & 1]:
        raise SourceError(
            f"{name}: a ZIP archive protected by a password ({secret[0]}); unpack it, and give the "
            "folder"
        )
    n_bytes = sum(one.file_size for one in members)
    check_size(n_bytes, path.stat().st_size, staging, name, n_bytes)
