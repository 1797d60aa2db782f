"""Vectors, pairs and neighbours in; what pages and carts mix and their re-rankers out."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.baskets.corpus import Corpus, encode, read_baskets, release_memory
from components.baskets.weighting import BasketWeighting
from components.embeddings.item2vec import Vectors
from components.evaluation.tasks import Queries, draw_queries
from components.evaluation.variants import choose_variants
from components.model.atomic import atomic_write
from components.model.bundle import Blend, Bundle, save_group
from components.model.recommender import N_CANDIDATES, Recommender, blend_cart_scores
from components.progress import log_progress
from components.ranking import blend as blending
from components.ranking.gains import split_folds
from components.ranking.precompute import save_item_reranker
from components.ranking.prepare import prepare_bundle
from components.ranking.queries import LabelledQueries, draw_labelled_queries
from components.ranking.reranker import BLEND_WEIGHT, fit_if_significant, to_tree_ensemble
from components.ranking.search_method import try_companion_search
from components.ranking.storage import N_QUERIES as N_STORAGE_QUERIES
from components.ranking.storage import measure_storage
from components.ranking.variant_exceptions import unknown_ids
from components.results import read_json, write_json

N_VARIANT_QUERIES = {"a": 3_000, "b": 3_000}
"""Validation baskets that say what leaving out variants costs."""

MAX_NAMED_IDS = 10
"""Unknown products in exceptions that are named."""


def train_ranking(
    baskets_path: str | Path, vectors: Path, cooccurrence: Path, neighbours: Path, products: Path,
    target: Path, seed: int, tricks: BasketWeighting | None = None,
    exceptions: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:  # fmt: skip
    """Write the directory `target`: what was chosen by validation baskets, beside training ones.

    That is blend.json, variants, forests where they pay, and ranking.json. Returns the latter:
    {"pages": RANKED, "carts": RANKED, "variants": [see `choose_variants`, which takes
    `exceptions`], "exceptions": {"given": n, "unknown": n of ids}, "storage": [see
    `measure_storage`], "cpu_s": {STEP: seconds}}; RANKED is {"weights": {...}, "parts": {PART:
    NDCG@10 on validation baskets}, "forest": {"pays", "why", "gain": {"mean", "low", "high"} or
    null, "features": [[NAME, share]]}, "n_questions"}.
    """
    timer, tricks = StepTimer(), tricks or BasketWeighting()
    start = blending.INITIAL_BLEND.model_copy(update={"cart_recency": tricks.cart_recency})
    bundle = prepare_bundle(
        baskets_path, vectors, cooccurrence, neighbours, products, tricks, start
    )
    ids = pa.array(bundle.product_ids[: bundle.manifest.n_items], pa.string())
    validation = encode(read_baskets(baskets_path), ids, "validation")
    release_memory()
    timer("facts")
    with atomic_write(target) as aside:
        aside.mkdir(parents=True)
        # Without an index: making one takes longer than ranking exactly for a few thousand pages.
        bundle = try_companion_search(bundle, N_CANDIDATES, seed)
        asked = {
            task: draw_labelled_queries(Recommender(bundle), validation, task, seed)
            for task in "ab"
        }
        timer("questions")
        tuned = blending.tune_item_blend(asked["a"], start, bundle.manifest.beta_cart)
        tuned = blending.tune_cart_blend(asked["b"], tuned)
        timer("blend")
        bundle = _with_blend(bundle, tuned)
        variants, measured = choose_variants(
            Recommender(bundle), _draw_variant_queries(validation, seed), seed, exceptions
        )
        bundle = replace(bundle, variants=variants)
        timer("variants")
        page_model, cart_model, found = _train_rerankers(asked, validation, bundle, seed)
        timer("forests")
        del asked
        storage = _measure_storage(bundle, vectors, validation, seed)
        timer("storage")
        save_group(variants, aside)
        if page_model is not None:
            save_item_reranker(page_model, aside)
        if cart_model is not None:
            save_group(to_tree_ensemble(cart_model), aside)
        ranking = {
            **found,
            "variants": measured,
            "exceptions": _count_exceptions(exceptions, ids.to_pylist()),
            "storage": storage,
            "cpu_s": timer.seconds,
        }
        write_json(tuned.model_dump(), aside / "blend.json")
        write_json(ranking, aside / "ranking.json")
    return ranking


def _draw_variant_queries(validation: Corpus, seed: int) -> dict[str, Queries]:
    return {task: draw_queries(validation, task, n, seed) for task, n in N_VARIANT_QUERIES.items()}


def _count_exceptions(
    exceptions: Sequence[tuple[str, str]], product_ids: Sequence[str]
) -> dict[str, int]:
    unknown = unknown_ids(exceptions, product_ids)
    if unknown:
        named = ", ".join(unknown[:MAX_NAMED_IDS]) + (", …" if len(unknown) > MAX_NAMED_IDS else "")
        log_progress(
            f"variant exceptions: the model knows no product {named} ({len(unknown)} in all)"
        )
    return {"given": len(exceptions), "unknown": len(unknown)}


def _measure_storage(
    bundle: Bundle, vectors: Path, validation: Corpus, seed: int
) -> list[dict[str, Any]]:
    log_popularity = np.log(bundle.n_orders / bundle.manifest.n_orders).astype(np.float32)
    # Tuned for vectors alone, as they are judged here; the blend's has a helper.
    beta = read_json(vectors / "betas.json")["beta_single"]
    queries = draw_queries(validation, "a", N_STORAGE_QUERIES, seed)
    both = Vectors(np.load(vectors / "in_vectors.npy"), np.load(vectors / "out_vectors.npy"))
    return measure_storage(both, log_popularity, beta, queries, seed)


def _with_blend(bundle: Bundle, blend: Blend) -> Bundle:
    fields = {name: getattr(blend, name) for name in Blend.model_fields}
    return replace(bundle, manifest=bundle.manifest.model_copy(update=fields))


def _train_rerankers(
    asked: dict[str, LabelledQueries], validation: Corpus, bundle: Bundle, seed: int
) -> tuple[Any, Any, dict[str, Any]]:
    """Models for pages and carts, None where one does not pay, and what was measured."""
    manifest, pages, carts = bundle.manifest, asked["a"], asked["b"]
    folds = {task: split_folds(one, validation) for task, one in asked.items()}
    page_scores = blending.blend_item_scores(pages.features, manifest, manifest.beta_cart)
    page_model, page_facts = fit_if_significant(
        pages, folds["a"], page_scores, BLEND_WEIGHT["a"], seed
    )
    log_progress(f"re-ranked pages: {page_facts['why']}")
    cart_scores = blend_cart_scores(carts.features, manifest.cart_weights)
    cart_model, cart_facts = fit_if_significant(
        carts, folds["b"], cart_scores, manifest.cart_mix, seed
    )
    log_progress(f"re-ranked carts: {cart_facts['why']}")
    weights = manifest.model_dump(include={"beta_single", "page_cooccurrence", "page_trend"})
    found = {
        "pages": {
            "weights": weights,
            "parts": blending.measure_item_parts(pages, manifest, manifest.beta_cart),
            "forest": page_facts,
            "n_questions": len(pages),
        },
        "carts": {
            "weights": manifest.cart_weights.model_dump(),
            "parts": blending.measure_cart_parts(carts, manifest),
            "forest": cart_facts,
            "n_questions": len(carts),
        },
    }
    return page_model, cart_model, found


class StepTimer:
    """CPU seconds of this process between one call and the next, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.process_time()

    def __call__(self, name: str) -> None:
        now = time.process_time()
        self.seconds[name], self._last = round(now - self._last, 2), now
