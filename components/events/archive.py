"""Parquet files by day that change in whole steps, whenever the process is killed.

A step writes its files below `staging/`. Then it names in `compaction.json` which of them appear,
which old ones disappear, and the sink's position that goes with it; then it renames and deletes.
Whoever opens the archive next ends a step that was named, and drops what was only staged.
"""

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa

from components.contracts import table_name

STATE, STAGING, LOCK = "compaction.json", "staging", "compaction.lock"
US_PER_DAY = 86_400_000_000


class ArchiveBusy(RuntimeError):
    """Another process changes the archive."""


class DayFile(NamedTuple):
    path: str
    """From the root."""
    day: date
    n_bytes: int


class NewFile(NamedTuple):
    day: date
    table: pa.Table
    schema: pa.Schema


class StagedFile(NamedTuple):
    staged: str
    final: str


class Archive:
    """Tables are folders `NAME/day=2026-11-29/` below `root`, a path of `filesystem` (default: this
    machine's)."""

    def __init__(self, root: str, filesystem: Any = None) -> None:
        from pyarrow import fs

        self.root = root.rstrip("/")
        if filesystem is None and "://" in root:
            raise ValueError(f"{root}: an object store needs its filesystem (open_archive has it)")
        self.is_local = filesystem is None or isinstance(filesystem, fs.LocalFileSystem)
        if self.is_local:
            self.root = str(Path(root).absolute())
        self.filesystem = filesystem or fs.LocalFileSystem()
        self._state: dict[str, Any] = {}

    @property
    def position(self) -> str:
        """Of the sink, up to which everything is in the archive."""
        return str(self._read_state().get("position", ""))

    @contextmanager
    def writing(self, wait_s: float = 0) -> Iterator[None]:
        """One process at a time, after what an earlier one left unfinished. Raises ArchiveBusy if
        another one goes on for longer than `wait_s`.

        Object stores have no locks: there a second process is noticed when it changes the state.
        """
        self.filesystem.create_dir(self.root, recursive=True)
        with self._locked(wait_s):
            self._state = self._read_state()
            self._finish()
            self._clear_staging()
            yield

    def change(self, new: Sequence[NewFile], removed: Sequence[str], position: str) -> None:
        """All of it or nothing."""
        self.publish([self.stage(file) for file in new], removed, position)

    def publish(self, staged: Sequence[StagedFile], removed: Sequence[str], position: str) -> None:
        """As `change`, of files that are staged."""
        if self._read_state() != self._state:
            raise ArchiveBusy(f"{self.root}: another compaction has changed it; run one at a time")
        step = {"publish": list(staged), "remove": list(removed)}
        self._write_state({"position": position, **step})
        self._finish()

    def files(self, schema: pa.Schema) -> list[DayFile]:
        from pyarrow import fs

        folder = self._full(table_name(schema))
        selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return sorted(
            DayFile(one.path[len(self.root) + 1 :], _read_day(one.path), one.size)
            for one in infos
            if one.type == fs.FileType.File and one.extension == "parquet"
        )

    def read(self, path: str, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        """By default all columns, those that a newer release has added last."""
        import pyarrow.parquet as pq

        with self.filesystem.open_input_file(self._full(path)) as file:
            found = pq.ParquetFile(file)
            there = found.schema_arrow.names
            wanted = columns or [*schema.names, *(n for n in there if n not in schema.names)]
            table = found.read([name for name in wanted if name in there])
        for name in wanted:
            if name not in table.column_names:  # a field of LATER
                missing = pa.nulls(table.num_rows, schema.field(name).type)
                table = table.append_column(schema.field(name), missing)
        return table.select(wanted)

    def count_rows(self, path: str) -> int:
        import pyarrow.parquet as pq

        with self.filesystem.open_input_file(self._full(path)) as file:
            return int(pq.read_metadata(file).num_rows)

    def stage(self, file: NewFile) -> StagedFile:
        """Any process may, while one is `writing`."""
        import pyarrow.parquet as pq

        staged = f"{STAGING}/{uuid.uuid4().hex}.parquet"
        self.filesystem.create_dir(self._full(STAGING), recursive=True)
        with self.filesystem.open_output_stream(self._full(staged)) as stream:
            table = file.table.cast(_add_newer_fields(file.schema, file.table.schema))
            pq.write_table(table, stream, compression="zstd")
        self._sync(self._full(staged))
        return StagedFile(staged, self._name(file))

    def _name(self, file: NewFile) -> str:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        folder = f"{table_name(file.schema)}/day={file.day.isoformat()}"
        return f"{folder}/{now}-{uuid.uuid4().hex[:8]}.parquet"

    def _finish(self) -> None:
        """Rename and delete as the state says; harmless a second time."""
        publish, remove = self._state.get("publish", []), self._state.get("remove", [])
        if not publish and not remove:
            return
        for staged, final in publish:
            self._publish(staged, final)
        for path in remove:
            with contextlib.suppress(FileNotFoundError):
                self.filesystem.delete_file(self._full(path))
        self._write_state({"position": self._state["position"]})

    def _publish(self, staged: str, final: str) -> None:
        if not self._exists(staged):
            return
        folder = self._full(final.rpartition("/")[0])
        self.filesystem.create_dir(folder, recursive=True)
        self.filesystem.move(self._full(staged), self._full(final))
        self._sync(folder)

    def _exists(self, path: str) -> bool:
        from pyarrow import fs

        (info,) = self.filesystem.get_file_info([self._full(path)])
        return bool(info.type != fs.FileType.NotFound)

    def _clear_staging(self) -> None:
        self.filesystem.delete_dir_contents(self._full(STAGING), missing_dir_ok=True)

    def _read_state(self) -> dict[str, Any]:
        if not self._exists(STATE):
            return {}
        with self.filesystem.open_input_file(self._full(STATE)) as file:
            state: dict[str, Any] = json.loads(file.read())
        return state

    def _write_state(self, state: dict[str, Any]) -> None:
        self._state = json.loads(json.dumps(state))
        target = self._full(STATE)
        aside = f"{target}.part" if self.is_local else target
        with self.filesystem.open_output_stream(aside) as stream:
            stream.write(json.dumps(state).encode())
        if self.is_local:
            self._sync(aside)
            self.filesystem.move(aside, target)
            self._sync(self.root)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _sync(self, path: str) -> None:
        """The sink forgets what is here: it must outlive a power failure."""
        if self.is_local:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    @contextmanager
    def _locked(self, wait_s: float) -> Iterator[None]:
        if not self.is_local:
            yield
            return
        deadline = time.monotonic() + wait_s
        with Path(self._full(LOCK)).open("w") as file:
            while not _try_lock(file):
                if time.monotonic() > deadline:
                    raise ArchiveBusy(f"{self.root}: another compaction runs; wait for it")
                time.sleep(0.2)
            yield


def _try_lock(file: IO[str]) -> bool:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _add_newer_fields(schema: pa.Schema, found: pa.Schema) -> pa.Schema:
    """Columns of a newer release outlive a merge or an erasure by this one."""
    return pa.schema([*schema, *(field for field in found if field.name not in schema.names)])


def _read_day(path: str) -> date:
    folder = path.rpartition("/")[0].rpartition("/")[2]
    return date.fromisoformat(folder.removeprefix("day="))


def find_day(ts_us: int) -> date:
    """In UTC. Raises ValueError or OverflowError for times that no calendar has."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + ts_us // US_PER_DAY)
