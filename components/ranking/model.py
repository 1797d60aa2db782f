"""Tunes the blend and fits the re-rankers on validation queries."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.baskets.corpus import Corpus, encode, read_baskets, release_memory
from components.baskets.weighting import BasketWeighting
from components.evaluation.tasks import TASKS, Queries, draw_queries
from components.evaluation.variants import choose_variants
from components.model.atomic import atomic_write
from components.model.bundle import Bundle
from components.model.cart_ranking import N_CANDIDATES, blend_cart_scores
from components.model.manifest import Blend, Manifest
from components.model.recommender import Recommender
from components.model.reranking import Calibration
from components.model.variants import Variants
from components.progress import log_progress
from components.ranking.blend import (
    INITIAL_BLEND,
    blend_item_scores,
    measure_cart_parts,
    measure_item_parts,
    tune_cart_blend,
    tune_item_blend,
)
from components.ranking.feedback import PlacedFeedback, read_feedback
from components.ranking.gains import split_folds
from components.ranking.precompute import save_item_reranker
from components.ranking.prepare import prepare_bundle
from components.ranking.queries import LabelledQueries, draw_labelled_queries
from components.ranking.reranker import BLEND_WEIGHT, fit_if_significant, to_tree_ensemble
from components.ranking.search_method import try_companion_search
from components.ranking.variant_exceptions import unknown_ids
from components.results import write_json

NAMES = {"item": "pages", "cart": "carts"}  # Of the tasks, in ranking.json

N_VARIANT_QUERIES = {"item": 3_000, "cart": 3_000}
MAX_NAMED_IDS = 10  # Unknown products of exceptions in the log


def train_ranking(
    baskets_path: str | Path, vectors: Path, cooccurrence: Path, neighbours: Path, products: Path,
    target: Path, seed: int, weighting: BasketWeighting | None = None,
    exceptions: Sequence[tuple[str, str]] = (), popularity_discount: float = 0.0,
    feedback: str | Path = "",
) -> dict[str, Any]:  # fmt: skip
    """Write the directory `target`: blend.json, variants, significant re-rankers, ranking.json.

    Returns the latter: {"pages": RANKED, "carts": RANKED, "variants": [see `choose_variants`],
    "exceptions": {"given": n, "unknown": n of ids}, "cpu_s": {STEP: seconds}}; RANKED is
    {"weights", "parts": {PART: NDCG@10}, "forest": see `fit_if_significant`, "n_questions"}.
    `feedback` is the table FEEDBACK, for the re-ranker of item pages.
    """
    timer, weighting = StepTimer(), weighting or BasketWeighting()
    start = INITIAL_BLEND.model_copy(
        update={
            "cart_recency": weighting.cart_recency,
            "popularity_discount": popularity_discount,
        }
    )
    bundle = prepare_bundle(
        baskets_path, vectors, cooccurrence, neighbours, products, weighting, start
    )
    ids = bundle.product_ids[: bundle.manifest.n_items]
    examples = read_feedback(feedback, baskets_path, ids) if feedback else None
    validation = encode(read_baskets(baskets_path), pa.array(ids, pa.string()), "validation")
    release_memory()
    timer("facts")
    # Without an index: exact ranking of a few thousand queries is faster than building one.
    bundle = try_companion_search(bundle, N_CANDIDATES, seed)
    queries = {
        task: draw_labelled_queries(Recommender(bundle), validation, task, seed) for task in TASKS
    }
    timer("questions")
    blend = tune_item_blend(queries["item"], start, bundle.manifest.beta_cart)
    blend = tune_cart_blend(queries["cart"], blend)
    bundle = _with_blend(bundle, blend)
    timer("blend")
    variants, measurements = choose_variants(
        Recommender(bundle), _draw_variant_queries(validation, seed), seed, exceptions
    )
    timer("variants")
    placed = examples.place(queries["item"]) if examples else None
    models, ranked = _train_rerankers(queries, validation, bundle.manifest, seed, placed)
    blend = blend.model_copy(
        update={
            "page_calibration": Calibration(*ranked["pages"]["forest"]["calibration"]),
            "cart_calibration": Calibration(*ranked["carts"]["forest"]["calibration"]),
        }
    )
    timer("forests")
    ranking = {
        **ranked,
        "variants": measurements,
        "exceptions": _count_exceptions(exceptions, ids),
        "cpu_s": timer.seconds,
    }
    _write_ranking(target, blend, variants, models, ranking)
    return ranking


def _with_blend(bundle: Bundle, blend: Blend) -> Bundle:
    fields = {name: getattr(blend, name) for name in Blend.model_fields}
    return replace(bundle, manifest=bundle.manifest.model_copy(update=fields))


def _draw_variant_queries(validation: Corpus, seed: int) -> dict[str, Queries]:
    return {task: draw_queries(validation, task, n, seed) for task, n in N_VARIANT_QUERIES.items()}


def _train_rerankers(
    queries: dict[str, LabelledQueries], validation: Corpus, manifest: Manifest, seed: int,
    feedback: PlacedFeedback | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """Models by task, None where not significant; RANKED by name."""
    items, carts = queries["item"], queries["cart"]
    beta = manifest.beta_cart
    scores = {
        "item": blend_item_scores(items.features, manifest, beta),
        "cart": blend_cart_scores(carts.features, manifest.cart_weights),
    }
    weights = {
        "item": manifest.model_dump(include={"beta_single", "page_cooccurrence", "page_trend"}),
        "cart": manifest.cart_weights.model_dump(),
    }
    parts = {
        "item": measure_item_parts(items, manifest, beta),
        "cart": measure_cart_parts(carts, manifest),
    }
    models, ranked = {}, {}
    for task, name in NAMES.items():
        folds = split_folds(queries[task], validation)
        models[task], fitted = fit_if_significant(
            queries[task], folds, scores[task], BLEND_WEIGHT[task], seed,
            manifest.popularity_discount, feedback if task == "item" else None,
        )  # fmt: skip
        ranked[name] = {
            "weights": weights[task], "parts": parts[task], "forest": fitted,
            "n_questions": len(queries[task]),
        }  # fmt: skip
        log_progress(f"re-ranker of {name}: {fitted['why']}")
    return models, ranked


def _count_exceptions(
    exceptions: Sequence[tuple[str, str]], product_ids: Sequence[str]
) -> dict[str, int]:
    unknown = unknown_ids(exceptions, product_ids)
    if unknown:
        named = ", ".join(unknown[:MAX_NAMED_IDS]) + (", …" if len(unknown) > MAX_NAMED_IDS else "")
        log_progress(f"variant exceptions: unknown products {named} ({len(unknown)} in all)")
    return {"given": len(exceptions), "unknown": len(unknown)}


def _write_ranking(
    target: Path, blend: Blend, variants: Variants, models: dict[str, Any], ranking: dict[str, Any]
) -> None:
    with atomic_write(target) as aside:
        aside.mkdir(parents=True)
        variants.save(aside)
        if models["item"] is not None:
            save_item_reranker(models["item"], aside)
        if models["cart"] is not None:
            to_tree_ensemble(models["cart"]).save(aside)
        write_json(blend.model_dump(), aside / "blend.json")
        write_json(ranking, aside / "ranking.json")


class StepTimer:
    """CPU seconds since the last call, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.process_time()

    def __call__(self, name: str) -> None:
        now = time.process_time()
        self.seconds[name], self._last = round(now - self._last, 2), now
