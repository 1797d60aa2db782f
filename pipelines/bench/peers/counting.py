"""Peers that count pairs of products."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from components.baskets.corpus import Corpus
from components.evaluation.baselines import Popularity, Ranker
from components.model.arrays import Float32Array, Int64Array
from pipelines.bench.peers.peer import (
    CART,
    ITEM,
    Model,
    Peer,
    Setting,
    TrainingData,
    for_both_tasks,
)
from pipelines.bench.peers.rankers import SUM_OR_MAX, ItemItemMatrix

LEAST_LIFT = 1.5


def baskets_matrix(corpus: Corpus, n_items: int, dtype: Any = np.float32) -> Any:
    """Sparse (n_baskets, n_items) of ones."""
    from scipy.sparse import csr_matrix

    ones = np.ones(len(corpus.items), dtype)
    # implicit requires 32-bit indices.
    rows, offsets = corpus.items.astype(np.int32), corpus.offsets.astype(np.int32)
    return csr_matrix((ones, rows, offsets), shape=(len(corpus), n_items))


def count_together(data: TrainingData, exponent: float = 0.0) -> tuple[Any, Float32Array]:
    """Sums of 1/(n - 1)**exponent over common baskets of size n, sparse; orders of products."""
    corpus = data.train.with_at_least(2)
    baskets = baskets_matrix(corpus, data.n_items)
    weighted = baskets
    if exponent:
        weighted = baskets.copy()
        weighted.data = np.repeat((corpus.sizes - 1.0) ** -exponent, corpus.sizes)
        weighted.data = weighted.data.astype(np.float32)
    together = (baskets.T.tocsr() @ weighted).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    n_orders = np.bincount(corpus.items, minlength=data.n_items).astype(np.float32)
    return together, n_orders


@dataclass(frozen=True)
class _Bestsellers:
    n_orders: Int64Array

    @property
    def n_bytes(self) -> int:
        return 4 * len(self.n_orders)

    def ranker(self, mode: Setting) -> Ranker:
        return Popularity(self.n_orders)


def popularity() -> Peer:
    return Peer(
        "popularity",
        lambda data, _: _Bestsellers(data.n_orders),
        for_both_tasks([{}]),
        for_both_tasks([{}]),
    )


def cooccurrence() -> Peer:
    """P(product | query item), summed over a cart."""
    modes = for_both_tasks([{"fuse": "sum"}])
    return Peer(
        "co-occurrence", _fit_cooccurrence, for_both_tasks([{"exponent": 0, "shrink": 0}]), modes
    )


def tuned_cooccurrence() -> Peer:
    pages = [{"exponent": one, "shrink": 0.0} for one in (0, 0.125, 0.25, 0.375, 0.5, 0.75, 1, 1.5)]
    tried = [(0, 0), (0.25, 0), (0.5, 0), (0.25, 20), (0.5, 20), (0.5, 60), (0.5, 200), (1, 20)]
    carts = [{"exponent": exponent, "shrink": shrink} for exponent, shrink in tried]
    return Peer("co-occurrence, tuned", _fit_cooccurrence, {ITEM: pages, CART: carts}, SUM_OR_MAX)


def _fit_cooccurrence(data: TrainingData, setting: Setting) -> Model:
    together, n_orders = count_together(data, setting["exponent"])
    divisor = np.maximum(n_orders, 1) + setting["shrink"]
    together.data /= np.repeat(divisor, np.diff(together.indptr)).astype(np.float32)
    return ItemItemMatrix(together)


def counts_minus_chance() -> Peer:
    """Counts of baskets beyond those expected by chance, per basket of the query item."""
    exponents = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1, 1.25)
    pages = [{"exponent": one, "shrink": 5.0} for one in exponents]
    tried = [(0.25, 5), (0.5, 0), (0.5, 5), (0.5, 20), (0.75, 0), (0.75, 5), (0.75, 20), (1, 5)]
    carts = [{"exponent": exponent, "shrink": shrink} for exponent, shrink in tried]
    return Peer(
        "counts minus chance", _fit_counts_minus_chance, {ITEM: pages, CART: carts}, SUM_OR_MAX
    )


def _fit_counts_minus_chance(data: TrainingData, setting: Setting) -> Model:
    together, _ = count_together(data, setting["exponent"])
    corpus = data.train.with_at_least(2)
    others = corpus.sizes - 1.0
    weights = others ** -setting["exponent"]
    by_product = baskets_matrix(corpus, data.n_items).T.tocsr()
    n_orders, n_others = by_product @ weights, by_product @ (weights * others)
    shares = np.bincount(corpus.items, minlength=data.n_items) / max(len(corpus.items), 1)
    products = np.repeat(np.arange(data.n_items), np.diff(together.indptr))
    beyond = together.data - shares[together.indices] * n_others[products]
    together.data = (beyond / (n_orders[products] + setting["shrink"])).astype(np.float32)
    return ItemItemMatrix(together)


def lift() -> Peer:
    """The rule that shop plug-ins come with: enough common baskets, and lift of at least 1.5."""
    floors = (2, 5, 10, 20)
    settings = [{"by": by, "floor": floor} for by in ("lift", "confidence") for floor in floors]
    return Peer("lift", _fit_lift, for_both_tasks(settings), SUM_OR_MAX)


def _fit_lift(data: TrainingData, setting: Setting) -> Model:
    together, query, candidate = _count_with_orders(data)
    confidence = together.data / query
    values = confidence * np.float32(len(data.train.with_at_least(2))) / candidate
    shown = (values >= LEAST_LIFT) & (together.data >= setting["floor"])
    together.data = np.where(shown, values if setting["by"] == "lift" else confidence, 0)
    together.eliminate_zeros()
    return ItemItemMatrix(together)


def cosine() -> Peer:
    """Shrunk cosine; a `lean` above 0.5 makes it asymmetric (Aiolli 2013)."""
    settings = [{"lean": 0.5, "shrink": one} for one in (0, 5, 20, 50, 100)]
    settings += [{"lean": lean, "shrink": 5} for lean in (0.6, 0.7, 0.8)]
    return Peer("cosine", _fit_cosine, for_both_tasks(settings), SUM_OR_MAX)


def jaccard() -> Peer:
    settings = [{"shrink": one} for one in (0, 5, 10, 20, 50, 100, 200, 500)]
    return Peer("Jaccard", _fit_jaccard, for_both_tasks(settings), SUM_OR_MAX)


def pmi() -> Peer:
    """`smooth` is the exponent of the context's popularity (Levy et al. 2015)."""
    tried = [(1, 10), (1, 50), (1, 200), (0.75, 10), (0.75, 50), (0.5, 10), (0.5, 50), (0.25, 10)]
    settings = [{"smooth": smooth, "shrink": shrink} for smooth, shrink in tried]
    return Peer("PMI", _fit_pmi, for_both_tasks(settings), SUM_OR_MAX)


