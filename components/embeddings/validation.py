"""NDCG of vectors on validation queries; tunes beta, the popularity weight."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.baskets.corpus import Corpus
from components.contracts import PRODUCTS
from components.embeddings.item2vec import Vectors
from components.evaluation.metrics import score
from components.evaluation.tasks import TASKS, Queries, draw_queries
from components.model.arrays import Int64Array
from components.model.bundle import Bundle, assemble_bundle
from components.model.manifest import Manifest
from components.model.recommender import Recommender

K = 10

BETAS_SINGLE = (0.5, 0.75, 1.0)
BETAS_CART = (0.25, 0.75)
DEFAULT_BETAS = {"item": 0.75, "cart": 0.25}  # Beta without validation queries


@dataclass(frozen=True)
class ValidationSet:
    """A catalogue, its training orders, and queries by task."""

    product_ids: pa.Array
    n_orders: Int64Array
    n_baskets: int
    queries: dict[str, Queries]


def draw_validation(
    product_ids: pa.Array, n_orders: Int64Array, n_baskets: int, validation: Corpus, n_queries: int,
    seed: int,
) -> ValidationSet:  # fmt: skip
    """An eighth of the queries for carts, which take longer."""
    sizes = {"item": n_queries, "cart": -(-n_queries // 8)}
    queries = {task: draw_queries(validation, task, sizes[task], seed) for task in TASKS}
    return ValidationSet(product_ids, n_orders, n_baskets, queries)


def tune_betas(vectors: Vectors, validation: ValidationSet) -> dict[str, float]:
    """The best betas, and the NDCG@10 of each.

    Beta does not transfer from a sample (demo data: 1.0 on a tenth, .75 on the whole).
    """
    beta_single, ndcg_item = _find_best_beta(vectors, validation, "item", BETAS_SINGLE)
    beta_cart, ndcg_cart = _find_best_beta(vectors, validation, "cart", BETAS_CART)
    betas = {"beta_single": beta_single, "beta_cart": beta_cart}
    return {**betas, "ndcg_item": ndcg_item, "ndcg_cart": ndcg_cart}


def _find_best_beta(
    vectors: Vectors, validation: ValidationSet, task: str, betas: tuple[float, ...]
) -> tuple[float, float]:
    if not len(validation.queries[task]):
        return DEFAULT_BETAS[task], 0.0
    ndcgs = {beta: compute_ndcg(vectors, validation, task, beta) for beta in betas}
    # Of equal betas the smaller covers more of the catalogue.
    return max(ndcgs.items(), key=lambda one: (one[1], -one[0]))


def compute_ndcg(vectors: Vectors, validation: ValidationSet, task: str, beta: float) -> float:
    """NDCG@10 by `Recommender`; 0 without queries.

    Raises FloatingPointError when the training diverged.
    """
    if not (np.isfinite(vectors.in_vectors).all() and np.isfinite(vectors.out_vectors).all()):
        raise FloatingPointError("item2vec: vectors are not finite; lower learning_rate")
    queries = validation.queries[task]
    if not len(queries):
        return 0.0
    found, _ = Recommender(to_bundle(vectors, validation, beta)).rank(queries.asked, K)
    return float(score(found, queries.relevant, len(validation.n_orders))["ndcg"].mean())


def to_bundle(vectors: Vectors, validation: ValidationSet, beta: float) -> Bundle:
    """A bundle in memory, without attributes, pairs and index."""
    n_items = len(validation.n_orders)
    manifest = Manifest(
        created_at="", n_items=n_items, n_products=n_items, n_orders=validation.n_baskets,
        dims=vectors.in_vectors.shape[1], beta_single=beta, beta_cart=beta,
    )  # fmt: skip
    attributes = [pa.nulls(n_items, field.type) for field in list(PRODUCTS)[1:]]
    products = pa.table([validation.product_ids, *attributes], names=PRODUCTS.names)
    return assemble_bundle(manifest, products, **vars(vectors), n_orders=validation.n_orders)
