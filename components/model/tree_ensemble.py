"""Regression trees without the library that fitted them: the serving image carries numpy only.

All nodes are tested at once, and a failed test excludes leaves, a bit each; the leftmost of those
left is the row's leaf (Lucchese et al. 2015, "QuickScorer"). Walking down costs numpy several times
as much.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from components.model.arrays import AnyArray, Float32Array, Float64Array, Int16Array, IntpArray
from components.model.ragged import ArrayGroup

MASK_TYPES = (np.uint16, np.uint32, np.uint64)  # Of the leaves of a tree


@dataclass(frozen=True)
class TreeEnsemble(ArrayGroup, prefix="reranker"):
    """(n_trees, n_nodes) each: left where feature <= threshold; leaves point to themselves."""

    feature: Int16Array
    threshold: Float64Array
    left: Int16Array
    right: Int16Array
    value: Float32Array


class TreeScorer:
    def __init__(self, ensemble: TreeEnsemble) -> None:
        trees = [_Tree(ensemble, number) for number in range(len(ensemble.feature))]
        n_nodes = max((len(tree.tests) for tree in trees), default=0)
        n_leaves = max((len(tree.leaves) for tree in trees), default=1)
        self._mask = next(kind for kind in MASK_TYPES if n_leaves <= 8 * np.dtype(kind).itemsize)
        shape = (len(trees), n_nodes)
        self._feature = np.zeros(shape, np.intp)
        # A place without a node holds a test that every row passes.
        self._threshold = np.full(shape, np.inf, np.float32)
        self._excluded = np.zeros(shape, self._mask)
        self._value = np.zeros((len(trees), n_leaves), np.float32)
        for number, tree in enumerate(trees):
            self._value[number, : len(tree.leaves)] = ensemble.value[number][tree.leaves]
            for place, (node, leaves) in enumerate(tree.tests):
                self._feature[number, place] = ensemble.feature[number, node]
                self._threshold[number, place] = _round_down(ensemble.threshold[number, node])
                self._excluded[number, place] = leaves

    def predict(self, features: Float32Array) -> Float32Array:
        """Sums (n,) of all trees' values for `features` (n, n_features)."""
        n_trees, n_nodes = self._feature.shape
        tested = features.T[self._feature.ravel()]
        fails = tested > self._threshold.reshape(-1, 1)
        excluded = np.where(fails, self._excluded.reshape(-1, 1), self._mask(0))
        excluded = np.bitwise_or.reduce(excluded.reshape(n_trees, n_nodes, len(features)), axis=1)
        is_small = self._mask is np.uint16
        leaf = self._lowest_bits[~excluded] if is_small else _find_lowest_bits(~excluded)
        total: Float32Array = self._value[np.arange(n_trees)[:, None], leaf].sum(axis=0)
        return total

    @cached_property
    def _lowest_bits(self) -> IntpArray:
        return _find_lowest_bits(np.arange(1 << 16, dtype=np.uint16))


class _Tree:
    """Leaves from left to right, and tests: (node, leaves excluded by failing it)."""

    def __init__(self, ensemble: TreeEnsemble, number: int) -> None:
        self._left, self._right = ensemble.left[number], ensemble.right[number]
        self.leaves: list[int] = []
        self.tests: list[tuple[int, int]] = []
        self._visit(0)

    def _visit(self, node: int) -> None:
        left, right = int(self._left[node]), int(self._right[node])
        if left == node:
            self.leaves.append(node)
            return
        first = len(self.leaves)
        self._visit(left)
        self.tests.append((node, (1 << len(self.leaves)) - (1 << first)))
        self._visit(right)


def _find_lowest_bits(masks: AnyArray) -> IntpArray:
    """Of masks that are not 0."""
    lowest = masks & (~masks + masks.dtype.type(1))
    number: IntpArray = np.log2(np.maximum(lowest, 1).astype(np.float64)).astype(np.intp)
    return number


def _round_down(threshold: float) -> np.float32:
    """To float32, so that the same float32 features pass it."""
    rounded = np.float32(threshold)
    return np.nextafter(rounded, np.float32(-np.inf)) if rounded > threshold else rounded
