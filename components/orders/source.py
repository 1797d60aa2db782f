"""Read a source as a Spark DataFrame.

A source is a Parquet or CSV file, a folder or a glob of them, an http(s) or s3:// address, or a
JDBC address and a query: `jdbc:postgresql://host/shop?user=me|select * from lines`.
"""

import bz2
import csv
import functools
import glob
import gzip
import hashlib
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import urlsplit

from components.orders.columns import cast_to_text
from components.spark import S3A

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem, S3FileSystem
    from pyspark.sql import DataFrame, SparkSession

ROWS_PER_FETCH = 10_000
"""By default, the PostgreSQL driver holds the whole result in memory."""

NANOSECONDS = "nanoseconds"


class SourceError(ValueError):
    """A source cannot be read."""


def fingerprint(source: str) -> str:
    """A hash of local files or of a server's metadata; always new for a query."""
    digest = hashlib.sha256(source.encode())
    if source.startswith("jdbc:"):
        digest.update(datetime.now(UTC).isoformat().encode())
    elif source.startswith(("http://", "https://")):
        with _open_url(source, "HEAD") as answer:
            for header in ("ETag", "Last-Modified", "Content-Length"):
                digest.update(str(answer.headers.get(header)).encode())
    elif source.startswith("s3://"):
        for info in _s3_files(source)[1]:
            digest.update(f"{info.path} {info.size} {info.mtime_ns}".encode())
    else:
        for file in local_files(source):
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def read_source(spark: "SparkSession", source: str, staging: Path) -> "DataFrame":
    """CSV columns stay text, so that ids keep leading zeros; downloads go to `staging`."""
    if source.startswith("jdbc:"):
        return _read_query(spark, source, staging)
    if source.startswith("s3://") and spark.conf.get(S3A, ""):
        system, infos = _s3_files(source)
        names = [info.path for info in infos]
        if all(name.endswith(".parquet") for name in names):
            return _read_parquet(spark, source, {f"s3a://{name}": name for name in names}, system)
    files = local_files(str(fetch(source, staging)))
    if all(is_parquet(file) for file in files):
        return _read_parquet(spark, source, {str(file): str(file) for file in files})
    if any(is_parquet(file) for file in files):
        raise SourceError(
            f"{source}: mixes Parquet and CSV files, expected one kind; choose it by a glob"
        )
    return _read_csv(spark, source, files)


def _read_csv(spark: "SparkSession", source: str, files: Sequence[Path]) -> "DataFrame":
    """Spark reads columns by position: files are grouped by their header."""
    by_header: dict[tuple[str, tuple[str, ...]], list[Path]] = {}
    for file in files:
        separator = detect_separator(file)
        by_header.setdefault((separator, read_header(file, separator)), []).append(file)
    _check_same_columns(source, {found[0]: header for (_, header), found in by_header.items()})
    frames = [
        spark.read.csv(
            [str(file) for file in found], header=True, sep=separator, escape='"',
            multiLine=_has_quoted_newlines(found), ignoreLeadingWhiteSpace=False,
        )
        for (separator, _), found in by_header.items()
    ]  # fmt: skip
    return functools.reduce(lambda one, other: one.unionByName(other), frames)


def _check_same_columns(source: str, headers: Mapping[Path, Sequence[str]]) -> None:
    (first, names), *others = headers.items()
    for file, found in others:
        if len(set(found)) < len(found):
            raise SourceError(
                f"{source}: {file.name} has a column name twice ({', '.join(found)}), and "
                f"{first.name} has its columns in another order; expected distinct names, rename "
                "one of them"
            )
        if sorted(found) != sorted(names):
            raise SourceError(
                f"{source}: {first.name} has the columns {', '.join(names)}, but {file.name} has "
                f"{', '.join(found)}; expected the same in all files, in any order; choose the "
                "files that belong together by a glob"
            )


def _read_parquet(
    spark: "SparkSession", source: str, paths: Mapping[str, str], system: "FileSystem | None" = None
) -> "DataFrame":
    """Spark applies one schema to all files: they are grouped by theirs.

    `paths` maps Spark's names of files to those in `system`.
    """
    from pyspark.sql import functions as F

    by_columns: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for path, name in paths.items():
        by_columns.setdefault(_parquet_columns(source, name, system), []).append(path)
    frames = []
    for columns, found in by_columns.items():
        try:
            frame = spark.read.parquet(*found)
        except Exception as error:
            reason = str(error).partition("\n")[0][:300]
            raise SourceError(
                f"{source}: Spark cannot read such Parquet ({reason}); write the column as text, "
                "a number or a timestamp in microseconds"
            ) from None
        nanos = [name for name, kind in columns if kind == NANOSECONDS]
        frames.append(
            frame.withColumns({one: F.expr(f"timestamp_micros(`{one}` div 1000)") for one in nanos})
        )
    return functools.reduce(
        lambda one, other: one.unionByName(other, allowMissingColumns=True),
        _cast_mixed_to_text(frames),
    )


