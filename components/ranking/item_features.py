"""Facts of products and pairs that ranking looks at beside vectors and counts: time, categories."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from components.baskets.corpus import Corpus
from components.baskets.weighting import decay_weights
from components.embeddings.cooccurrence import BLOCK, PairCounter, Pairs
from components.embeddings.item2vec import Vectors
from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.bundle import ItemFeatures
from components.model.features import log_norms
from components.spark import split_into_ranges

SHORT_DAYS, LONG_DAYS, RECENT_DAYS = 14.0, 45.0, 60.0
"""Half-lives of what counts as recent: of a product's two trends, and of pairs."""

SMOOTHING = 0.1
"""Orders added to every product's, so that one not sold lately has a finite trend."""

MAX_CATEGORIES = 2_000
"""Categories of which lifts are kept, the most bought; the square of it is stored."""

CHUNK_ITEMS = 100_000
"""Products whose pairs are sorted into categories at once."""


def build_item_features(
    corpus: Corpus, ages: Float32Array | None, pairs: Pairs, cards: pa.Table, vectors: Vectors,
    n_orders: Int64Array, beta: float,
) -> ItemFeatures:  # fmt: skip
    """The facts of a catalogue, from its training baskets and their `ages` in days (n_baskets,).

    Without ages nothing is recent, and all trends are 0. `beta` weighs log popularity in carts.
    """
    n_items = len(n_orders)
    codes = encode_categories(cards, n_orders)
    bias = beta * np.log(n_orders / len(corpus))
    return ItemFeatures(
        recent=compute_recent_probability(corpus, ages, pairs),
        items=compute_sales_features(corpus, ages, n_items),
        category_of=codes,
        category_lift=category_lift(pairs, codes, n_orders, len(corpus)),
        log_norms=log_norms(vectors.in_vectors, vectors.out_vectors, bias.astype(np.float32)),
    )


def compute_recent_probability(
    corpus: Corpus, ages: Float32Array | None, pairs: Pairs
) -> Float32Array:
    """P(companion | product) of all pairs, (n_pairs,), with baskets weighed by their age, too."""
    if ages is None:
        return pairs.probability
    n_items = len(pairs.offsets) - 1
    weighed = replace(corpus, weights=corpus.weights * decay_weights(ages, RECENT_DAYS))
    counter = PairCounter(weighed, n_items)
    found = np.zeros(len(pairs.rows), np.float32)
    # A line of the matrix at a time: all pairs were counted, so that none is left from the last.
    line = np.zeros(n_items, np.float32)
    for part in split_into_ranges(n_items, BLOCK):
        counted = counter.count(slice(part.start, part.stop))
        shares, bounds = counted.data.imag, pairwise(counted.indptr)
        for product, (start, end) in zip(part, bounds, strict=True):
            line[counted.indices[start:end]] = shares[start:end]
            mine = slice(pairs.offsets[product], pairs.offsets[product + 1])
            found[mine] = line[pairs.rows[mine]]
    found /= np.repeat(np.maximum(counter.product_weights, 1e-9), np.diff(pairs.offsets))
    return found


def compute_sales_features(corpus: Corpus, ages: Float32Array | None, n_items: int) -> Float32Array:
    """ITEM_FACTS of all products, (n_items, 4).

    A trend is the logarithm of a product's share of recent orders over its share of all; the basket
    size is the mean of 1/sqrt(n), which few large orders do not sway; days unsold are log(1 + d).
    """
    sizes = corpus.sizes
    n_orders = np.maximum(np.bincount(corpus.items, minlength=n_items), 1)
    facts = np.zeros((n_items, 4), np.float32)
    roots = 1 / np.sqrt(np.maximum(sizes, 1))
    facts[:, 2] = np.bincount(corpus.items, np.repeat(roots, sizes), n_items) / n_orders
    if ages is None:
        return facts
    plain = np.log((n_orders + SMOOTHING) / len(corpus))
    for column, days in enumerate((SHORT_DAYS, LONG_DAYS)):
        weights = decay_weights(ages, days)
        orders = np.bincount(corpus.items, np.repeat(weights, sizes), n_items)
        facts[:, column] = np.log((orders + SMOOTHING) / weights.sum()) - plain
    unsold = np.full(n_items, ages.max(initial=0), np.float32)
    np.minimum.at(unsold, corpus.items, np.repeat(ages, sizes).astype(np.float32))
    facts[:, 3] = np.log1p(unsold)
    return facts


def encode_categories(cards: pa.Table, n_orders: Int64Array) -> Int32Array:
    """Categories of the products (n_items,) as numbers, most bought first from 1; 0 for none."""
    values = cards["category"].combine_chunks()[: len(n_orders)].dictionary_encode()
    found = values.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    orders = np.bincount(found + 1, n_orders, len(values.dictionary) + 1)[1:]
    code_of = np.zeros(len(orders) + 1, np.int32)
    best = np.argsort(-orders, kind="stable")[:MAX_CATEGORIES]
    code_of[best + 1] = np.arange(1, len(best) + 1)
    codes: Int32Array = code_of[found + 1]
    return codes


def category_lift(
    pairs: Pairs, codes: Int32Array, n_orders: Int64Array, n_baskets: int
) -> Float32Array:
    """log of how many times more than by chance categories are bought together, (n, n) codes."""
    n_codes = int(codes.max(initial=0)) + 1
    counted = np.zeros(n_codes**2)
    for part in split_into_ranges(len(n_orders), CHUNK_ITEMS):
        offsets = pairs.offsets[part.start : part.stop + 1]
        mine = slice(offsets[0], offsets[-1])
        first = np.repeat(codes[part.start : part.stop].astype(np.int64), np.diff(offsets))
        cells = first * n_codes + codes[pairs.rows[mine]]
        counted += np.bincount(cells, pairs.support[mine], n_codes**2)
    together = counted.reshape(n_codes, n_codes)
    orders = np.bincount(codes, n_orders, n_codes)
    # Only a product's strongest pairs are counted, so that lifts compare within a row.
    share = together / np.maximum(together.sum(axis=1, keepdims=True), 1)
    chance = orders / max(orders.sum(), 1)
    lift: Float32Array = np.log((share + 1e-4) / (chance + 1e-4)).astype(np.float32)
    lift[0], lift[:, 0] = 0, 0
    return lift
