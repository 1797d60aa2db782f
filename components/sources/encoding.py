"""Find the encoding of a text file, and write it anew as UTF-8."""

import codecs
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from components.sources.errors import SourceError
from components.sources.legacy_encoding import choose_encoding, name_encoding
from components.sources.survey import BLOCK, Survey, survey

FEW_BYTES = 0.0001
FEW = 0.001
"""Up to this share of broken characters, a file is damaged UTF-8."""
CHANCE = 0.4
"""In legacy text, fewer characters than this look like UTF-8 by chance."""
WESTERN = ("cp125", "iso8859", "mac")
"""In these, a letter is hardly ever followed by what would make both UTF-8."""
CHANCE_WESTERN = 0.02
PASSABLE = 0.6
"""Text of which a smaller share fits one alphabet was no text."""

# In this order: UTF-32 LE begins with the mark of UTF-16 LE.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 byte order mark"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32 byte order mark"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32 byte order mark"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16 byte order mark (little endian)"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16 byte order mark (big endian)"),
)
CONTROLS = bytes(one for one in range(32) if one not in b"\0\x01\t\n\v\f\r\x1a\x1b\x1c\x1d\x1e\x1f")


def detect_encoding(source: Path | BinaryIO, name: str = "") -> tuple[str, bool, str]:
    """Python's name of the encoding, whether it is certain, and the evidence."""
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return judge(survey(stream), name or source.name)
    return judge(survey(source), name or getattr(source, "name", "the text"))


def judge(found: Survey, name: str) -> tuple[str, bool, str]:
    for mark, codec, evidence in MARKS:
        if found.head.startswith(mark) and not (codec.endswith("-sig") and found.n_bad):
            return codec, True, evidence
    if wide := _detect_wide(found.head):
        return wide, True, f"zero bytes in the places of {wide.upper()}"
    n_controls = len(found.head) - len(found.head.translate(None, CONTROLS))
    if n_controls > 0.02 * len(found.head):
        raise SourceError(
            f"{name}: binary data of an unknown kind, expected text; save it as CSV, JSON or "
            "Parquet"
        )
    if not found.n_bad:
        return "utf-8", True, "valid UTF-8" if found.n_valid else "only ASCII"
    return _judge_broken(found, name)


def _judge_broken(found: Survey, name: str) -> tuple[str, bool, str]:
    valid = found.n_valid / (found.n_valid + found.n_bad)
    evidence = f"UTF-8 with {found.n_bad:,} broken characters, first at byte {found.first_bad:,}"
    if valid > 1 - FEW:
        return "utf-8", False, evidence
    if valid < CHANCE and not found.head.startswith(codecs.BOM_UTF8):
        codec, is_certain, reason, fit = choose_encoding(list(found.fields), found.unseen)
        is_mixed = codec.startswith(WESTERN) and found.n_valid > 3 and valid > CHANCE_WESTERN
        if fit >= PASSABLE and not is_mixed:
            return codec, is_certain, reason
        if found.n_bad < FEW_BYTES * found.n_bytes:
            return "utf-8", False, evidence
    raise SourceError(
        f"{name}: damaged text, or text in two encodings ({found.n_bad:,} characters are not "
        f"UTF-8, the first at byte {found.first_bad:,}; no other encoding reads as words), "
        "expected one encoding; export the file again as UTF-8"
    )


def _detect_wide(head: bytes) -> str:
    """UTF-16 or UTF-32 without a mark: most text has ASCII digits and separators."""
    quarters = [head[place::4].count(0) * 4 / max(len(head), 1) for place in range(4)]
    if len(head) >= 8 and min(quarters[2:]) > 0.9 and quarters[0] < 0.1:
        return "utf-32-le"
    if len(head) >= 8 and min(quarters[:2]) > 0.9 and quarters[3] < 0.1:
        return "utf-32-be"
    even, odd = (quarters[0] + quarters[2]) / 2, (quarters[1] + quarters[3]) / 2
    if odd > 0.1 and even < 0.01:
        return "utf-16-le"
    return "utf-16-be" if even > 0.1 and odd < 0.01 else ""


def check_given(encoding: str, found: Survey, name: str) -> str:
    """The codec of an encoding that the user named."""
    try:
        codec = codecs.lookup(encoding).name
        b"a".decode(codec, "replace")
    except LookupError:
        raise SourceError(
            f"{name}: no encoding is called {encoding!r}; give one as utf-8, windows-1254, "
            "iso-8859-9, utf-16, shift_jis"
        ) from None
    for mark, marked, evidence in MARKS:
        if found.head.startswith(mark):
            if not marked.startswith(codec.replace("_", "-")[:6]):
                raise SourceError(
                    f"{name}: begins with a {evidence}, but {name_encoding(codec)} was given as "
                    "its encoding; leave the encoding out"
                )
            return marked
    return codec


def transcode(
    source: BinaryIO, target: BinaryIO, codec: str, name: str, is_lenient: bool = False
) -> tuple[int, int]:
    """Write UTF-8, line breaks of old Macs as LF; the numbers of NULs dropped, of replacements."""
    n_nul = n_replaced = 0
    is_old_mac: bool | None = None
    for text in _decode_blocks(source, codec, name, "replace" if is_lenient else "strict"):
        n_nul += text.count("\0") if "\0" in text else 0
        n_replaced += text.count("\ufffd") if is_lenient else 0
        if is_old_mac is None and ("\r" in text or "\n" in text):
            is_old_mac = "\n" not in text
        plain = text.replace("\0", "")
        target.write((plain.replace("\r", "\n") if is_old_mac else plain).encode("utf-8"))
    return n_nul, n_replaced


def _decode_blocks(source: BinaryIO, codec: str, name: str, errors: str) -> Iterator[str]:
    decoder, done = codecs.getincrementaldecoder(codec)(errors), 0
    while True:
        block, pending = source.read(BLOCK), b""
        with contextlib.suppress(NotImplementedError):
            pending = decoder.getstate()[0]
        try:
            yield decoder.decode(block, final=not block)
        except UnicodeError as error:
            place = done - len(pending) + getattr(error, "start", 0)
            raise SourceError(
                f"{name}: not all of it is {name_encoding(codec)} (byte {place:,} is not), "
                "expected one encoding; name the right one, or export the file again as UTF-8"
            ) from None
        done += len(block)
        if not block:
            return
