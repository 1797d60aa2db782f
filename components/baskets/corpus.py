"""Baskets as arrays of catalogue rows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.contracts import BASKETS, read_table
from components.model.arrays import Float32Array, Int32Array, Int64Array, IntpArray

REFIT_SPLITS = ("train", "validation")
"""The final model is trained on both, once it is tuned on the second."""

CHUNK = 1_000_000
"""Baskets encoded at once: Arrow strings of one array must not exceed 2 GB."""


@dataclass(frozen=True)
class Corpus:
    """`items[offsets[b]:offsets[b + 1]]` are basket b's catalogue rows; `weights` (n_baskets,)."""

    items: Int32Array
    offsets: Int64Array
    weights: Float32Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, basket: int) -> Int32Array:
        return self.items[self.offsets[basket] : self.offsets[basket + 1]]

    @property
    def sizes(self) -> Int64Array:
        return np.diff(self.offsets)

    def take(self, baskets: IntpArray) -> "Corpus":
        sizes = self.sizes[baskets]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        positions = np.arange(offsets[-1]) + np.repeat(self.offsets[baskets] - offsets[:-1], sizes)
        return Corpus(self.items[positions], offsets, self.weights[baskets])

    def with_at_least(self, n_items: int) -> "Corpus":
        return self.take(np.flatnonzero(self.sizes >= n_items))


def read_baskets(path: str | Path) -> pa.Table:
    return read_table(path, BASKETS, ["items", "weight", "split"])


def build_catalogue(baskets: pa.Table, min_orders: int) -> tuple[pa.Array, Int64Array]:
    """Product ids and their training orders, most bought first; raises ValueError."""
    train = baskets.filter(pc.equal(baskets["split"], "train"))
    counts = pc.value_counts(pc.list_flatten(train["items"]))
    table = pa.table({"product_id": counts.field("values"), "n_orders": counts.field("counts")})
    table = table.filter(pc.greater_equal(table["n_orders"], min_orders))
    if not table.num_rows:
        most = pc.max(counts.field("counts")).as_py() or 0
        raise ValueError(
            f"catalogue: no product has min_product_orders={min_orders} training orders (the most "
            f"bought has {most}, {train.num_rows} training baskets); bring more orders or lower it"
        )
    table = table.sort_by([("n_orders", "descending"), ("product_id", "ascending")])
    return table["product_id"].combine_chunks(), table["n_orders"].to_numpy()


def sort_catalogue(
    baskets: pa.Table, product_ids: pa.Array, *splits: str
) -> tuple[pa.Array, Int64Array]:
    """Product ids and their orders in these splits, most bought first; stable."""
    items = encode(baskets, product_ids, *splits).items
    n_orders = np.bincount(items, minlength=len(product_ids))
    order = np.argsort(-n_orders, kind="stable")
    return product_ids.take(pa.array(order)), n_orders[order]


def encode(baskets: pa.Table, product_ids: pa.Array, *splits: str) -> Corpus:
    """Baskets may become empty: products outside the catalogue are dropped."""
    chosen = select_splits(baskets, *splits).select(["items", "weight"])
    items, sizes = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for start in range(0, len(chosen), CHUNK):
        some, n_known = _encode(chosen["items"].slice(start, CHUNK), product_ids)
        items.append(some)
        sizes.append(n_known)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    weights = chosen["weight"].to_numpy().astype(np.float32)
    return Corpus(np.concatenate(items), offsets, weights)


def release_memory() -> None:
    """Arrow keeps the memory of deleted tables: gigabytes for a large shop."""
    pa.default_memory_pool().release_unused()


def select_splits(baskets: pa.Table, *splits: str) -> pa.Table:
    return baskets.filter(pc.is_in(baskets["split"], value_set=pa.array(splits, pa.string())))


def _encode(lists: pa.ChunkedArray, product_ids: pa.Array) -> tuple[Int32Array, Int64Array]:
    """Catalogue rows of all known products, and how many each basket has."""
    rows = pc.index_in(pc.list_flatten(lists), value_set=product_ids)
    known = pc.is_valid(rows).to_numpy()
    n_items = pc.list_value_length(lists).to_numpy()
    basket = np.repeat(np.arange(len(n_items)), n_items)[known]
    return rows.drop_null().to_numpy(), np.bincount(basket, minlength=len(n_items))