def _cast_mixed_to_text(frames: Sequence["DataFrame"]) -> list["DataFrame"]:
    """Cast columns of mixed types to text if one is: Spark would cast 0007 to 7."""
    kinds: dict[str, set[str]] = {}
    for frame in frames:
        for field in frame.schema:
            kinds.setdefault(field.name, set()).add(field.dataType.typeName())
    mixed = {name for name, found in kinds.items() if len(found) > 1 and "string" in found}
    return [
        frame.withColumns(
            {name: cast_to_text(frame, name) for name in frame.columns if name in mixed}
        )
        for frame in frames
    ]


def _parquet_columns(
    source: str, name: str, system: "FileSystem | None"
) -> tuple[tuple[str, str], ...]:
    """Arrow's own schema would not tell nanoseconds from Spark's INT96 timestamps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_metadata(name, filesystem=system).schema
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"{source}: {name} is damaged, or no Parquet ({error}); write it again"
        ) from None
    columns = (schema.column(place) for place in range(len(schema)))
    return tuple(sorted((column.path, _parquet_type(column)) for column in columns))


def _parquet_type(column: Any) -> str:
    logical = str(column.logical_type)
    is_nanos = logical.startswith("Timestamp") and "timeUnit=nanoseconds" in logical
    return NANOSECONDS if is_nanos else f"{column.physical_type} {logical}"


def fetch(source: str, staging: Path) -> Path | str:
    """The source if it is local, else a copy in `staging`."""
    if source.startswith(("http://", "https://")):
        staging.mkdir(parents=True, exist_ok=True)
        target = staging / (Path(urlsplit(source).path).name or "download")
        with _open_url(source, "GET") as answer, target.open("wb") as file:
            shutil.copyfileobj(answer, file)
            expected, found = answer.headers.get("Content-Length"), file.tell()
        if expected and found != int(expected):
            raise SourceError(
                f"{source}: got {found} bytes, expected {expected}; try again, or fetch the file"
            )
        return target
    if source.startswith("s3://"):
        return _fetch_s3(source, staging)
    return source


def hide_credentials(source: str) -> str:
    """For messages: of a query, the address without login."""
    if not source.startswith("jdbc:"):
        return source
    address = re.split(r"[?;|]", source, maxsplit=1)[0]
    return re.sub(r"^((?:\w+:)+(?://)?).*@", r"\1", address)


def local_files(source: str) -> list[Path]:
    """Non-empty files, sorted."""
    path = Path(source).expanduser()
    if path.is_dir():
        # Spark ignores hidden files, too: unfinished writes, checksums, success markers.
        found = [
            file
            for file in path.rglob("*")
            if file.is_file() and not any(part[0] in "._" for part in file.relative_to(path).parts)
        ]
    else:
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    if not found:
        raise SourceError(
            f"{source}: no such file; give a Parquet or CSV file, a folder, a glob, an http(s) or "
            "s3:// address, or a jdbc: query"
        )
    if filled := sorted(file for file in found if file.stat().st_size):
        return filled
    raise SourceError(
        f"{source}: empty (0 bytes), expected a header and at least one line; export it again"
    )


def is_parquet(file: Path) -> bool:
    """By its first bytes, not by its name."""
    with file.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def detect_separator(file: Path) -> str:
    with _open_text(file) as stream:
        header = stream.readline()
    try:
        return csv.Sniffer().sniff(header, delimiters=",;\t|").delimiter
    except csv.Error:
        return ","


def read_header(file: Path, separator: str) -> tuple[str, ...]:
    with _open_text(file) as stream:
        return tuple(next(csv.reader(stream, delimiter=separator), ()))


def _open_text(file: Path) -> TextIO:
    """Decompresses by suffix, as Spark does."""
    opener = {".gz": gzip.open, ".bz2": bz2.open}.get(file.suffix, open)
    stream: TextIO = opener(file, "rt", encoding="utf-8-sig", errors="replace", newline="")  # type: ignore[operator]
    return stream


def _has_quoted_newlines(files: Sequence[Path]) -> bool:
    # Spark reads a CSV file in parallel only if no value spans lines.
    for file in files:
        with _open_text(file) as stream:
            if any(line.count('"') % 2 for _, line in zip(range(10_000), stream, strict=False)):
                return True
    return False


def _open_url(source: str, method: str):  # type: ignore[no-untyped-def]
    try:
        return urllib.request.urlopen(urllib.request.Request(source, method=method), timeout=60)
    except (urllib.error.URLError, OSError) as error:
        raise SourceError(
            f"{source}: cannot be fetched ({error}); check address and network"
        ) from None


def _s3_files(source: str) -> "tuple[S3FileSystem, list[FileInfo]]":
    from pyarrow import fs

    bucket, _, key = source.removeprefix("s3://").partition("/")
    if not bucket:
        raise SourceError(f"{source}: names no bucket, expected s3://bucket/object; add it")
    try:
        system = _s3_system(bucket)
        infos = [system.get_file_info(f"{bucket}/{key}".rstrip("/"))]
        if infos[0].type == fs.FileType.Directory:
            inside = system.get_file_info(fs.FileSelector(infos[0].path, recursive=True))
            infos = [one for one in inside if one.base_name[0] not in "._"]
    except OSError as error:
        raise SourceError(
            f"{source}: cannot be listed ({error}); check bucket, credentials and AWS_ENDPOINT_URL"
        ) from None
    files = [one for one in infos if one.type == fs.FileType.File and one.size]
    if not files:
        raise SourceError(
            f"{source}: no such bucket or object, or only empty ones; check the address"
        )
    return system, sorted(files, key=lambda one: one.path)


def _s3_system(bucket: str) -> "S3FileSystem":
    """FileSystem.from_uri would retry thirty times where no server answers."""
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        place = {"scheme": scheme or "https", "endpoint_override": host.rstrip("/")}
    else:
        place = {"region": fs.resolve_s3_region(bucket)}
    retries = fs.AwsStandardS3RetryStrategy(max_attempts=3)
    return fs.S3FileSystem(connect_timeout=3, request_timeout=5, retry_strategy=retries, **place)


def _fetch_s3(source: str, staging: Path) -> Path:
    from pyarrow import fs

    system, files = _s3_files(source)
    staging.mkdir(parents=True)
    for number, info in enumerate(files):
        target = staging / f"{number:05d}-{Path(info.path).name}"
        try:
            fs.copy_files(info.path, str(target), system, fs.LocalFileSystem())
        except OSError as error:
            raise SourceError(
                f"{source}: {info.path} cannot be fetched ({error}); try again, or check rights"
            ) from None
    return staging


def _read_query(spark: "SparkSession", source: str, staging: Path) -> "DataFrame":
    """Run the query once: two reads of a changing table would differ."""
    url, bar, query = source.partition("|")
    if not bar or not query.strip():
        raise SourceError(
            f"{hide_credentials(url)}: a jdbc source needs its query, as jdbc:…|select …"
        )
    options: dict[str, str | int | bool] = {
        "url": url, "query": query.strip().rstrip(";"), "driver": _find_jdbc_driver(spark, url),
        "fetchsize": ROWS_PER_FETCH,
        "preferTimestampNTZ": True,  # else shifted by the time zone of this machine
    }  # fmt: skip
    try:
        answer = spark.read.format("jdbc").options(**options).load()
        _decimals_to_text(answer).write.mode("overwrite").parquet(str(staging))
    except Exception as error:
        reason = _format_jdbc_error(error, url)
        raise SourceError(
            f"{hide_credentials(url)}: query failed ({reason}); check address, login and query"
        ) from None
    return spark.read.parquet(str(staging))


def _find_jdbc_driver(spark: "SparkSession", url: str) -> str:
    """Java's DriverManager does not search the jars of a session."""
    java = spark.sparkContext._jvm.java  # type: ignore[union-attr]
    service = java.lang.Class.forName("java.sql.Driver")
    loader = java.lang.Thread.currentThread().getContextClassLoader()
    drivers = java.util.ServiceLoader.load(service, loader).iterator()
    while drivers.hasNext():
        driver = drivers.next()
        if driver.acceptsURL(url):
            return str(driver.getClass().getName())
    raise SourceError(
        f"{hide_credentials(url)}: no driver for this address; name its jar in FBT_SPARK_JARS or "
        "its Maven coordinates in FBT_SPARK_PACKAGES"
    )


def _decimals_to_text(frame: "DataFrame") -> "DataFrame":
    """As 42, not 42.000: a numeric without scale arrives with 18 digits."""
    from pyspark.sql import functions as F

    decimals = [field.name for field in frame.schema if field.dataType.typeName() == "decimal"]
    return frame.withColumns(
        {
            name: F.regexp_replace(F.col(f"`{name}`").cast("string"), r"\.0+$", "")
            for name in decimals
        }
    )


def _format_jdbc_error(error: Exception, url: str) -> str:
    """First line of the database's message, without the password in `url`."""
    cause = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    while cause and cause.getCause() and cause.getClass().getName().startswith("org.apache.spark"):
        cause = cause.getCause()
    reason = str(cause.getMessage() if cause else error).partition("\n")[0]
    reason = reason.replace(url, hide_credentials(url))
    for secrets in re.findall(r"(?i)(?:password|pwd)=([^&;]+)|[:/]([^:/@]+)@", url):
        reason = reason.replace("".join(secrets), "***")
    return reason
