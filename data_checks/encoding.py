"""Text columns as integer codes, so that counts and look-ups are integer work."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from components.contracts import open_table
from components.model.arrays import BoolArray, Int32Array, Int64Array

ID_COLUMNS = {"order_id", "user_id", "product_id", "split", "reason"}


@dataclass(frozen=True)
class Codes:
    """Positions in the distinct values; -1 where null or blank."""

    codes: Int32Array
    values: pa.Array

    @cached_property
    def n_missing(self) -> int:
        return int((self.codes < 0).sum())

    @cached_property
    def counts(self) -> Int64Array:
        """Occurrences of each value; 0 for values outside of a sample."""
        return np.bincount(self.codes + 1, minlength=len(self.values) + 1)[1:]

    @cached_property
    def n_distinct(self) -> int:
        return int((self.counts > 0).sum())


def open_as_codes(path: Path, schema: pa.Schema) -> ds.Dataset:
    """Ids become dictionary codes, at a fifth of the cost of encoding texts afterwards."""
    found = open_table(path, pa.schema([], metadata=schema.metadata))
    layout = ds.ParquetFileFormat(dictionary_columns=ID_COLUMNS & set(schema.names))
    return ds.dataset(found.files, format=layout)


def load(dataset: ds.Dataset, columns: list[str], row_limit: int) -> tuple[pa.Table, float]:
    """The named columns, and the share of orders in them: 1.0 up to `row_limit` values.

    Above it, whole orders are sampled by a hash of their id: the same ones in every run.
    """
    share = min(1.0, row_limit / max(1, _n_values(dataset)))
    if share == 1.0:
        return dataset.to_table(columns=columns), share
    batches = list(_sample_orders(dataset, columns, share))
    return pa.Table.from_batches(batches), share


def encode(column: pa.ChunkedArray) -> Codes:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    chunks = column.unify_dictionaries().chunks
    if not chunks:
        return Codes(np.zeros(0, np.int32), pa.array([], pa.string()))
    values = chunks[0].dictionary.cast(pa.string())
    indices = [chunk.indices.cast(pa.int32()).fill_null(-1).to_numpy() for chunk in chunks]
    codes = np.concatenate(indices)
    blank = to_bool_array(pc.equal(pc.utf8_trim_whitespace(values), ""))
    if blank.any():
        codes = np.where((codes >= 0) & blank[codes], -1, codes)
    return Codes(codes, values)


def to_bool_array(column: Any) -> BoolArray:
    """Null is false."""
    found: BoolArray = column.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _n_values(dataset: ds.Dataset) -> int:
    """Values in the longest column, by the files' footers; list columns count their elements."""
    total = 0
    for path in dataset.files:
        footer = pq.read_metadata(path)
        for group in (footer.row_group(i) for i in range(footer.num_row_groups)):
            total += max(group.column(i).num_values for i in range(group.num_columns))
    return total


def _sample_orders(
    dataset: ds.Dataset, columns: list[str], share: float
) -> Iterator[pa.RecordBatch]:
    from pandas.util import hash_array  # the one vectorised hash here that no run seeds anew

    for batch in dataset.to_batches(columns=columns):
        order = encode(pa.chunked_array([batch["order_id"]]))
        used = np.flatnonzero(order.counts)
        texts = order.values.take(pa.array(used)).to_numpy(zero_copy_only=False)
        kept = np.zeros(len(order.values) + 1, bool)  # the last one answers for code -1
        kept[used] = hash_array(texts, categorize=False) < share * 2.0**64
        yield batch.filter(pa.array(kept[order.codes]))
