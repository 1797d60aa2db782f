"""Once all is tuned, the newest baskets are learned from too: those that it was tuned by.

A shop wants what it sold last month in its model. What was chosen with the training baskets' counts
(the blend, re-rankers, variants) stays; what is counted is counted again, over training and
validation baskets. On Online Retail pages gain 5 %, on the demo data pages 3 % and carts 5 %. Test
baskets stay unseen. Vectors stay as well: training them anew added 0.2 % for most of the time a run
takes.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.baskets.corpus import REFIT_SPLITS, read_baskets, sort_catalogue
from components.baskets.weighting import BasketWeighting
from components.embeddings.item2vec import Vectors
from components.embeddings.model import count_cooccurrence, write_vectors
from components.model.arrays import Int32Array
from components.model.atomic import atomic_write
from components.model.bundle import Blend, load_group, save_group
from components.model.recommender import Recommender
from components.model.variants import Variants, build_variants
from components.neighbours.model import train_neighbours
from components.ranking.model import StepTimer
from components.ranking.precompute import PRECOMPUTED_DEPTH, load_item_reranker, precompute_items
from components.ranking.prepare import prepare_bundle
from components.ranking.search_method import choose_search_method
from components.results import read_json, write_json


@dataclass(frozen=True)
class Model:
    """The directories a bundle is built from."""

    vectors: Path
    cooccurrence: Path
    neighbours: Path
    ranking: Path


def refit(
    baskets_path: str | Path, vectors: Path, ranking: Path, products: Path, target: Model,
    seed: int, tricks: BasketWeighting | None = None,
) -> dict[str, float]:  # fmt: skip
    """Write the directories of `target`, and return the CPU seconds of every part.

    `vectors` are those of `train_model`, `ranking` is of `train_ranking`; the target's ranking
    holds what that chose, and facts, every product's page, and where it is faster an index.
    """
    timer, tricks = StepTimer(), tricks or BasketWeighting()
    row_of = _sort_catalogue(baskets_path, vectors, target.vectors)
    count_cooccurrence(baskets_path, target.vectors, target.cooccurrence, tricks, REFIT_SPLITS)
    timer("co-occurrence")
    train_neighbours(baskets_path, target.vectors, target.neighbours, splits=REFIT_SPLITS)
    timer("neighbours")
    bundle = prepare_bundle(
        baskets_path, target.vectors, target.cooccurrence, target.neighbours, products, tricks,
        Blend(**read_json(ranking / "blend.json")), REFIT_SPLITS,
    )  # fmt: skip
    timer("facts")
    with atomic_write(target.ranking) as aside:
        shutil.copytree(ranking, aside)
        variants = _reindex_variants(load_group("variants", ranking), row_of)
        bundle = choose_search_method(
            replace(bundle, variants=variants), PRECOMPUTED_DEPTH, aside, seed
        )
        timer("search")
        precomputed = precompute_items(Recommender(bundle), load_item_reranker(ranking))
        for group in (bundle.item_features, variants, precomputed):
            save_group(group, aside)
        timer("pages")
        found = bundle.manifest.model_dump(include={"among_companions", "index", "search"})
        write_json(found, aside / "search.json")
        write_json({"n_orders": bundle.manifest.n_orders}, aside / "counted.json")
    return timer.seconds


def _sort_catalogue(baskets_path: str | Path, vectors: Path, target: Path) -> Int32Array:
    """Write `vectors` in the order of their new numbers of orders; the new row of each old one.

    The catalogue stays: a product needs training baskets to have vectors.
    """
    before = pq.read_table(vectors / "product_ids.parquet")["product_id"].combine_chunks()
    ids, n_orders = sort_catalogue(read_baskets(baskets_path), before, *REFIT_SPLITS)
    rows = pc.index_in(ids, value_set=before).to_numpy()
    trained = (np.load(vectors / f"{name}.npy")[rows] for name in ("in_vectors", "out_vectors"))
    write_vectors(Vectors(*trained), ids, n_orders, read_json(vectors / "betas.json"), target)
    row_of: Int32Array = pc.index_in(before, value_set=ids).to_numpy()
    return row_of


def _reindex_variants(variants: Variants, row_of: Int32Array) -> Variants:
    one = np.repeat(np.arange(len(row_of)), np.diff(variants.offsets))
    return build_variants(row_of[one], row_of[variants.rows], len(row_of))
