"""A source: a file, a folder or a glob, an http(s) or s3:// address, or a query by JDBC.

`jdbc:postgresql://host/shop?user=me|select * from lines`
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from components.sources import object_store, web
from components.sources.database import SCHEME as JDBC
from components.sources.database import hide_credentials, run_query
from components.sources.errors import SourceError
from components.sources.files import InputFile, find_files, local_fingerprint
from components.sources.normalise import Lines, connect, describe, understand_files, write_lines
from components.sources.plain_parquet import (
    PlainParquet,
    describe_plain,
    find_plain,
    find_remote_plain,
)
from components.sources.reading import Reading
from components.sources.tables import sql_text
from components.sources.understand import Kind, ReadSettings
from components.sources.unpack import PlainFile, check_unchanged, unpack

WEB = ("http://", "https://")
S3 = "s3://"
S3A_VARIABLE = "FBT_SPARK_S3A"
"""Set where Spark can read s3:// addresses."""


@dataclass(frozen=True)
class ReadSource:
    reading: Reading
    parts: list[Path]
    """Parquet files of normalised lines."""
    plain: list[PlainParquet]
    """Parquet of the shop that needs no normalising."""


def fingerprint(source: str) -> str:
    """A hash of local files or of a server's metadata; always new for a query."""
    digest = hashlib.sha256(source.encode())
    if source.startswith(JDBC):
        digest.update(datetime.now(UTC).isoformat().encode())
    elif source.startswith(WEB):
        digest.update(web.url_fingerprint(source).encode())
    elif source.startswith(S3):
        digest.update(object_store.s3_fingerprint(source).encode())
    else:
        digest.update(local_fingerprint(source).encode())
    return digest.hexdigest()[:16]


def open_source(source: str, staging: Path, encoding: str = "") -> list[PlainFile]:
    """Unpacked local files; those of elsewhere are brought to `staging`. Raises SourceError."""
    plain = staging / "plain"
    plain.mkdir(parents=True, exist_ok=True)
    located = _locate(source, staging / "fetched")
    files = [one for file in located for one in unpack(file, plain, encoding)]
    if not files:
        raise SourceError(
            f"{hide_credentials(source)}: holds no data, expected at least one file of lines; "
            "check the address"
        )
    return files


def _locate(source: str, staging: Path) -> list[InputFile]:
    if source.startswith(JDBC):
        return find_files(str(run_query(source, staging)))
    if source.startswith(WEB):
        return web.download(source, staging)
    if source.startswith(S3):
        return object_store.download(source, staging)
    return find_files(source)


def read_source(
    source: str, kind: Kind, settings: ReadSettings, staging: Path, known: Sequence[Path] = ()
) -> ReadSource:
    """`known` are the parts of the product table, whose ids may prove a repair. Raises SourceError.

    Ids are compared, and Parquet is read as it is, only where nothing is to be repaired.
    """
    if kind == "orders" and (remote := _find_remote(source, settings)):
        return remote
    files = open_source(source, staging, settings.encoding)
    before = [file.path.stat() for file in files]
    ids = f"(select product_id from {_scan(known)})" if known else None
    with connect(staging) as con:
        lines = understand_files(con, files, kind, settings, staging / "tables", ids)
        plain = [_find_plain(lines, number, kind) for number in range(len(files))]
        others = [number for number, one in enumerate(plain) if one is None]
        parts = write_lines(con, lines, others, staging / "parts")
        written = _written(lines, parts, [i for i, one in enumerate(plain) if one is not None])
        reading = describe(con, hide_credentials(source), lines, written, settings)
    for file, stat in zip(files, before, strict=True):
        check_unchanged(stat, file.path, file.name)
    written_files = iter(parts)
    n_lines = [
        _count_rows(file.path if one else next(written_files))
        for file, one in zip(files, plain, strict=True)
    ]
    return ReadSource(reading.with_lines(n_lines), parts, [one for one in plain if one is not None])


def _find_plain(lines: Lines, number: int, kind: Kind) -> PlainParquet | None:
    """None where attributes are to be collected, or ids to be put right."""
    repairs = [one for several in lines.repairs[number].values() for one in several]
    if kind == "products" or any(one.is_proven for one in repairs):
        return None
    return find_plain(lines.files[number])


def _count_rows(parquet: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(parquet).num_rows)


def _find_remote(source: str, settings: ReadSettings) -> ReadSource | None:
    """Parquet in an object store, where Spark's executors read it themselves."""
    if not source.startswith(S3) or not os.environ.get(S3A_VARIABLE):
        return None
    system, objects = object_store.find_objects(source)
    plain = []
    for one in objects:
        is_parquet = one.path.endswith(".parquet")
        found = find_remote_plain(system, one.path, settings) if is_parquet else None
        if found is None:
            return None
        plain.append(found)
    files = (describe_plain(one) for one in plain)
    return ReadSource(
        Reading(source=source, timezone=settings.timezone, files=tuple(files)), [], plain
    )


def _written(lines: Lines, parts: Sequence[Path], plain: Sequence[int]) -> str:
    relations = [lines.select(number) for number in plain]
    if parts:
        relations.append(f"select * from {_scan(parts)}")
    return f"({' union all by name '.join(relations)})"


def _scan(paths: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(sql_text(str(one)) for one in paths)}])"
