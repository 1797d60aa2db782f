"""Tell what a file is by its first bytes; its name may be wrong."""

import json
import re
import zipfile
from pathlib import Path
from typing import Literal

from components.sources.encoding import CONTROLS
from components.sources.errors import SourceError

COMPRESSIONS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
SKIPPABLE_FRAME = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""Zstandard's, as parallel writers put it first; LZ4 has the same, but no tool writes it first."""
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
REFUSED = (
    (0, b"%PDF", "a PDF"),
    (0, b"{\\rtf", "a text of a word processor (RTF)"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (4, b"Standard Jet DB", "an Access database"),
    (4, b"Standard ACE DB", "an Access database"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (8, b"WEBPVP8", "a WebP picture"),
    (4, b"ftypheic", "a HEIC picture"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"PARE", "an encrypted Parquet file"),
    (0, b"ARROW1", "an Arrow (Feather) file"),
    (0, b"ORC", "an ORC file"),
    (0, b"Obj\x01", "an Avro file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"$FL", "an SPSS file"),
    (0, b"<stata_dta>", "a Stata file"),
    (8, b"DUCK", "a DuckDB database"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ\x90\0", "a program"),
    (0, b"!BDN", "an Outlook file"),
    (0, b"\x02\x21\x4c\x18", "an LZ4 file of the old kind"),
    (0, b"\x80\x04\x95", "a Python pickle"),
)
TEXTUAL = (b"%PDF", b"{\\rtf")
COLUMNAR = ("Arrow", "ORC", "Avro", "HDF5", "SPSS", "Stata", "pickle", "Parquet")
TAG = re.compile(r"<(\?xml|!--|!doctype|[a-z][\w:.-]*(\s+[\w:.-]+\s*=|\s*/?>(?![;,\t|])))")
"""A header may be <DATE>,<TIME>."""
MAIL = re.compile(
    r"(From \S+ |(Return-Path|Received|Delivered-To|MIME-Version|Message-ID|X-[\w-]+): ).*\n"
    r"(.*\n)*?(From|Subject|To|Date|Content-Type): ",
    re.IGNORECASE,
)
N_MAIL_HEADER = 20_000


def name_format(head: bytes, path: Path, name: str) -> str:
    """A compression, "zip", "workbook", "parquet", or "" for what may be text."""
    is_text = len(head) == len(head.translate(None, CONTROLS + b"\0"))
    for place, magic, what in REFUSED:
        if head.startswith(magic, place) and (magic in TEXTUAL or not is_text):
            refuse(what, name)
    for magic, compression in COMPRESSIONS:
        if head.startswith(magic) and not (is_text and magic.isalpha()):
            return compression
    if is_text:
        return ""  # a header may begin with PAR1
    if SKIPPABLE_FRAME.match(head):
        return "zstd"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(OLE):
        return "workbook"
    return _name_zip(path, name) if head.startswith((b"PK\3\4", b"PK\5\6")) else ""


def _name_zip(path: Path, name: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = set(archive.namelist())
            kind = archive.read("mimetype") if "mimetype" in inside else b""
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise SourceError(
            f"{name}: a damaged or cut ZIP archive ({error}); fetch or export it again"
        ) from None
    if inside & {"xl/workbook.xml", "xl/workbook.bin"} or b"spreadsheet" in kind:
        return "workbook"
    if "[Content_Types].xml" in inside:
        known = {"word/": "a Word document", "ppt/": "a PowerPoint presentation"}
        start = next((one for one in known if any(part.startswith(one) for part in inside)), "")
        refuse(known.get(start, "an Office file, no workbook"), name)
    if b"opendocument" in kind or b"epub" in kind:
        refuse("a document of a word processor", name)
    return "zip"


def refuse(what: str, name: str) -> None:
    remedy = "export the order lines as CSV"
    if "archive" in what:
        remedy = "unpack it and give the folder, or make it a ZIP"
    elif any(one in what for one in COLUMNAR):
        remedy = "write it as plain Parquet or CSV"
    elif what.startswith(("a text", "a document", "a Word", "an Office")):
        remedy = "copy the table to a spreadsheet and save as CSV"
    elif "database" in what:
        remedy = "export its table of order lines, save as CSV"
    raise SourceError(f"{name}: {what}, expected CSV, JSON, Parquet or a workbook; {remedy}")


def name_text(start: str, name: str) -> Literal["text", "json"]:
    """The kind of text that begins with `start`; pages and mails are refused."""
    text = start.lstrip("\ufeff \t\r\n")
    low = text[:200].lower()
    if low.startswith(("<!doctype html", "<html", "<head", "<body", "<table", "<script")):
        raise SourceError(
            f"{name}: an HTML page (a login, or a table that calls itself Excel), expected CSV; "
            "open it in a browser: if it shows the data, copy it to a spreadsheet and save as CSV"
        )
    if TAG.match(low):
        raise SourceError(f"{name}: XML, expected CSV; open it in a spreadsheet and save as CSV")
    if low.startswith("{\\rtf"):
        refuse("a text of a word processor (RTF)", name)
    if MAIL.match(text[:N_MAIL_HEADER].replace("\r\n", "\n")):
        raise SourceError(
            f"{name}: an e-mail, expected CSV; save its attachment, and give that file"
        )
    return "json" if _is_json(text) else "text"


OBJECT = re.compile(r'(?:\[\s*)?\{\s*(?:\}|"(?:[^"\\]|\\.)*"\s*:)')


def _is_json(text: str) -> bool:
    if not text.startswith(("{", "[")):
        return False
    try:
        end = json.JSONDecoder(strict=False).raw_decode(text)[1]
    except (json.JSONDecodeError, RecursionError):
        return bool(OBJECT.match(text))
    return re.match(r"[ \t]*([\r\n{\[]|$)", text[end:]) is not None
