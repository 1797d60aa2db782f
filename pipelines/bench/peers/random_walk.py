"""RP3beta (Paudel et al. 2017, "Updatable, accurate, diverse, and scalable recommendations")."""

import numpy as np

from pipelines.bench.peers.counting import count_together
from pipelines.bench.peers.peer import CART, ITEM, Model, Peer, Setting, TrainingData
from pipelines.bench.peers.rankers import SUM_OR_MAX, ItemItemMatrix


def rp3beta() -> Peer:
    """Walks item → basket → another item: transitions to the power `alpha`, popularity `beta`."""
    pages = [(0.3, 0.05), (0.4, 0), (0.4, 0.1), (0.4, 0.2), (0.4, 0.3), (0.6, 0.1), (0.6, 0.3)]
    pages += [(0.8, 0.4)]
    carts = [(0.4, 0.2), (0.4, 0.4), (0.5, 0.3), (0.5, 0.5), (0.6, 0.4), (0.6, 0.2), (0.7, 0.3)]
    carts += [(0.7, 0.5)]
    settings = {
        task: [{"alpha": alpha, "beta": beta} for alpha, beta in tried]
        for task, tried in ((ITEM, pages), (CART, carts))
    }
    return Peer("RP3beta", _fit, settings, SUM_OR_MAX)


def _fit(data: TrainingData, setting: Setting) -> Model:
    # A basket of n has n - 1 other items: no walk returns to where it began.
    walks, n_orders = count_together(data, setting["alpha"])
    n_orders = np.maximum(n_orders, 1)
    walks.data *= np.repeat(n_orders ** -setting["alpha"], np.diff(walks.indptr))
    walks.data *= (n_orders ** -setting["beta"])[walks.indices]
    return ItemItemMatrix(walks)
