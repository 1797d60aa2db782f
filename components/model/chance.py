"""How often two products share a basket by chance: what counts are compared with.

By chance, every other line of a basket is a product with the probability of its share of all lines.
A basket of n lines with the asked product then holds another with probability 1 - (1 - q)**(n - 1).
Plain lift leaves the sizes of baskets out: large baskets lift every pair above 1.
"""

from dataclasses import dataclass

import numpy as np

from components.model.arrays import AnyArray, Float32Array, Float64Array
from components.model.ragged import ArrayGroup

K = 10  # Of the NDCG@K that gains are measured in


@dataclass(frozen=True)
class Chance(ArrayGroup, prefix="chance"):
    """Baskets of every product by size, in bins.

    `shares` (n_items,) are those of all lines. A basket of a bin has on average `others` (n_bins,)
    lines beside the product. `baskets` (n_items, n_bins) count. `excess` (n_pairs,) is the pairs'
    probability beyond chance, `grades` (n_pairs,) their evidence (`components.model.evidence`).
    """

    shares: Float32Array
    others: Float32Array
    baskets: Float32Array
    excess: Float32Array
    grades: AnyArray | None = None

    def count_expected(self, products: AnyArray, rows: AnyArray) -> Float32Array:
        """Baskets with both by chance, in the shape of `products` and `rows` broadcast."""
        expected: Float32Array = (self.baskets[products] * self._hold(rows)).sum(axis=-1)
        return expected

    def compute_probability(
        self, products: AnyArray, rows: AnyArray, size_exponent: float
    ) -> Float32Array:
        """`Pairs.probability` by chance: the share of lines beside a product that are another."""
        weights = self.baskets[products] * self.others**-size_exponent
        n_lines = (weights * self.others).sum(axis=-1)
        held = (weights * self._hold(rows)).sum(axis=-1)
        probability: Float32Array = held / np.maximum(n_lines, 1e-9)
        return probability.astype(np.float32)

    def compute_gain(self, products: AnyArray, rows: AnyArray, k: int = K) -> Float32Array:
        """NDCG@k by chance of `rows` (n, depth) in first place on pages of `products` (n,).

        A basket asks for each of its products with the same probability, as the evaluation does.
        """
        asking = self.baskets[products] / (self.others + 1)
        asking /= np.maximum(asking.sum(axis=1, keepdims=True), 1e-9)
        weights = asking / _compute_ideal(self.others, k)
        gain: Float32Array = np.einsum("nds,ns->nd", self._hold(rows), weights)
        return gain.astype(np.float32)

    def _hold(self, rows: AnyArray) -> Float32Array:
        """That a basket of each bin holds a product, (..., n_bins)."""
        logs = np.log1p(-np.minimum(self.shares[rows], 1 - 1e-6))
        held: Float32Array = -np.expm1(logs[..., None] * self.others)
        return held


def _compute_ideal(n_relevant: Float32Array, k: int) -> Float64Array:
    """DCG@k of the best ranking, between whole numbers of relevant products interpolated."""
    sums = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(k) + 2))])
    ideal: Float64Array = np.interp(n_relevant, np.arange(k + 1), sums)
    return ideal