def _fit_cosine(data: TrainingData, setting: Setting) -> Model:
    together, query, candidate = _count_with_orders(data)
    lean = np.float32(setting["lean"])
    together.data /= query**lean * candidate ** (1 - lean) + np.float32(setting["shrink"])
    return ItemItemMatrix(together)


def _fit_jaccard(data: TrainingData, setting: Setting) -> Model:
    together, query, candidate = _count_with_orders(data)
    together.data /= query + candidate - together.data + np.float32(setting["shrink"])
    return ItemItemMatrix(together)


def _count_with_orders(data: TrainingData) -> tuple[Any, Float32Array, Float32Array]:
    """Common baskets, sparse; for each entry, the orders of the query item and the candidate."""
    together, n_orders = count_together(data)
    return together, np.repeat(n_orders, np.diff(together.indptr)), n_orders[together.indices]


def _fit_pmi(data: TrainingData, setting: Setting) -> Model:
    together, n_orders = count_together(data)
    n_baskets = len(data.train.with_at_least(2))
    smooth, shrink = np.float32(setting["smooth"]), np.float32(setting["shrink"])
    shares = np.maximum(n_orders, 1) ** smooth
    shares *= n_orders.sum() / shares.sum() / n_baskets
    probability = together.data / np.repeat(n_orders, np.diff(together.indptr))
    value = np.maximum(np.log(probability / shares[together.indices]), 0)
    together.data = value * together.data / (together.data + shrink)
    return ItemItemMatrix(together)
