"""How far the lists of two versions differ over the products that shoppers see most."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bento.answering.selection import Selection
from bento.schemas.requests import RecommendRequest
from bento.workbench.comparing.products import (
    MISSING,
    SharedProducts,
    find_rows,
    find_shared,
    list_hashes,
)
from bento.workbench.versions import LoadedVersion
from components.model.arrays import BoolArray, Float64Array, Int64Array, UInt64Array
from components.model.hashing import hash_text
from components.model.recommender import Recommender

K = 10
SLICE = 64
"""Products at once: a few milliseconds, after which other requests get their turn."""
PAUSE_S = 0.002

N_CHANGED = 50
MAX_CATEGORIES = 200

Report = Callable[[int, int], None]
"""Takes the number of products done and of all."""

Rank = Callable[[Int64Array], UInt64Array]
"""Hashes (n, K) of the ids recommended beside the products of these rows, MISSING for none."""


@dataclass(frozen=True)
class ChangedList:
    product_id: str
    name: str | None
    category: str | None
    n_shared: int
    """Of the K products of both lists."""
    weight: float
    first_a: str
    """Names of the products that are in one list only, best first."""
    first_b: str


@dataclass(frozen=True)
class CategoryOverlap:
    category: str
    n_products: int
    overlap: float
    changed: float
    """Share of the lists that are not the same ten."""
    weight: float
    """Share of all weight."""


@dataclass(frozen=True)
class Overlap:
    """Over `n` products; shares are of them, unless they are weighted."""

    n: int
    n_known_a: int
    n_known_b: int
    n_shared: int
    overlap: float
    weighted_overlap: float
    histogram: tuple[int, ...]
    """Products by the number of shared recommendations, 0 to K."""
    identical: float
    """The same products in the same order."""
    same_first: float
    by_views: bool
    changed: tuple[ChangedList, ...]
    categories: tuple[CategoryOverlap, ...]


def compare_versions(
    a: LoadedVersion, b: LoadedVersion, n: int, as_served: bool, report: Report,
    views: Mapping[str, int] | None = None,
) -> Overlap:  # fmt: skip
    """`as_served` asks for each answer with rules, stock and prices; else it is the models'."""
    shared = find_shared(a, b, n, views)
    rank_a, rank_b = (
        serve(one.selection) if as_served else rank_by_model(one.selection.recommender)
        for one in (a, b)
    )
    nothing = np.empty((0, K), np.uint64)
    lists = [(nothing, nothing)]
    n_found = len(shared.rows_a)
    for start in range(0, n_found, SLICE):
        block = slice(start, start + SLICE)
        lists.append((rank_a(shared.rows_a[block]), rank_b(shared.rows_b[block])))
        report(min(block.stop, n_found), n_found)
        time.sleep(PAUSE_S)
    of_a, of_b = (np.concatenate(some) for some in zip(*lists, strict=True))
    return _summarize(a, b, shared, of_a, of_b, views is not None)


def rank_by_model(recommender: Recommender) -> Rank:
    hashes = list_hashes(recommender.bundle)

    def rank(rows: Int64Array) -> UInt64Array:
        found, _ = recommender.rank(list(rows[:, None].astype(np.int32)), K)
        return np.where(found >= 0, hashes[found], MISSING)

    return rank


def serve(selection: Selection) -> Rank:
    def rank(rows: Int64Array) -> UInt64Array:
        found = np.full((len(rows), K), MISSING)
        for own, row in zip(found, rows.tolist(), strict=True):
            request = RecommendRequest(items=[selection.catalogue.product_id(row)], k=K)
            ids = selection.recommend(request).list_product_ids()
            own[: len(ids)] = [hash_text(product_id) for product_id in ids]
        return found

    return rank


def find_common(own: UInt64Array, other: UInt64Array) -> BoolArray:
    """Which of `own` (n, k) are in the same row of `other`."""
    common: BoolArray = (own[:, :, None] == other[:, None, :]).any(axis=2) & (own != MISSING)
    return common


