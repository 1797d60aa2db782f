"""Nothing half-written stays behind: write aside, then rename."""

import shutil
import uuid
from pathlib import Path


class atomic_write:
    """Context: a fresh path beside `path` that takes its place only if the block succeeds.

    The place may hold a file or a folder from an earlier try; it is replaced as a whole. On any
    exception, Ctrl-C and a full disk included, what was written aside is removed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.aside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}.part")

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.aside

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            _remove(self.path)
            self.aside.rename(self.path)
        else:
            _remove(self.aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
