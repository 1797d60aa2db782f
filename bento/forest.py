"""Regression trees without the library that grew them: the serving image carries numpy only."""

import numpy as np
import numpy.typing as npt

from components.bundle.bundle import Forest

Floats = npt.NDArray[np.float32]


def predict(forest: Forest, features: Floats) -> Floats:
    """The sum of all trees' values for every row of `features` (n, n_features), shape (n,)."""
    n, n_trees = len(features), len(forest.feature)
    tree, row = np.arange(n_trees)[None], np.arange(n)[:, None]
    node = np.zeros((n, n_trees), np.intp)
    while True:
        goes_left = features[row, forest.feature[tree, node]] <= forest.threshold[tree, node]
        following = np.where(goes_left, forest.left[tree, node], forest.right[tree, node])
        if (following == node).all():
            break
        node = following
    total: Floats = forest.value[tree, node].sum(axis=1)
    return total
