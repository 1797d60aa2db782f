"""Vectors, pairs and neighbours in; what pages and carts mix and their re-rankers out."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.baskets.corpus import Corpus, encode, give_back, read_baskets
from components.baskets.weighting import Tricks
from components.embeddings.item2vec import Vectors
from components.evaluation.tasks import Queries, draw_queries
from components.evaluation.variants import choose_variants
from components.model.atomic import written_aside
from components.model.bundle import Blend, Bundle, save_group
from components.model.recommender import DEPTH, Recommender, blend_carts
from components.progress import say
from components.ranking import blend as blending
from components.ranking.dataset import halves_of
from components.ranking.precompute import write_page_model
from components.ranking.prepare import prepare_bundle
from components.ranking.queries import Questions, draw_questions
from components.ranking.reranker import MIX, as_forest, grow_if_it_pays
from components.ranking.search_method import search_companions_if_enough
from components.ranking.storage import N_QUERIES as N_STORAGE_QUERIES
from components.ranking.storage import measure_storage
from components.ranking.variant_exceptions import unknown_ids
from components.results import read_json, write_json

N_VARIANT_QUERIES = {"a": 3_000, "b": 3_000}
"""Validation baskets that say what leaving out variants costs."""

SHOWN_IDS = 10
"""Unknown products in exceptions that are named."""


def train_ranking(
    baskets_path: str | Path, vectors: Path, cooccurrence: Path, neighbours: Path, products: Path,
    target: Path, seed: int, tricks: Tricks | None = None,
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
    clock, tricks = Clock(), tricks or Tricks()
    start = blending.START.model_copy(update={"cart_recency": tricks.cart_recency})
    bundle = prepare_bundle(
        baskets_path, vectors, cooccurrence, neighbours, products, tricks, start
    )
    ids = pa.array(bundle.product_ids[: bundle.manifest.n_items], pa.string())
    validation = encode(read_baskets(baskets_path), ids, "validation")
    give_back()
    clock("facts")
    with written_aside(target) as aside:
        aside.mkdir(parents=True)
        # Without an index: making one takes longer than ranking exactly for a few thousand pages.
        bundle = search_companions_if_enough(bundle, DEPTH, seed)
        asked = {task: draw_questions(Recommender(bundle), validation, task, seed) for task in "ab"}
        clock("questions")
        tuned = blending.tune_pages(asked["a"], start, bundle.manifest.beta_cart)
        tuned = blending.tune_carts(asked["b"], tuned)
        clock("blend")
        bundle = _mixed(bundle, tuned)
        variants, measured = choose_variants(
            Recommender(bundle), _queries(validation, seed), seed, exceptions
        )
        bundle = replace(bundle, variants=variants)
        clock("variants")
        page_model, cart_model, found = _judge_forests(asked, validation, bundle, seed)
        clock("forests")
        del asked
        storage = _measure_storage(bundle, vectors, validation, seed)
        clock("storage")
        save_group(variants, aside)
        if page_model is not None:
            write_page_model(page_model, aside)
        if cart_model is not None:
            save_group(as_forest(cart_model), aside)
        ranking = {
            **found,
            "variants": measured,
            "exceptions": _exceptions_said(exceptions, ids.to_pylist()),
            "storage": storage,
            "cpu_s": clock.seconds,
        }
        write_json(tuned.model_dump(), aside / "blend.json")
        write_json(ranking, aside / "ranking.json")
    return ranking


def _queries(validation: Corpus, seed: int) -> dict[str, Queries]:
    return {task: draw_queries(validation, task, n, seed) for task, n in N_VARIANT_QUERIES.items()}


def _exceptions_said(
    exceptions: Sequence[tuple[str, str]], product_ids: Sequence[str]
) -> dict[str, int]:
    unknown = unknown_ids(exceptions, product_ids)
    if unknown:
        named = ", ".join(unknown[:SHOWN_IDS]) + (", …" if len(unknown) > SHOWN_IDS else "")
        say(f"variant exceptions: the model knows no product {named} ({len(unknown)} in all)")
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


def _mixed(bundle: Bundle, blend: Blend) -> Bundle:
    fields = {name: getattr(blend, name) for name in Blend.model_fields}
    return replace(bundle, manifest=bundle.manifest.model_copy(update=fields))


def _judge_forests(
    asked: dict[str, Questions], validation: Corpus, bundle: Bundle, seed: int
) -> tuple[Any, Any, dict[str, Any]]:
    """Models for pages and carts, None where one does not pay, and what was measured."""
    manifest, pages, carts = bundle.manifest, asked["a"], asked["b"]
    halves = {task: halves_of(one, validation) for task, one in asked.items()}
    page_scores = blending.blend_pages(pages.features, manifest, manifest.beta_cart)
    page_model, page_facts = grow_if_it_pays(pages, halves["a"], page_scores, MIX["a"], seed)
    say(f"re-ranked pages: {page_facts['why']}")
    cart_scores = blend_carts(carts.features, manifest.cart_weights)
    cart_model, cart_facts = grow_if_it_pays(
        carts, halves["b"], cart_scores, manifest.cart_mix, seed
    )
    say(f"re-ranked carts: {cart_facts['why']}")
    weights = manifest.model_dump(include={"beta_single", "page_cooccurrence", "page_trend"})
    found = {
        "pages": {
            "weights": weights,
            "parts": blending.parts_of_pages(pages, manifest, manifest.beta_cart),
            "forest": page_facts,
            "n_questions": len(pages),
        },
        "carts": {
            "weights": manifest.cart_weights.model_dump(),
            "parts": blending.parts_of_carts(carts, manifest),
            "forest": cart_facts,
            "n_questions": len(carts),
        },
    }
    return page_model, cart_model, found


class Clock:
    """CPU seconds of this process between one call and the next, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.process_time()

    def __call__(self, name: str) -> None:
        now = time.process_time()
        self.seconds[name], self._last = round(now - self._last, 2), now
