"""Vectors on validation queries; tunes beta, the popularity weight."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from components.baskets.corpus import Corpus
from components.contracts import PRODUCTS
from components.embeddings.item2vec import Vectors
from components.evaluation.excess import compute_excess_ndcg, compute_shares
from components.evaluation.metrics import score
from components.evaluation.tasks import TASKS, Queries, draw_queries
from components.model.arrays import Float64Array, Int64Array
from components.model.bundle import Bundle, assemble_bundle
from components.model.manifest import Manifest
from components.model.recommender import Recommender

K = 10

BETAS_SINGLE = (0.25, 0.5, 0.75, 1.0)
BETAS_CART = (0.25, 0.75)
DEFAULT_BETAS = {"item": 0.75, "cart": 0.25}  # Beta without validation queries


@dataclass(frozen=True)
class ValidationSet:
    """A catalogue, its training orders, and queries by task.

    The objective is NDCG@10 less `popularity_discount` of what chance earns.
    """

    product_ids: pa.Array
    n_orders: Int64Array
    n_baskets: int
    queries: dict[str, Queries]
    shares: Float64Array
    """(n_items,): of the lines that queries are drawn from."""
    popularity_discount: float = 0.0


class Measured(NamedTuple):
    objective: float
    ndcg: float


def draw_validation(
    product_ids: pa.Array, n_orders: Int64Array, n_baskets: int, validation: Corpus, n_queries: int,
    seed: int, popularity_discount: float = 0.0,
) -> ValidationSet:  # fmt: skip
    """An eighth of the queries for carts, which take longer."""
    sizes = {"item": n_queries, "cart": -(-n_queries // 8)}
    queries = {task: draw_queries(validation, task, sizes[task], seed) for task in TASKS}
    shares = compute_shares(validation, len(n_orders))
    return ValidationSet(product_ids, n_orders, n_baskets, queries, shares, popularity_discount)


def tune_betas(vectors: Vectors, validation: ValidationSet) -> dict[str, float]:
    """The best betas, the objective on item queries, and the NDCG@10 of each.

    Beta does not transfer from a sample (demo data: 1.0 on a tenth, .75 on the whole).
    """
    beta_single, item = _find_best_beta(vectors, validation, "item", BETAS_SINGLE)
    beta_cart, cart = _find_best_beta(vectors, validation, "cart", BETAS_CART)
    return {
        "beta_single": beta_single, "beta_cart": beta_cart, "objective_item": item.objective,
        "ndcg_item": item.ndcg, "ndcg_cart": cart.ndcg,
    }  # fmt: skip


def _find_best_beta(
    vectors: Vectors, validation: ValidationSet, task: str, betas: tuple[float, ...]
) -> tuple[float, Measured]:
    if not len(validation.queries[task]):
        return DEFAULT_BETAS[task], Measured(0.0, 0.0)
    measured = {beta: measure(vectors, validation, task, beta) for beta in betas}
    # Of equal betas the smaller covers more of the catalogue.
    return max(measured.items(), key=lambda one: (one[1].objective, -one[0]))


def measure(vectors: Vectors, validation: ValidationSet, task: str, beta: float) -> Measured:
    """By `Recommender`; 0 without queries.

    Raises FloatingPointError when the training diverged.
    """
    if not (np.isfinite(vectors.in_vectors).all() and np.isfinite(vectors.out_vectors).all()):
        raise FloatingPointError("item2vec: vectors are not finite; lower learning_rate")
    queries = validation.queries[task]
    if not len(queries):
        return Measured(0.0, 0.0)
    found, _ = Recommender(to_bundle(vectors, validation, beta)).rank(queries.asked, K)
    ndcg = score(found, queries.relevant, len(validation.n_orders))["ndcg"].mean()
    objective = compute_excess_ndcg(
        found, queries.relevant, validation.shares, validation.popularity_discount
    ).mean()
    return Measured(float(objective), float(ndcg))


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