def measure_overlap(of_a: UInt64Array, of_b: UInt64Array) -> Float64Array:
    """Shared products over the length of the longer list (n,); 1 where both are empty."""
    longer = np.maximum((of_a != MISSING).sum(axis=1), (of_b != MISSING).sum(axis=1))
    n_common = find_common(of_a, of_b).sum(axis=1)
    return np.where(longer, n_common / np.maximum(longer, 1), 1.0)


def _summarize(
    a: LoadedVersion, b: LoadedVersion, shared: SharedProducts,
    of_a: UInt64Array, of_b: UInt64Array, by_views: bool,
) -> Overlap:  # fmt: skip
    overlap, weights = measure_overlap(of_a, of_b), shared.weights
    is_identical = (of_a == of_b).all(axis=1)
    return Overlap(
        n=len(overlap),
        n_known_a=shared.n_known_a,
        n_known_b=shared.n_known_b,
        n_shared=shared.n_shared,
        overlap=_mean(overlap),
        weighted_overlap=_mean(overlap, weights),
        histogram=tuple(np.bincount(np.rint(K * overlap).astype(int), minlength=K + 1).tolist()),
        identical=_mean(is_identical),
        same_first=_mean(of_a[:, 0] == of_b[:, 0]),
        by_views=by_views,
        changed=tuple(_list_changed(a, b, shared, of_a, of_b, overlap)),
        categories=tuple(_list_categories(a, shared, overlap)),
    )


def _list_changed(
    a: LoadedVersion, b: LoadedVersion, shared: SharedProducts,
    of_a: UInt64Array, of_b: UInt64Array, overlap: Float64Array,
) -> list[ChangedList]:  # fmt: skip
    change = (1 - overlap) * shared.weights
    best = np.argsort(-change, kind="stable")[:N_CHANGED]
    found = []
    for place in best[change[best] > 0].tolist():
        card = a.selection.catalogue.card(int(shared.rows_a[place]))
        own, other = of_a[place : place + 1], of_b[place : place + 1]
        found.append(
            ChangedList(
                card["product_id"], card.get("name"), card.get("category"),
                round(K * float(overlap[place])), float(shared.weights[place]),
                _name_first(a, own[~find_common(own, other) & (own != MISSING)]),
                _name_first(b, other[~find_common(other, own) & (other != MISSING)]),
            )
        )  # fmt: skip
    return found


def _name_first(version: LoadedVersion, hashes: UInt64Array) -> str:
    rows = find_rows(version.bundle, hashes[:1])
    if not len(rows) or rows[0] < 0:
        return ""
    card = version.selection.catalogue.card(int(rows[0]))
    return str(card.get("name") or card["product_id"])


def _list_categories(
    a: LoadedVersion, shared: SharedProducts, overlap: Float64Array
) -> list[CategoryOverlap]:
    """The heaviest first; products without a category are one of their own."""
    codes = a.bundle.item_features.category_codes[shared.rows_a]
    kinds, first, place = np.unique(codes, return_index=True, return_inverse=True)
    counts = np.bincount(place)
    weights = np.bincount(place, shared.weights) / max(shared.weights.sum(), 1e-9)
    means = np.bincount(place, overlap) / counts
    changed = np.bincount(place, overlap < 1) / counts
    found = []
    for kind in np.argsort(-weights, kind="stable")[:MAX_CATEGORIES].tolist():
        card = a.bundle.records.card(int(shared.rows_a[first[kind]])) if kinds[kind] else {}
        found.append(
            CategoryOverlap(
                card.get("category") or "", int(counts[kind]), float(means[kind]),
                float(changed[kind]), float(weights[kind]),
            )
        )  # fmt: skip
    return found


def _mean(values: Float64Array | BoolArray, weights: Float64Array | None = None) -> float:
    if not len(values) or (weights is not None and not weights.sum()):
        return float("nan")
    return float(np.average(values, weights=weights))
