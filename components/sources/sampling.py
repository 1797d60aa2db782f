"""A part of a large file that shows what the whole is like."""

from pathlib import Path

SAMPLE_FROM = 32 << 20
"""Bytes; smaller files are read whole."""
HEAD = 2 << 20
BLOCK = 1 << 18
N_BLOCKS = 24


def sample_text(path: Path, target: Path) -> float:
    """Write the first lines and blocks of whole lines from all over; return their share of bytes.

    Where quoted values span lines, a block could begin within one: then the first lines alone.
    """
    size = path.stat().st_size
    with path.open("rb") as source, target.open("wb") as sample:
        head = source.read(HEAD)
        head = head[: head.rfind(b"\n") + 1] or head
        sample.write(head)
        if not _has_spanning_values(head):
            step = (size - HEAD) // N_BLOCKS
            for number in range(N_BLOCKS):
                source.seek(HEAD + number * step)
                sample.write(_whole_lines(source.read(BLOCK)))
        return sample.tell() / size


def _has_spanning_values(head: bytes) -> bool:
    return any(line.count(b'"') % 2 for line in head.split(b"\n"))


def _whole_lines(block: bytes) -> bytes:
    first = block.find(b"\n") + 1
    return block[first : block.rfind(b"\n") + 1]
