"""The recommendations for every product as one table, for shops that look them up there.

Rules and catalogue changes are read once, the same for every product.
"""

import functools
import math
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bento.answering.catalogue import Catalogue
from bento.answering.catalogue_changes import ChangedProduct
from bento.answering.rules import Rule, RuleSet
from bento.answering.selection import Selection
from bento.schemas import RecommendRequest
from components.contracts import COMPANIONS
from components.model.atomic import atomic_write
from components.model.bundle import read_bundle
from components.model.recommender import Recommender
from components.progress import log_progress
from components.spark import Mapper, map_in_process, split_into_ranges

PART_SIZE = 2_000
"""Products per row group: 20 MB of rows with k = 20."""

MAX_K = 100
"""As of the service."""


@dataclass(frozen=True)
class Export:
    """Sent to every process that takes part."""

    bundle: Path
    """A directory that all processes see."""
    k: int = 20
    changes: Sequence[ChangedProduct] = field(default=(), compare=False, repr=False)
    rules: Sequence[Rule] = field(default=(), compare=False, repr=False)
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Distinguishes exports in the cache of `load_selection`."""

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not 1 <= self.k <= MAX_K:
            raise ValueError(f"export: k is {self.k}, expected 1 to {MAX_K}")


def prepare_export(bundle: Path, k: int, database_url: str | None = None) -> Export:
    """Read rules and catalogue changes from the database, if one is given.

    Raises BundleError, StoreUnavailable, ValueError.
    """
    read_bundle(bundle)  # verifies the hashes
    if database_url is None:
        return Export(bundle, k)
    from bento.store.store import Store

    store, since, more = Store(database_url), None, True
    changed: dict[str, ChangedProduct] = {}
    rules: Sequence[Rule] = ()
    try:
        while more:
            new = store.read_delta(since)
            since, more = new.revision, new.more
            changed |= {one.product_id: one for one in new.products}
            rules = rules if new.rules is None else new.rules
    finally:
        store.close()
    return Export(bundle, k, tuple(changed.values()), tuple(rules))


def export(wanted: Export, target: Path, part: int = PART_SIZE) -> int:
    """Write the table COMPANIONS to the file `target`, atomically; the number of rows."""
    tables = map_in_process(companions, wanted, _split_catalogue(wanted, part))
    return _write_table(tables, wanted, target, part)


def export_in_parallel(mapped: Mapper, wanted: Export, target: Path, part: int = PART_SIZE) -> int:
    """As `export`, by other processes, which write their parts to the folder of `target`."""
    with _folder_beside(target) as folder:
        files = mapped(write_part, (wanted, folder), _split_catalogue(wanted, part))
        return _write_table(map(pq.read_table, files), wanted, target, part)


def companions(wanted: Export, part: range) -> pa.Table:
    """The table COMPANIONS of some catalogue rows, without deleted products."""
    selection = load_selection(wanted)
    deleted, found = selection.catalogue.deleted, _Columns()
    for row in part:
        if deleted is None or not deleted[row]:
            found.add(selection, selection.catalogue.card(row)["product_id"], wanted.k)
    return pa.table(found.columns, schema=pa.schema(list(COMPANIONS)))


def write_part(shared: tuple[Export, Path], part: range) -> Path:
    """Write a part of the table to a folder that all processes see."""
    wanted, folder = shared
    path = folder / f"{part.start}.parquet"
    with atomic_write(path) as aside:
        pq.write_table(companions(wanted, part), aside)
    return path


@functools.lru_cache(maxsize=1)
def load_selection(wanted: Export) -> Selection:
    """One per process; the bundle's arrays are memory-mapped."""
    bundle = read_bundle(wanted.bundle, verify=False)
    assert bundle.records is not None
    assert bundle.facets is not None
    catalogue = Catalogue(bundle.records, bundle.facets)
    if wanted.changes:
        catalogue = catalogue.with_changes(wanted.changes)
    selection = Selection(Recommender(bundle), catalogue)
    selection.rules = RuleSet(wanted.rules)
    return selection


class _Columns:
    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in COMPANIONS.names}

    def add(self, selection: Selection, product_id: str, k: int) -> None:
        answer = selection.recommend(RecommendRequest(items=[product_id], k=k, explain=True))
        for rank, one in enumerate(answer.shown, 1):
            score, why = one.score, one.why
            evidence = (why.support, why.lift, why.confidence) if why else (None, None, None)
            companion = answer.catalogue.card(one.row)["product_id"]
            known = score if score is not None and math.isfinite(score) else None
            values = (product_id, rank, companion, known, one.source, *evidence)
            for column, value in zip(self.columns.values(), values, strict=True):
                column.append(value)


def _split_catalogue(wanted: Export, part: int) -> list[range]:
    return split_into_ranges(len(load_selection(wanted).catalogue), part)


def _write_table(tables: Iterable[pa.Table], wanted: Export, target: Path, part: int) -> int:
    """Write a row group per part, so that at most one part is in memory."""
    n_products, n_rows = len(load_selection(wanted).catalogue), 0
    schema = pa.schema(list(COMPANIONS))
    with atomic_write(target) as aside, pq.ParquetWriter(aside, schema) as writer:
        for number, table in enumerate(tables, 1):
            writer.write_table(table.cast(schema))
            n_rows += table.num_rows
            log_progress(f"{min(number * part, n_products):,} of {n_products:,} products")
    return n_rows


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    folder = target.parent.resolve() / f".{target.name}.{uuid.uuid4().hex[:8]}.parts"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
