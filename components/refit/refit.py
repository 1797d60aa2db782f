"""Refits all counts on training and validation baskets, once everything is tuned.

Blend, re-rankers and variants stay. Item pages gain 5 % on Online Retail, 3 % on demo data; carts
5 %. Vectors stay: training them again adds 0.2 % for most of a run's time.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from components.baskets.corpus import REFIT_SPLITS, read_baskets, sort_catalogue
from components.baskets.weighting import BasketWeighting
from components.embeddings.item2vec import Vectors
from components.embeddings.model import (
    count_cooccurrence,
    read_product_ids,
    read_vectors,
    write_vectors,
)
from components.model.arrays import Int32Array
from components.model.atomic import atomic_write
from components.model.bundle import Bundle
from components.model.manifest import Blend
from components.model.recommender import Recommender
from components.model.variants import Variants, build_variants
from components.neighbours.model import train_neighbours
from components.ranking.model import StepTimer
from components.ranking.precompute import PRECOMPUTED_DEPTH, load_item_reranker, precompute_items
from components.ranking.prepare import prepare_bundle
from components.ranking.search_method import choose_search_method
from components.ranking.seasons import find_seasons
from components.refit.index_substitutes import index_substitutes
from components.results import read_json, write_json


@dataclass(frozen=True)
class ModelPaths:
    """The directories a bundle is built from."""

    vectors: Path
    cooccurrence: Path
    neighbours: Path
    ranking: Path


def refit(
    baskets_path: str | Path, vectors: Path, ranking: Path, products: Path, target: ModelPaths,
    seed: int, weighting: BasketWeighting | None = None,
) -> dict[str, float]:  # fmt: skip
    """Write the directories of `target`; returns CPU seconds by part.

    The target's ranking adds item features, precomputed items, an index of IN vectors, and one of
    item pages where that is faster.
    """
    timer, weighting = StepTimer(), weighting or BasketWeighting()
    new_rows = _sort_catalogue(baskets_path, vectors, target.vectors)
    count_cooccurrence(baskets_path, target.vectors, target.cooccurrence, weighting, REFIT_SPLITS)
    timer("co-occurrence")
    train_neighbours(baskets_path, target.vectors, target.neighbours, splits=REFIT_SPLITS)
    timer("neighbours")
    bundle = prepare_bundle(
        baskets_path, target.vectors, target.cooccurrence, target.neighbours, products, weighting,
        Blend(**read_json(ranking / "blend.json")), REFIT_SPLITS,
    )  # fmt: skip
    variants = _reindex_variants(Variants.load(ranking), new_rows)
    bundle = replace(bundle, variants=variants)
    timer("facts")
    with atomic_write(target.ranking) as aside:
        shutil.copytree(ranking, aside)
        variants.save(aside)
        if seasons := find_seasons(baskets_path, read_product_ids(target.vectors)):
            seasons.save(aside)
        _write_ranking(bundle, aside, seed, timer)
    return timer.seconds


def _write_ranking(bundle: Bundle, folder: Path, seed: int, timer: StepTimer) -> None:
    bundle = choose_search_method(bundle, PRECOMPUTED_DEPTH, folder, seed)
    timer("search")
    bundle = index_substitutes(bundle, folder, seed)
    timer("substitutes")
    precomputed = precompute_items(Recommender(bundle), load_item_reranker(folder))
    bundle.item_features.save(folder)
    assert bundle.chance is not None
    bundle.chance.save(folder)
    precomputed.save(folder)
    fields = {"among_companions", "index", "search", "substitutes"}
    write_json(bundle.manifest.model_dump(include=fields), folder / "search.json")
    write_json({"n_orders": bundle.manifest.n_orders}, folder / "counted.json")
    timer("pages")


def _sort_catalogue(baskets_path: str | Path, vectors: Path, target: Path) -> Int32Array:
    """Write `vectors` sorted by the new order counts; returns the new row of each old one."""
    before = read_product_ids(vectors)
    ids, n_orders = sort_catalogue(read_baskets(baskets_path), before, *REFIT_SPLITS)
    old_rows = pc.index_in(ids, value_set=before).to_numpy()
    trained = read_vectors(vectors)
    resorted = Vectors(trained.in_vectors[old_rows], trained.out_vectors[old_rows])
    write_vectors(resorted, ids, n_orders, read_json(vectors / "betas.json"), target)
    new_rows: Int32Array = pc.index_in(before, value_set=ids).to_numpy()
    return new_rows


def _reindex_variants(variants: Variants, new_rows: Int32Array) -> Variants:
    old_rows = np.repeat(np.arange(len(new_rows)), np.diff(variants.offsets))
    return build_variants(new_rows[old_rows], new_rows[variants.rows], len(new_rows))
