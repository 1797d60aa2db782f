"""A bundle's hashes are checked once: hashing gigabytes at every start of a service takes seconds.

A note beside the files keeps the file system's facts of each; after any change it is void.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.model.bundle import check_file, read_manifest
from components.model.manifest import MANIFEST_FILE

VERIFIED_FILE = ".verified.json"


def verify_bundle(path: str | Path) -> None:
    """Raises BundleError, naming the file that is missing or damaged.

    Where the note cannot be written, as in a read-only image, every start checks anew.
    """
    path = Path(path)
    manifest = read_manifest(path)
    for name in manifest.files:
        check_file(path / name, None)
    found = {name: _stat_file(path / name) for name in [MANIFEST_FILE, *sorted(manifest.files)]}
    if _read_note(path) == found:
        return
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: check_file(path / one[0], one[1]), manifest.files.items()))
    _write_note(path, found)


def _stat_file(file: Path) -> list[int]:
    """Changes with any write."""
    stat = file.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _read_note(path: Path) -> Any:
    try:
        return json.loads((path / VERIFIED_FILE).read_text())
    except (OSError, ValueError):
        return None


def _write_note(path: Path, found: dict[str, list[int]]) -> None:
    aside = path / f"{VERIFIED_FILE}.part"
    try:
        aside.write_text(json.dumps(found))
        aside.rename(path / VERIFIED_FILE)
    except OSError:
        with suppress(OSError):
            aside.unlink()
