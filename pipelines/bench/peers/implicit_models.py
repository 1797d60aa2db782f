"""Peers from the library implicit, with baskets as users."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from components.model.arrays import Float32Array, Int32Array
from pipelines.bench.peers.counting import baskets_matrix
from pipelines.bench.peers.peer import (
    CART,
    ITEM,
    Model,
    Peer,
    Setting,
    TrainingData,
    for_both_tasks,
)
from pipelines.bench.peers.rankers import SUM_OR_MAX, ItemItemMatrix, ItemVectors

THREADS = 1
"""Waiting threads cost CPU seconds, too."""

ALS_DEFAULTS: Setting = {"factors": 64}
"""The reference of training costs."""

ALS_MODES: Mapping[str, Sequence[Setting]] = {
    ITEM: [{"by": "fold"}, {"by": "cosine"}, {"by": "inner"}],
    CART: [{"by": "fold"}, {"by": "cosine"}, {"by": "inner"}, {"by": "cosine", "fuse": "max"}],
}
BPR_MODES: Mapping[str, Sequence[Setting]] = {
    ITEM: [{"by": "cosine"}, {"by": "inner"}, {"by": "biased"}, {"by": "fold"}],
    CART: [
        {"by": "cosine"}, {"by": "inner"}, {"by": "biased"}, {"by": "fold"},
        {"by": "cosine", "fuse": "max"},
    ],
}  # fmt: skip


def item_knn(kind: str) -> Peer:
    sizes = (5, 10, 20, 30, 50, 100, 400, 1000)
    settings: list[Setting] = [{"kind": kind, "K": one} for one in sizes]
    return Peer(f"ItemKNN {kind}", _fit_knn, for_both_tasks(settings), SUM_OR_MAX)


def item_knn_bm25() -> Peer:
    """Saturation K1, normalisation B by popularity."""
    pages = [(50, 1.2, 0.75), (200, 1.2, 0.75), (100, 1.2, 0.25), (200, 1.2, 0.25)]
    pages += [(200, 1.2, 0.0), (500, 1.2, 0.25), (1000, 1.2, 0.5), (200, 100.0, 0.5)]
    carts = [(10, 1.2, 0.75), (20, 1.2, 0.75), (50, 1.2, 0.75), (200, 1.2, 0.75)]
    carts += [(20, 1.2, 0.25), (50, 1.2, 0.25), (50, 1.2, 1.0), (50, 100.0, 0.8)]
    settings = {
        task: [{"kind": "BM25", "K": k, "K1": k1, "B": b} for k, k1, b in tried]
        for task, tried in ((ITEM, pages), (CART, carts))
    }
    return Peer("ItemKNN BM25", _fit_knn, settings, SUM_OR_MAX)


def _fit_knn(data: TrainingData, setting: Setting) -> Model:
    similar = fit_knn(data, setting).similarity.tocsr()
    similar.data = similar.data.astype(np.float32)
    return ItemItemMatrix(similar)


def fit_knn(data: TrainingData, setting: Setting) -> Any:
    from implicit import nearest_neighbours
    from implicit.utils import ParameterWarning

    kinds = {
        "cosine": nearest_neighbours.CosineRecommender,
        "tf-idf": nearest_neighbours.TFIDFRecommender,
        "BM25": nearest_neighbours.BM25Recommender,
    }
    chosen = {key: value for key, value in setting.items() if key != "kind"}
    recommender = kinds[setting["kind"]](**chosen, num_threads=THREADS)
    with warnings.catch_warnings():
        # The library converts its own matrix and warns of it.
        warnings.simplefilter("ignore", ParameterWarning)
        recommender.fit(_basket_matrix(data), show_progress=False)
    return recommender


def als_defaults() -> Peer:
    return Peer("ALS, defaults", fit_als, for_both_tasks([ALS_DEFAULTS]), ALS_MODES)


def als() -> Peer:
    settings: list[Setting] = [
        {"factors": 128, "regularization": 10.0, "alpha": 10.0},
        {"factors": 128, "regularization": 30.0, "alpha": 40.0},
        {"factors": 128, "regularization": 100.0, "alpha": 40.0},
        {"factors": 128, "regularization": 100.0, "alpha": 100.0},
        {"factors": 256, "regularization": 30.0, "alpha": 40.0},
        {"factors": 256, "regularization": 100.0, "alpha": 100.0},
        {"factors": 256, "regularization": 300.0, "alpha": 300.0},
        {"factors": 128, "regularization": 1.0, "weighting": "BM25"},
    ]
    return Peer("ALS", fit_als, for_both_tasks(settings), ALS_MODES)


def fit_als(data: TrainingData, setting: Setting) -> Model:
    from implicit.cpu.als import AlternatingLeastSquares

    chosen = {key: value for key, value in setting.items() if key != "weighting"}
    model = AlternatingLeastSquares(**chosen, num_threads=THREADS, random_state=data.seed)
    users = _basket_matrix(data)
    if setting.get("weighting") == "BM25":
        users = _apply_bm25_weights(users)
    model.fit(users, show_progress=False)
    # The fold-in needs the Gram matrix of the items, not the training baskets.
    gram_bytes = 4 * model.item_factors.shape[1] ** 2
    return ItemVectors(model.item_factors, _fold_in(model, data.n_items), None, gram_bytes)


def _fold_in(model: Any, n_items: int) -> Callable[[Sequence[Int32Array]], Float32Array]:
    from scipy.sparse import csr_matrix

    def fold(queries: Sequence[Int32Array]) -> Float32Array:
        items = np.concatenate(queries).astype(np.int32)
        offsets = np.concatenate([[0], np.cumsum([len(query) for query in queries])])
        ones = np.ones(len(items), np.float32)
        asked = csr_matrix((ones, items, offsets.astype(np.int32)), shape=(len(queries), n_items))
        vectors: Float32Array = model.recalculate_user(np.arange(len(queries)), asked)
        return vectors

    return fold


def bpr() -> Peer:
    tried = [
        (100, 0.01, 0.01, 100), (64, 0.05, 0.01, 50), (64, 0.05, 0.001, 50), (64, 0.1, 0.01, 30),
        (64, 0.1, 0.003, 50), (128, 0.05, 0.01, 50), (64, 0.2, 0.01, 30), (64, 0.05, 0.03, 50),
    ]  # fmt: skip
    names = ("factors", "learning_rate", "regularization", "iterations")
    settings = [dict(zip(names, one, strict=True)) for one in tried]
    return Peer("BPR", _fit_bpr, for_both_tasks(settings), BPR_MODES)


def _fit_bpr(data: TrainingData, setting: Setting) -> Model:
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(**setting, num_threads=THREADS, random_state=data.seed)
    model.fit(_basket_matrix(data), show_progress=False)
    # The last column of the factors is the bias of the item.
    vectors, bias = model.item_factors[:, :-1], model.item_factors[:, -1]

    def fold(queries: Sequence[Int32Array]) -> Float32Array:
        return np.stack([vectors[query].mean(axis=0) for query in queries])

    return ItemVectors(np.ascontiguousarray(vectors), fold, np.ascontiguousarray(bias))


def _basket_matrix(data: TrainingData) -> Any:
    return baskets_matrix(data.train.with_at_least(2), data.n_items)


def _apply_bm25_weights(users: Any) -> Any:
    """As in the library's tutorial, scaled to a mean of 1."""
    from implicit.nearest_neighbours import bm25_weight

    weighted = bm25_weight(users.T, K1=100, B=0.8).T.tocsr().astype(np.float32)
    weighted.data /= weighted.data.mean()
    return weighted
