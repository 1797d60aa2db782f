"""Fetch an s3:// source: an object, or all below a prefix."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from components.sources.errors import SourceError
from components.sources.files import InputFile, is_hidden, read_partition, write_whole

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, S3FileSystem


def download(source: str, staging: Path) -> list[InputFile]:
    from pyarrow import fs

    system, objects = find_objects(source)
    found = []
    for number, one in enumerate(objects):
        target = staging / f"{number:05d}-{one.base_name}"
        try:
            with write_whole(target) as unfinished:
                fs.copy_files(one.path, str(unfinished), system, fs.LocalFileSystem())
                n_bytes = unfinished.stat().st_size
                if n_bytes != one.size:
                    raise OSError(f"{n_bytes} bytes of {one.size}")
        except (OSError, SourceError) as error:
            raise SourceError(
                f"{source}: {one.path} cannot be fetched ({error}); try again, or check rights"
            ) from None
        found.append(InputFile(target, _name(one.path, source), read_partition(one.path)))
    return found


def s3_fingerprint(source: str) -> str:
    """A hash of paths, sizes and times."""
    digest = hashlib.sha256(source.encode())
    for one in find_objects(source)[1]:
        digest.update(f"{one.path} {one.size} {one.mtime_ns}".encode())
    return digest.hexdigest()[:16]


def find_objects(source: str) -> "tuple[S3FileSystem, list[FileInfo]]":
    """Objects that are not empty, sorted by path."""
    from pyarrow import fs

    bucket, _, key = source.removeprefix("s3://").partition("/")
    if not bucket:
        raise SourceError(f"{source}: names no bucket, expected s3://bucket/object; add it")
    root = f"{bucket}/{key}".rstrip("/")
    try:
        system = open_store(bucket)
        infos = [system.get_file_info(root)]
        if infos[0].type == fs.FileType.Directory:
            inside = system.get_file_info(fs.FileSelector(root, recursive=True))
            infos = [one for one in inside if not is_hidden(one.path.removeprefix(root))]
    except OSError as error:
        raise SourceError(
            f"{source}: cannot be listed ({error}); check bucket, credentials and AWS_ENDPOINT_URL"
        ) from None
    files = [one for one in infos if one.type == fs.FileType.File and one.size]
    if not files:
        raise SourceError(
            f"{source}: no such bucket or object, or only empty ones; check the address"
        )
    return system, sorted(files, key=lambda one: str(one.path))


def _name(path: str, source: str) -> str:
    root = source.removeprefix("s3://").rstrip("/")
    return path.removeprefix(root).strip("/") or path.rpartition("/")[2]


def open_store(bucket: str) -> "S3FileSystem":
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
