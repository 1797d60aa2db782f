"""Maps of opened versions: the best layout there is, and better ones in the background."""

import gzip
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bento.workbench.mapping.categories import Categories, find_centres, read_categories
from bento.workbench.mapping.jobs import TsneJobs
from bento.workbench.mapping.plane import (
    MAX_POINTS,
    MIN_POINTS_TSNE,
    has_spread,
    normalize_rows,
    project_pca,
    to_whole_numbers,
)
from bento.workbench.versions import LoadedVersion
from components.model.arrays import UInt16Array
from components.model.bundle import Bundle

Layout = Literal["pca", "tsne"]

NICENESS = 10
"""Of the process that computes t-SNE: people's requests come first."""

MAX_KEPT = 4
"""Maps in memory; one of 100,000 products takes 2 MB."""


class MapState(NamedTuple):
    layout: Layout
    share: float | None
    """Of t-SNE that is done; None if it is not being computed."""
    failure: str | None


@dataclass(frozen=True)
class ProductMap:
    """Of the `len(positions)` most bought products, by row."""

    layout: Layout
    positions: UInt16Array
    categories: Categories

    @cached_property
    def encoded(self) -> bytes:
        """For the browser: all x, all y, all category codes, as little-endian uint16, by gzip."""
        columns = np.concatenate([*self.positions.T, self.categories.codes]).astype("<u2")
        return gzip.compress(columns.tobytes(), 5, mtime=0)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.encoded).hexdigest()[:16]

    @cached_property
    def category_list(self) -> list[dict[str, Any]]:
        """Largest first."""
        found = self.categories
        centres = np.rint(find_centres(self.positions, found)).astype(int).tolist()
        columns = zip(found.names, found.counts, centres, strict=True)
        return [{"name": name, "n": n, "x": x, "y": y} for name, n, (x, y) in columns]


class Maps:
    """Thread-safe; its methods block."""

    def __init__(self, folder: Path, niceness: int = NICENESS) -> None:
        self._jobs = TsneJobs(folder, niceness)
        self._kept: OrderedDict[tuple[str, Layout], ProductMap] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, loaded: LoadedVersion) -> ProductMap:
        with self._lock:
            found = self._kept.get((loaded.version, "tsne"))
            if found is None:
                found = self._find(loaded)
                self._kept[loaded.version, found.layout] = found
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end((loaded.version, found.layout))
            return found

    def get_state(self, loaded: LoadedVersion) -> MapState:
        layout = self.get(loaded).layout
        job = self._jobs.get_job(key_of(loaded.bundle))
        if job is None or layout == "tsne":
            return MapState(layout, None, None)
        return MapState(layout, None if job.failure else job.share, job.failure)

    def stop(self) -> None:
        self._jobs.stop()

    def _find(self, loaded: LoadedVersion) -> ProductMap:
        bundle, quick = loaded.bundle, self._kept.get((loaded.version, "pca"))
        key, vectors = key_of(bundle), bundle.in_vectors[:MAX_POINTS]
        positions = self._jobs.read_result(key)
        if positions is None and quick is not None:
            return quick
        categories = (
            read_categories(bundle.records, len(vectors)) if quick is None else quick.categories
        )
        if positions is not None and len(positions) == len(vectors):
            return ProductMap("tsne", positions, categories)
        unit_vectors = normalize_rows(vectors)
        if len(vectors) >= MIN_POINTS_TSNE and has_spread(unit_vectors):
            self._jobs.start(key, vectors)
        return ProductMap("pca", to_whole_numbers(project_pca(unit_vectors)), categories)


def key_of(bundle: Bundle) -> str:
    """Of the bundle's IN vectors, by their hash."""
    return bundle.manifest.files["in_vectors.npy"][:32]
