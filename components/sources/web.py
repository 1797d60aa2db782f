"""Fetch an http(s) source."""

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from components.sources.errors import SourceError
from components.sources.files import InputFile, write_whole

if TYPE_CHECKING:
    from http.client import HTTPResponse

TIMEOUT_S = 60
BLOCK = 1 << 20
UNDERSTOOD = ("", "identity", "gzip", "x-gzip", "zstd")
"""Content encodings that are formats of files, too: they are unpacked like such a file."""


def download(source: str, staging: Path) -> list[InputFile]:
    name = re.sub(r"[^\w.=-]+", "_", unquote(Path(urlsplit(source).path).name)) or "download"
    target = staging / name
    with _open_url(source, "GET") as answer, write_whole(target) as unfinished:
        _check_encoding(source, answer)
        n_bytes = _copy(source, answer, unfinished)
        expected = answer.headers.get("Content-Length")
        if expected and expected.isdigit() and n_bytes != int(expected):
            raise SourceError(
                f"{hide_secrets(source)}: got {n_bytes} bytes, expected {expected}; try again, or "
                "fetch the file"
            )
        if not n_bytes:
            raise SourceError(
                f"{hide_secrets(source)}: empty (0 bytes), expected a header and at least one line"
            )
        _check_no_page(source, answer, unfinished)
    return [InputFile(target, name, {})]


def url_fingerprint(source: str) -> str:
    """A hash of the server's metadata; always new where it names neither version nor time."""
    digest = hashlib.sha256(source.encode())
    try:
        answer = _open_url(source, "HEAD")
    except SourceError:
        answer = _open_url(source, "GET")  # signed addresses are often for GET only
    with answer:
        for header in ("ETag", "Last-Modified", "Content-Length"):
            digest.update(str(answer.headers.get(header)).encode())
        if not (answer.headers.get("ETag") or answer.headers.get("Last-Modified")):
            digest.update(datetime.now(UTC).isoformat().encode())
    return digest.hexdigest()[:16]


def hide_secrets(source: str) -> str:
    """Without login and query: signatures and tokens stand there."""
    address = urlsplit(source)
    shown = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
    return f"{shown}?…" if address.query else shown


def _copy(source: str, answer: "HTTPResponse", target: Path) -> int:
    n_bytes = 0
    with target.open("wb") as file:
        while block := _read(source, answer, n_bytes):
            n_bytes += file.write(block)
    return n_bytes


def _read(source: str, answer: "HTTPResponse", n_bytes: int) -> bytes:
    try:
        return answer.read(BLOCK)
    except (http.client.HTTPException, OSError) as error:
        reason = "the server stopped sending" if isinstance(error, TimeoutError) else repr(error)
        raise SourceError(
            f"{hide_secrets(source)}: ended early, after {n_bytes} bytes or a little more "
            f"({reason}); try again, or fetch the file"
        ) from None


def _check_encoding(source: str, answer: "HTTPResponse") -> None:
    encoding = (answer.headers.get("Content-Encoding") or "").strip().lower()
    if encoding not in UNDERSTOOD:
        raise SourceError(
            f"{hide_secrets(source)}: the server sends it compressed as {encoding!r}, which was "
            "not asked for, expected plain or gzip; fetch the file, or change the server"
        )


def _check_no_page(source: str, answer: "HTTPResponse", file: Path) -> None:
    with file.open("rb") as stream:
        start = stream.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        there = hide_secrets(answer.url)
        moved = "" if there == hide_secrets(source) else f" (the server led to {there})"
        raise SourceError(
            f"{hide_secrets(source)}: the answer is an HTML page{moved}, perhaps a login, expected "
            "a CSV or Parquet file; give an address that needs no login, or fetch the file"
        )


def _open_url(source: str, method: str) -> "HTTPResponse":
    # Some servers refuse Python's own name.
    request_headers = {"User-Agent": "fbt", "Accept": "*/*", "Accept-Encoding": "identity"}
    try:
        request = urllib.request.Request(source, method=method, headers=request_headers)
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        raise SourceError(
            f"{hide_secrets(source)}: the server answers {error.code} "
            f"({_explain(error.code) or error.reason}); check the address and its rights"
        ) from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise SourceError(
            f"{hide_secrets(source)}: cannot be fetched ({error}); check address and network"
        ) from None
    return answer


def _explain(status: int) -> str:
    known = {
        HTTPStatus.UNAUTHORIZED: "a login is needed",
        HTTPStatus.FORBIDDEN: "not allowed, or the signed address is too old",
        HTTPStatus.NOT_FOUND: "no such file",
    }
    return known.get(HTTPStatus(status), "") if status in set(HTTPStatus) else ""
