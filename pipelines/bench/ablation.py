"""fbt's own model in `fbt bench quality`, as a whole and by part."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.baskets.weighting import BasketWeighting
from components.bundle.build import build_bundle
from components.embeddings.item2vec import TrainSettings
from components.embeddings.model import count_cooccurrence
from components.embeddings.model import train_vectors as train_item2vec
from components.evaluation.baselines import Ranker
from components.model.bundle import Bundle, read_bundle
from components.model.kind_limits import NO_LIMITS
from components.model.manifest import CartWeights
from components.model.recommender import Recommender
from components.neighbours.model import train_neighbours
from components.ranking.model import train_ranking
from components.refit.refit import ModelPaths, refit
from components.results import read_json, write_json
from components.weighting.choose import choose_weighting
from pipelines.bench.peers.rankers import ItemItemMatrix
from pipelines.parameters import TrainingParameters

WHOLE = "fbt"
"""As served; its parts are `fbt: PART`."""

LEARNED_PARTS = ("co-occurrence", "neighbours", "blend", "re-ranker")
"""All but item2vec."""

DERIVED_PARTS = ("search", "substitutes", "variants", "pages")
"""Without learning."""

BUNDLE_FOLDER = "bundle"
REFIT_FOLDERS = ("sorted_vectors", "pairs", "near", "pages")


@dataclass(frozen=True)
class Inputs:
    """Results of the first steps of a run, and a folder."""

    baskets: Path
    products: Path
    basket_counts: Path
    folder: Path
    min_product_orders: int
    seed: int
    popularity_discount: float = TrainingParameters.model_fields["popularity_discount"].default


@dataclass(frozen=True)
class Part:
    ranker: Ranker
    train_cpu_s: float
    n_bytes: int


@dataclass(frozen=True)
class Ablation:
    parts: Mapping[str, Part]
    ann_recall: float
    """1 if the search is exact."""


def train_vectors(inputs: Inputs) -> dict[str, float]:
    """CPU seconds of the basket weighting, and of item2vec."""
    start = time.process_time()
    weighting, _ = choose_weighting(
        inputs.baskets, inputs.min_product_orders, inputs.seed, inputs.popularity_discount
    )
    write_json(weighting.model_dump(), inputs.folder / "weighting.json")
    tried = time.process_time()
    settings = TrainSettings(seed=inputs.seed)
    train_item2vec(
        inputs.baskets, settings, inputs.min_product_orders, inputs.folder / "vectors",
        inputs.popularity_discount,
    )  # fmt: skip
    return {"weighting": tried - start, "vectors": time.process_time() - tried}


def train_rest(inputs: Inputs) -> dict[str, float]:
    """CPU seconds of all but the vectors; counts and neighbours are fitted twice, as in a run."""
    start = time.process_time()
    folder, weighting = inputs.folder, _read_weighting(inputs)
    count_cooccurrence(inputs.baskets, folder / "vectors", folder / "cooccurrence", weighting)
    counted = time.process_time()
    steps = folder / "vectors", folder / "cooccurrence", folder / "neighbours"
    neighbours = train_neighbours(inputs.baskets, folder / "vectors", folder / "neighbours")
    ranking = train_ranking(
        inputs.baskets, *steps, inputs.products, folder / "ranking", inputs.seed, weighting,
        popularity_discount=inputs.popularity_discount,
    )["cpu_s"]  # fmt: skip
    again = refit(
        inputs.baskets, folder / "vectors", folder / "ranking", inputs.products,
        _refit_model(inputs), inputs.seed, weighting,
    )  # fmt: skip
    blend = ranking["facts"] + ranking["questions"] + ranking["blend"] + again["facts"]
    return {
        "co-occurrence": counted - start + again["co-occurrence"],
        "neighbours": neighbours["cpu_s"] + again["neighbours"],
        "blend": blend,
        "re-ranker": ranking["forests"],
        **{step: ranking.get(step, 0.0) + again.get(step, 0.0) for step in DERIVED_PARTS},
    }


def build_ablation(
    inputs: Inputs, vectors_cpu_s: float, rest_cpu_s: Mapping[str, float]
) -> Ablation:
    folder, target, newest = inputs.folder, inputs.folder / BUNDLE_FOLDER, _refit_model(inputs)
    build_bundle(
        newest.vectors, newest.cooccurrence, newest.neighbours, newest.ranking, inputs.products,
        inputs.basket_counts, {"config": {}}, inputs.seed, target,
    )  # fmt: skip
    bundle = read_bundle(target)
    # Limits are applied to all methods alike, see `pipelines.bench.quality`.
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update=NO_LIMITS._asdict()))
    of_rest = {name: rest_cpu_s[name] for name in LEARNED_PARTS}
    everything = vectors_cpu_s + sum(rest_cpu_s.values())
    sizes = {name: (target / name).stat().st_size for name in bundle.manifest.files}

    def size(*prefixes: str) -> int:
        return sum(one for name, one in sizes.items() if name.startswith(prefixes))

    undiscounted = bundle.manifest.model_copy(update={"popularity_discount": 0.0})
    unranked = replace(bundle, manifest=undiscounted, precomputed=None, reranker=None)
    betas = read_json(folder / "vectors" / "betas.json")
    blend_cpu_s = everything - of_rest["re-ranker"] - rest_cpu_s["pages"]
    whole = Part(Recommender(bundle), everything, sum(sizes.values()))
    parts = {
        WHOLE: whole,
        f"{WHOLE}: re-ranked": whole,
        f"{WHOLE}: blend": Part(
            Recommender(unranked),
            blend_cpu_s,
            sum(sizes.values()) - size("precomputed_", "reranker_"),
        ),
        f"{WHOLE}: vectors": Part(
            _vectors_ranker(unranked, betas), vectors_cpu_s, size("in_vectors", "out_vectors")
        ),
        f"{WHOLE}: co-occurrence": Part(
            _cooccurrence_ranker(bundle), of_rest["co-occurrence"], size("pairs_")
        ),
        f"{WHOLE}: neighbours": Part(
            _neighbours_ranker(bundle), of_rest["neighbours"], size("neighbours_")
        ),
    }
    recall = bundle.manifest.search_recall
    return Ablation(parts, 1.0 if recall is None else recall)


def _refit_model(inputs: Inputs) -> ModelPaths:
    return ModelPaths(*(inputs.folder / name for name in REFIT_FOLDERS))


def _read_weighting(inputs: Inputs) -> BasketWeighting:
    return BasketWeighting(**read_json(inputs.folder / "weighting.json"))


def _vectors_ranker(bundle: Bundle, betas: Mapping[str, float]) -> Ranker:
    alone = {
        "beta_single": betas["beta_single"],
        "page_cooccurrence": 0.0,
        "page_trend": 0.0,
        "cart_weights": CartWeights(),
    }
    return Recommender(replace(bundle, manifest=bundle.manifest.model_copy(update=alone)))


def _cooccurrence_ranker(bundle: Bundle) -> Ranker:
    scores = _matrix(bundle, bundle.pairs.probability, bundle.pairs.rows, bundle.pairs.offsets)
    return ItemItemMatrix(scores).ranker({"fuse": "sum"})


def _neighbours_ranker(bundle: Bundle) -> Ranker:
    ours = bundle.neighbours
    scales = np.repeat(ours.scales, np.diff(ours.offsets))
    scores = _matrix(bundle, ours.weights * scales, ours.rows, ours.offsets)
    return ItemItemMatrix(scores).ranker({"fuse": "sum"})


def _matrix(bundle: Bundle, data: Any, rows: Any, offsets: Any) -> Any:
    from scipy.sparse import csr_array

    n_items = bundle.manifest.n_items
    return csr_array((data, rows, offsets), shape=(n_items, n_items))
