"""Groups of arrays that are stored together; lists of different lengths in flat arrays."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from components.model.arrays import Int32Array, Int64Array, concat_arrays, load_array


class ArrayGroup:
    """Base of dataclasses of arrays. Each array is stored as PREFIX_FIELD.npy.

    Arrays with a default are None in bundles of before.
    """

    prefix: ClassVar[str]

    def __init_subclass__(cls, prefix: str = "") -> None:
        cls.prefix = prefix

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Memory-mapped. Raises FileNotFoundError."""
        optional = {one.name for one in fields(cls) if one.default is None}  # type: ignore[arg-type]
        files = cls._files().items()
        kept = [(n, f) for n, f in files if n not in optional or (folder / f).exists()]
        return cls(**{name: load_array(folder / file) for name, file in kept})

    @classmethod
    def load_if_saved(cls, folder: Path) -> Self | None:
        is_saved = any((folder / file).exists() for file in cls._files().values())
        return cls.load(folder) if is_saved else None

    def save(self, folder: Path) -> None:
        for name, file in self._files().items():
            if (array := getattr(self, name)) is not None:
                np.save(folder / file, np.ascontiguousarray(array))

    @classmethod
    def _files(cls) -> dict[str, str]:
        return {one.name: f"{cls.prefix}_{one.name}.npy" for one in fields(cls)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class RaggedRows(ArrayGroup):
    """Lists of catalogue rows (CSR): `rows[offsets[i]:offsets[i + 1]]` is list i.

    Subclasses add values of the entries.
    """

    offsets: Int64Array
    rows: Int32Array

    def entries(self, i: int) -> slice:
        """The places of list i in `rows`."""
        return slice(*self.offsets[i : i + 2].tolist())

    def concat(self, lists: Iterable[int]) -> Int32Array:
        """The rows of these lists; there may be duplicates."""
        return concat_arrays([self.rows[self.entries(i)] for i in lists], np.int32)

    def expand(self, lists: Int32Array, limit: int | None = None) -> tuple[Int64Array, Int64Array]:
        """Places in `rows` of the first `limit` entries of each list, and the list's in `lists`."""
        starts = self.offsets[lists].astype(np.int64)
        sizes = self.offsets[lists + 1] - starts
        if limit is not None:
            sizes = np.minimum(sizes, limit)
        owners = np.repeat(np.arange(len(lists)), sizes)
        return np.arange(sizes.sum()) + (starts - (np.cumsum(sizes) - sizes))[owners], owners
