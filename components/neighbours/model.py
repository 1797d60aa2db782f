"""Neighbours fitted on all training baskets, and what pages and carts should mix."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bento.recommender import Recommender
from components.baskets.corpus import encode, read_baskets
from components.bundle.bundle import Blend, Bundle, CartWeights, save_neighbours
from components.contracts import written_aside
from components.embeddings.cooccurrence import count_head, read_pairs
from components.embeddings.item2vec import Vectors
from components.embeddings.validation import K, Validation, as_bundle
from components.evaluation.metrics import score
from components.evaluation.tasks import Queries, draw_queries
from components.neighbours.ridge import NeighbourSettings, fit_neighbours
from components.progress import say
from components.results import read_json, write_json
from components.spark import catalogue_mapper

N_PAGES, N_CARTS = 6_000, 2_000
"""Validation baskets that ask; carts take longer."""

PAGE_COOCCURRENCE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
BETAS = (0.25, 0.5, 0.75, 1.0)
"""Tried for product pages: first the weight of co-occurrence, then popularity beside it."""

CART_COOCCURRENCE = (0.0, 0.25, 0.5, 1.0)
CART_VECTORS = (0.25, 0.5, 1.0)
"""Tried for carts beside 1 for the neighbours: first co-occurrence alone, then vectors too."""


def train_neighbours(
    baskets_path: str | Path, vectors: Path, cooccurrence: Path, target: Path, seed: int,
    settings: NeighbourSettings | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the directory `target` of neighbours and blend.json; what they took and gained."""
    n_orders = np.load(vectors / "n_orders.npy")
    product_ids = pq.read_table(vectors / "product_ids.parquet")["product_id"].combine_chunks()
    baskets = read_baskets(baskets_path)
    corpus = encode(baskets, product_ids, "train")
    start = time.process_time()
    pairs = read_pairs(cooccurrence)
    head = count_head(corpus, len(n_orders))
    with catalogue_mapper("neighbours") as mapped:
        fitted = settings or NeighbourSettings()
        neighbours = fit_neighbours(pairs, n_orders, fitted, head, mapped)
    cpu_s = time.process_time() - start
    judged = encode(baskets, product_ids, "validation")
    queries = {
        "a": draw_queries(judged, "a", N_PAGES, seed), "b": draw_queries(judged, "b", N_CARTS, seed)
    }  # fmt: skip
    validation = Validation(product_ids, n_orders, len(corpus), queries)
    trained = Vectors(np.load(vectors / "in_vectors.npy"), np.load(vectors / "out_vectors.npy"))
    betas = read_json(vectors / "betas.json")
    bundle = as_bundle(trained, validation, betas["beta_cart"])
    evidence = {f"pair_{name}": array for name, array in vars(pairs).items()}
    bundle = replace(bundle, neighbours=neighbours, **evidence)
    blend, gained = tune_blend(bundle, betas["beta_single"], queries)
    with written_aside(target) as aside:
        aside.mkdir(parents=True)
        save_neighbours(neighbours, aside)
        write_json(blend.model_dump(), aside / "blend.json")
    facts = {"weights": len(neighbours.rows), "cpu_s": round(cpu_s, 1)}
    return {**facts, **blend.model_dump(), "validation": gained}


def tune_blend(
    bundle: Bundle, beta: float, queries: dict[str, Queries]
) -> tuple[Blend, dict[str, float]]:
    """What to mix for pages and carts; NDCG@10 of both with it, and with the vectors alone.

    `beta` is the weight of popularity that suits the vectors alone. A part that does not help gets
    no weight; without queries to judge by, the vectors stay alone.
    """
    pages = _Tried(bundle, queries["a"])
    alone = {"beta_single": beta, "page_cooccurrence": 0.0}
    page = pages.best([{**alone, "page_cooccurrence": one} for one in PAGE_COOCCURRENCE])
    if page["page_cooccurrence"]:
        page = pages.best([page, *({**page, "beta_single": one} for one in BETAS)])
    carts = _Tried(bundle, queries["b"])
    vectors = {"cart_weights": CartWeights()}
    counted = [CartWeights(vectors=0, cooccurrence=one, neighbours=1) for one in CART_COOCCURRENCE]
    cart = carts.best([vectors, *({"cart_weights": one} for one in counted)])
    if cart != vectors:
        more = [cart["cart_weights"].model_copy(update={"vectors": one}) for one in CART_VECTORS]
        cart = carts.best([cart, *({"cart_weights": one} for one in more)])
    gained = {
        "ndcg_a": pages(page), "ndcg_a_vectors": pages(alone),
        "ndcg_b": carts(cart), "ndcg_b_vectors": carts(vectors),
    }  # fmt: skip
    say(f"blend on validation baskets: {page} {cart['cart_weights']!r}: {gained}")
    return Blend(**page, **cart), gained


class _Tried:
    """NDCG@10 of manifest fields on one task's queries, each measured once."""

    def __init__(self, bundle: Bundle, queries: Queries) -> None:
        self._bundle, self._queries = bundle, queries
        self._found: dict[str, float] = {}

    def __call__(self, fields: dict[str, Any]) -> float:
        if not len(self._queries):
            return 0.0
        key = repr(fields)
        if key not in self._found:
            manifest = self._bundle.manifest.model_copy(update=fields)
            recommender = Recommender(replace(self._bundle, manifest=manifest))
            rows, _ = recommender.rank(self._queries.asked, K)
            ndcg = score(rows, self._queries.relevant, manifest.n_items)["ndcg"].mean()
            self._found[key] = float(ndcg)
        return self._found[key]

    def best(self, fields: list[dict[str, Any]]) -> dict[str, Any]:
        """The first of the best."""
        return max(fields, key=self)
