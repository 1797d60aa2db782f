"""Gives back resident pages of memory-mapped bundles, of which a look over many products leaves a
gigabyte. They stay in the system's cache: the next access maps them again in microseconds.
"""

import mmap
import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from components.model.bundle import Bundle

STATM = Path("/proc/self/statm")


def count_mapped_bytes() -> int:
    """Of files, resident in this process; 0 where the system does not tell."""
    try:
        return int(STATM.read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def release_pages(bundle: Bundle) -> None:
    """Safe while others read."""
    for mapped in _find_maps(bundle):
        mapped.madvise(mmap.MADV_DONTNEED)


def _find_maps(part: Any) -> Iterator[mmap.mmap]:
    for field in fields(part):
        value = getattr(part, field.name)
        if is_dataclass(value):
            yield from _find_maps(value)
            continue
        while value is not None and not isinstance(value, mmap.mmap):
            value = getattr(value, "base", None)
        if value is not None:
            yield value
