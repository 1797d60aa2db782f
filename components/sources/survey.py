"""Learn in one pass over all bytes of a file what its encoding may be."""

import codecs
import itertools
import re
from dataclasses import dataclass, field
from typing import BinaryIO

BLOCK = 4 << 20
SAMPLE = 200_000
"""Bytes of fields shown to the detector of legacy encodings."""
FIELDS_PER_BLOCK = 2_000
ASCII = bytes(range(128))


@dataclass
class Survey:
    """Findings of one pass over all bytes."""

    head: bytes = b""
    n_bytes: int = 0
    n_nul: int = 0
    n_valid: int = 0
    """Continuation bytes of valid UTF-8: not fewer than there are characters beyond ASCII."""
    n_bad: int = 0
    first_bad: int = -1
    has_line_feed: bool = False
    has_carriage_return: bool = False
    unseen: bytes = bytes(range(256))
    fields: dict[bytes, None] = field(default_factory=dict)
    n_sampled: int = 0
    rest: bytes = b""

    def add(self, block: bytes, is_last: bool = False) -> None:
        if not self.n_bytes:
            self.head = block[: 64 << 10]
        data, start = self.rest + block, self.n_bytes - len(self.rest)
        self.n_bytes += len(block)
        self.n_nul += block.count(0)
        self.has_line_feed = self.has_line_feed or b"\n" in block
        self.has_carriage_return = self.has_carriage_return or b"\r" in block
        self.rest = b""
        if not data.isascii():
            self._decode(data, start, is_last)

    def _decode(self, data: bytes, start: int, is_last: bool) -> None:
        try:
            text, used = codecs.utf_8_decode(data, "strict", is_last)
            self.n_valid += used - len(text)
        except UnicodeDecodeError as error:
            if self.first_bad < 0:
                self.first_bad = start + error.start
            text, used = codecs.utf_8_decode(data, "replace", is_last)
            n_bad = text.count("\ufffd") - data.count(b"\xef\xbf\xbd")
            self.n_bad += n_bad
            n_ascii = used - len(data[:used].translate(None, ASCII))
            self.n_valid += len(text) - n_ascii - n_bad
            self.unseen = self.unseen.translate(None, data)
            self._sample(data)
        self.rest = data[used:]

    def _sample(self, data: bytes) -> None:
        # Not at "|": it is the second byte of a Japanese letter.
        fields = re.finditer(rb'[^;,\t\r\n"\0\x80-\xff]{0,99}[\x80-\xff][^;,\t\r\n"\0]*', data)
        for found in itertools.islice(fields, FIELDS_PER_BLOCK):
            if self.n_sampled < SAMPLE and found[0] not in self.fields:
                self.fields[found[0][:1000]] = None
                self.n_sampled += len(found[0])


def survey(stream: BinaryIO) -> Survey:
    found = Survey()
    for block in iter(lambda: stream.read(BLOCK), b""):
        found.add(block)
    found.add(b"", is_last=True)
    return found
