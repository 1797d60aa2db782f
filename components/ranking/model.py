"""Vectors, pairs and neighbours in; what pages and carts mix, the re-ranker and all pages out."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from bento.recommender import Recommender, blend_carts
from components.aside import written_aside
from components.baskets.corpus import Corpus, encode, read_baskets
from components.baskets.tricks import Tricks, training_baskets
from components.bundle.build import pair_arrays, product_cards
from components.bundle.bundle import Blend, Bundle, Manifest, load_group, save_group
from components.bundle.index import index_catalogue
from components.embeddings.cooccurrence import read_pairs
from components.embeddings.item2vec import Vectors
from components.evaluation.tasks import Queries, draw_queries
from components.evaluation.variants import choose_variants
from components.progress import say
from components.ranking import blend as blending
from components.ranking.facts import make_facts
from components.ranking.forest import as_forest, grow_if_it_pays
from components.ranking.pages import make_pages
from components.ranking.questions import Questions, draw_questions
from components.ranking.storage import N_QUERIES as N_STORAGE_QUERIES
from components.ranking.storage import measure_storage
from components.results import read_json, write_json

Floats = npt.NDArray[np.float32]

N_VARIANT_QUERIES = {"a": 3_000, "b": 3_000}
"""Validation baskets that say what leaving out variants costs."""


def train_ranking(
    baskets_path: str | Path, vectors: Path, cooccurrence: Path, neighbours: Path, products: Path,
    target: Path, seed: int, tricks: Tricks | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the directory `target`: facts, pages, forest, index, blend.json and ranking.json.

    Returns ranking.json: {"pages": RANKED, "carts": RANKED, "variants": [see
    `choose_variants`], "storage": [see `measure_storage`], "cpu_s": {STEP: seconds}}; RANKED is
    {"weights": {...}, "parts": {PART: NDCG@10 on validation baskets}, "forest": {"pays", "why",
    "gain": {"mean", "low", "high"} or null, "features": [[NAME, share]]}, "n_questions"}.
    """
    clock, tricks = _Clock(), tricks or Tricks()
    bundle, validation = _prepare(baskets_path, vectors, cooccurrence, neighbours, products, tricks)
    clock("facts")
    bundle, index = index_catalogue(bundle, seed)
    clock("index")
    with written_aside(target) as aside:
        aside.mkdir(parents=True)
        if index is not None:
            index.save_index(str(aside / "index.hnsw"))
            bundle = replace(bundle, index_path=aside / "index.hnsw")
        asked = {task: draw_questions(Recommender(bundle), validation, task, seed) for task in "ab"}
        clock("questions")
        tuned = blending.tune_pages(asked["a"], _start(tricks), bundle.manifest.beta_cart)
        tuned = blending.tune_carts(asked["b"], tuned)
        clock("blend")
        bundle = _mixed(bundle, tuned)
        variants, measured = choose_variants(Recommender(bundle), _queries(validation, seed), seed)
        bundle = replace(bundle, variants=variants)
        clock("variants")
        page_model, cart_model, found = _judge_forests(asked, bundle, seed)
        clock("forests")
        storage = _measure_storage(bundle, vectors, validation, seed)
        clock("storage")
        pages = make_pages(Recommender(bundle), page_model)
        clock("pages")
        assert bundle.facts is not None
        save_group(bundle.facts, aside)
        save_group(pages, aside)
        save_group(variants, aside)
        if cart_model is not None:
            save_group(as_forest(cart_model), aside)
        ranking = {**found, "variants": measured, "storage": storage, "cpu_s": clock.seconds}
        facts = bundle.manifest.index
        write_json(facts.model_dump() if facts else None, aside / "index.json")
        write_json(tuned.model_dump(), aside / "blend.json")
        write_json(ranking, aside / "ranking.json")
    return ranking


def _prepare(
    baskets_path: str | Path, vectors: Path, cooccurrence: Path, neighbours: Path, products: Path,
    tricks: Tricks,
) -> tuple[Bundle, Corpus]:  # fmt: skip
    """A bundle in memory with facts and the weights to start from, and the validation baskets."""
    product_ids = pq.read_table(vectors / "product_ids.parquet")["product_id"]
    n_orders = np.load(vectors / "n_orders.npy")
    trained = Vectors(np.load(vectors / "in_vectors.npy"), np.load(vectors / "out_vectors.npy"))
    beta_cart = read_json(vectors / "betas.json")["beta_cart"]
    pairs = read_pairs(cooccurrence)
    baskets = read_baskets(baskets_path)
    ids = product_ids.combine_chunks()
    training = training_baskets(baskets_path, ids, tricks)
    counted = training.weighed_by_size(tricks.size_exponent)
    cards = product_cards(product_ids, products)
    say(f"ranking: time and category facts of {len(n_orders)} products")
    facts = make_facts(counted, training.ages, pairs, cards, trained, n_orders, beta_cart)
    manifest = Manifest(
        **_start(tricks).model_dump(),
        created_at="",
        n_items=len(n_orders),
        n_products=cards.num_rows,
        n_orders=len(counted),
        dims=trained.in_vectors.shape[1],
        beta_cart=beta_cart,
    )
    bundle = Bundle(
        manifest,
        cards,
        trained.in_vectors,
        trained.out_vectors,
        n_orders,
        **pair_arrays(cooccurrence),
        neighbours=load_group("neighbours", neighbours),
        facts=facts,
    )
    return bundle, encode(baskets, ids, "validation")


def _start(tricks: Tricks) -> Blend:
    return blending.START.model_copy(update={"cart_recency": tricks.cart_recency})


def _queries(validation: Corpus, seed: int) -> dict[str, Queries]:
    return {task: draw_queries(validation, task, n, seed) for task, n in N_VARIANT_QUERIES.items()}


def _measure_storage(
    bundle: Bundle, vectors: Path, validation: Corpus, seed: int
) -> list[dict[str, Any]]:
    log_popularity = np.log(bundle.n_orders / bundle.manifest.n_orders).astype(np.float32)
    # Tuned for vectors alone, as they are judged here; the blend's has a helper.
    beta = read_json(vectors / "betas.json")["beta_single"]
    queries = draw_queries(validation, "a", N_STORAGE_QUERIES, seed)
    both = Vectors(np.asarray(bundle.in_vectors), np.asarray(bundle.out_vectors))
    return measure_storage(both, log_popularity, beta, queries, seed)


def _mixed(bundle: Bundle, blend: Blend) -> Bundle:
    fields = {name: getattr(blend, name) for name in Blend.model_fields}
    return replace(bundle, manifest=bundle.manifest.model_copy(update=fields))


def _judge_forests(
    asked: dict[str, Questions], bundle: Bundle, seed: int
) -> tuple[Any, Any, dict[str, Any]]:
    """Models for pages and carts, None where one does not pay, and what was measured."""
    manifest, pages, carts = bundle.manifest, asked["a"], asked["b"]
    page_scores = blending.blend_pages(pages.features, manifest, manifest.beta_cart)
    page_model, page_facts = grow_if_it_pays(pages, page_scores, seed)
    say(f"re-ranked pages: {page_facts['why']}")
    cart_scores = blend_carts(carts.features, manifest.cart_weights)
    cart_model, cart_facts = grow_if_it_pays(carts, cart_scores, seed)
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


class _Clock:
    """CPU seconds of this process between one call and the next, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.process_time()

    def __call__(self, name: str) -> None:
        now = time.process_time()
        self.seconds[name], self._last = round(now - self._last, 2), now
