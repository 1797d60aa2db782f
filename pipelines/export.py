"""`fbt export`: writes the recommendations for every product to a file.

Rules and catalogue changes are read once, the same for every product.
"""

import functools
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bento.answering.awkward_settings import DEFAULT_SETTINGS, AwkwardSettings
from bento.answering.rules import RuleSet
from bento.answering.selection import Selection
from bento.schemas.catalogue import ChangedProduct
from bento.schemas.requests import RecommendRequest
from bento.schemas.rules import Rule
from components.contracts import COMPANIONS
from components.model.atomic import atomic_write
from components.model.bundle import read_bundle
from components.model.kind_limits import NO_LIMITS, KindLimits
from components.progress import log_progress
from components.registry import signing
from components.registry.registry import get_version
from components.spark import (
    Mapper,
    map_in_process,
    spark_mapper,
    spark_session,
    split_into_ranges,
)
from pipelines.home import Home
from pipelines.serving_check import MAX_K, build_selection

PART_SIZE = 2_000
"""Products per row group, 20 MB with k = 20."""


@dataclass(frozen=True)
class Export:
    bundle: Path
    """A directory that all processes see."""
    k: int = 20
    changes: Sequence[ChangedProduct] = field(default=(), compare=False, repr=False)
    rules: Sequence[Rule] = field(default=(), compare=False, repr=False)
    limits: KindLimits = NO_LIMITS
    """As settings are: None is as trained."""
    awkward: AwkwardSettings = DEFAULT_SETTINGS
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Distinguishes exports in a cache."""

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MAX_K:
            raise ValueError(f"export: k is {self.k}, expected 1 to {MAX_K}")


@contextmanager
def fetch_bundle(home: Home, version: str) -> Iterator[Path]:
    """A local copy for the duration of the block."""
    found = get_version(version).version
    folder = home.root / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    # Below FBT_HOME, which Spark's executors see, too.
    with tempfile.TemporaryDirectory(prefix="export-", dir=folder) as scratch:
        bundle = Path(scratch) / "bundle"
        signing.fetch_bundle(found, bundle)
        yield bundle


def export_bundle(bundle: Path, target: Path, k: int, rules: str | None, spark: bool) -> int:
    """`rules` is a database's URL, `off`, or None for that of the environment.

    FBT_MAX_OWN_KIND, FBT_MAX_SAME_KIND and FBT_SENSITIVE_PAIRS of the environment count, too.
    """
    from bento.settings import read_settings

    settings = read_settings()
    url = os.environ.get("FBT_DATABASE_URL") if rules is None else rules
    job = prepare_export(bundle.resolve(), k, None if url == "off" else url)
    limits = KindLimits(settings.max_own_kind, settings.max_same_kind)
    job = replace(job, limits=limits, awkward=AwkwardSettings(settings.sensitive_pairs))
    if not spark:
        return export(job, target)
    with spark_session("export") as session:
        return export_in_parallel(spark_mapper(session), job, target)


def prepare_export(bundle: Path, k: int, database_url: str | None = None) -> Export:
    """Raises BundleError, StoreUnavailable, ValueError."""
    read_bundle(bundle)  # verifies the hashes
    if not database_url:
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


def export(job: Export, target: Path, part: int = PART_SIZE) -> int:
    """Write COMPANIONS atomically; the number of rows."""
    return _write_table(map_in_process(_recommend, job, _list_parts(job, part)), job, target, part)


def export_in_parallel(mapper: Mapper, job: Export, target: Path, part: int = PART_SIZE) -> int:
    """By processes that write to the folder of `target`."""
    folder = target.parent.resolve() / f".{target.name}.{uuid.uuid4().hex[:8]}.parts"
    folder.mkdir(parents=True)
    try:
        files = mapper(_write_part, (job, folder), _list_parts(job, part))
        return _write_table(map(pq.read_table, files), job, target, part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _list_parts(job: Export, part: int) -> list[range]:
    return split_into_ranges(len(load_selection(job).catalogue), part)


def _write_part(shared: tuple[Export, Path], part: range) -> Path:
    job, folder = shared
    path = folder / f"{part.start}.parquet"
    with atomic_write(path) as aside:
        pq.write_table(_recommend(job, part), aside)
    return path


def _recommend(job: Export, part: range) -> pa.Table:
    """COMPANIONS of some catalogue rows."""
    selection = load_selection(job)
    deleted = selection.catalogue.deleted
    rows = [
        values
        for row in part
        if deleted is None or not deleted[row]
        for values in _rank(selection, selection.catalogue.card(row)["product_id"], job.k)
    ]
    columns = zip(*rows, strict=True) if rows else [()] * len(COMPANIONS)
    return pa.table(
        dict(zip(COMPANIONS.names, columns, strict=True)), schema=pa.schema(list(COMPANIONS))
    )


def _rank(selection: Selection, product_id: str, k: int) -> Iterator[tuple[Any, ...]]:
    answer = selection.recommend(RecommendRequest(items=[product_id], k=k, explain=True))
    for rank, one in enumerate(answer.shown, 1):
        companion = answer.catalogue.card(one.row)["product_id"]
        score = one.score if one.score is not None and math.isfinite(one.score) else None
        why = one.why
        evidence = (why.support, why.lift, why.confidence) if why else (None, None, None)
        yield product_id, rank, companion, score, one.source, *evidence


@functools.lru_cache(maxsize=1)
def load_selection(job: Export) -> Selection:
    """One per process."""
    selection = build_selection(read_bundle(job.bundle, verify=False))
    if job.changes:
        selection.catalogue = selection.catalogue.with_changes(job.changes)
    selection.rules, selection.awkward = RuleSet(job.rules), job.awkward
    selection.limits = selection.limits.override(*job.limits)
    return selection


def _write_table(tables: Iterable[pa.Table], job: Export, target: Path, part: int) -> int:
    """A row group per part, so that at most one part is in memory."""
    n_products, n_rows = len(load_selection(job).catalogue), 0
    schema = pa.schema(list(COMPANIONS))
    with atomic_write(target) as aside, pq.ParquetWriter(aside, schema) as writer:
        for number, table in enumerate(tables, 1):
            writer.write_table(table.cast(schema))
            n_rows += table.num_rows
            log_progress(f"{min(number * part, n_products):,} of {n_products:,} products")
    return n_rows
