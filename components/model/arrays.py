"""Types of numpy arrays."""

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
UInt64Array = npt.NDArray[np.uint64]
UInt8Array = npt.NDArray[np.uint8]
Int8Array = npt.NDArray[np.int8]
Int16Array = npt.NDArray[np.int16]
AnyArray = npt.NDArray[Any]
