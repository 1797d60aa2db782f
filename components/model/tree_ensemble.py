"""Regression trees without the library that grew them: the serving image carries numpy only.

All nodes of all trees are tested at once, and a bit per leaf says which leaves a row can still end
in; the leftmost of those left is its leaf (Lucchese et al. 2015, "QuickScorer"). Walking down from
the roots, level by level, costs numpy several times as much.
"""

from functools import cached_property

import numpy as np

from components.model.arrays import AnyArray, BoolArray, Float32Array, IntpArray
from components.model.bundle import TreeEnsemble

WORDS = (np.uint16, np.uint32, np.uint64)
"""What the leaves of a tree may have to fit in, a bit each."""


class TreeScorer:
    """A forest, ready to ask."""

    def __init__(self, ensemble: TreeEnsemble) -> None:
        every = [_Tree(ensemble, number) for number in range(len(ensemble.feature))]
        n_nodes = max((len(tree.tests) for tree in every), default=0)
        n_leaves = max((len(tree.leaves) for tree in every), default=1)
        self._word = next(word for word in WORDS if n_leaves <= 8 * np.dtype(word).itemsize)
        shape = (len(every), n_nodes)
        self._feature = np.zeros(shape, np.intp)
        # A place without a node holds a test that every row passes.
        self._threshold = np.full(shape, np.inf, np.float32)
        self._left_out = np.zeros(shape, self._word)
        self._value = np.zeros((len(every), n_leaves), np.float32)
        for number, tree in enumerate(every):
            self._value[number, : len(tree.leaves)] = ensemble.value[number][tree.leaves]
            for place, (node, leaves) in enumerate(tree.tests):
                self._feature[number, place] = ensemble.feature[number, node]
                self._threshold[number, place] = _round_down(ensemble.threshold[number, node])
                self._left_out[number, place] = leaves

    def predict(self, features: Float32Array) -> Float32Array:
        """The sum of all trees' values for every row of `features` (n, n_features), shape (n,)."""
        n_trees, n_nodes = self._feature.shape
        asked = features.T[self._feature.ravel()]
        fails = asked > self._threshold.reshape(-1, 1)
        out = np.where(fails, self._left_out.reshape(-1, 1), self._word(0))
        out = np.bitwise_or.reduce(out.reshape(n_trees, n_nodes, len(features)), axis=1)
        leaf = self._lowest_bits[~out] if self._word is np.uint16 else _first_bits(~out)
        total: Float32Array = self._value[np.arange(n_trees)[:, None], leaf].sum(axis=0)
        return total

    @cached_property
    def _lowest_bits(self) -> IntpArray:
        return _first_bits(np.arange(1 << 16, dtype=np.uint16))


def predict(ensemble: TreeEnsemble, features: Float32Array) -> Float32Array:
    """As `TreeScorer.predict`, for a forest that is asked once."""
    return TreeScorer(ensemble).predict(features)


class _Tree:
    """The leaves of one tree from left to right, and its tests: (node, bits of what is left)."""

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


def _first_bits(words: AnyArray) -> IntpArray:
    """The number of the lowest bit that is set; of 0, which no row has, anything."""
    lowest = words & (~words + words.dtype.type(1))
    number: IntpArray = np.log2(np.maximum(lowest, 1).astype(np.float64)).astype(np.intp)
    return number


def _round_down(threshold: float) -> np.float32:
    """The largest float32 that is not above: the same float32 features pass it."""
    rounded = np.float32(threshold)
    return np.nextafter(rounded, np.float32(-np.inf)) if rounded > threshold else rounded


def mix_scores(
    predicted: Float32Array, blended: Float32Array, there: BoolArray, mix: float
) -> Float32Array:
    """Scores of trees plus `mix` times those of the blend, (n, depth), where there are candidates.

    Both are scaled to the same spread over the candidates of a question; 0 leaves trees alone.
    """
    if not mix:
        return predicted
    total: Float32Array = _standardize(predicted, there) + np.float32(mix) * _standardize(
        blended, there
    )
    return total


def _standardize(scores: Float32Array, there: BoolArray) -> Float32Array:
    """`scores` with a mean of 0 and a spread of 1 in every row, 0 where nothing is there."""
    scores = np.where(there, scores, 0)
    n = np.maximum(there.sum(axis=1, keepdims=True), 1)
    centred = np.where(there, scores - scores.sum(axis=1, keepdims=True) / n, 0)
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / n)
    even: Float32Array = (centred / np.maximum(spread, 1e-9)).astype(np.float32)
    return even
