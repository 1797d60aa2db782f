"""Types of numpy arrays, and how they are loaded and joined."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntpArray = npt.NDArray[np.intp]
Float16Array = npt.NDArray[np.float16]
UInt16Array = npt.NDArray[np.uint16]
UInt32Array = npt.NDArray[np.uint32]
UInt64Array = npt.NDArray[np.uint64]
UInt8Array = npt.NDArray[np.uint8]
Int8Array = npt.NDArray[np.int8]
Int16Array = npt.NDArray[np.int16]
AnyArray = npt.NDArray[Any]


def load_array(file: Path) -> Any:
    """Memory-mapped read-only, as a plain array: slicing numpy's memmap costs ten times as much."""
    return np.load(file, mmap_mode="r").view(np.ndarray)


def concat_arrays(parts: Sequence[AnyArray], dtype: type[np.generic]) -> AnyArray:
    """There may be no parts."""
    return np.concatenate([np.empty(0, dtype), *parts], dtype=dtype, casting="same_kind")


def to_offsets(sizes: Sequence[int] | AnyArray) -> Int64Array:
    """Offsets (n + 1,) of lists of these sizes (n,)."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
