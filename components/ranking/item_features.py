"""Features beside vectors and counts: recency and categories."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from components.baskets.corpus import Corpus
from components.baskets.weighting import decay_weights
from components.embeddings.cooccurrence import BLOCK, PairCounter
from components.embeddings.item2vec import Vectors
from components.model.arrays import Float32Array, Int32Array, Int64Array
from components.model.bundle import Pairs
from components.model.item_features import ItemFeatures, compute_log_norms
from components.spark import split_into_ranges

SHORT_DAYS, LONG_DAYS, RECENT_DAYS = 14.0, 45.0, 60.0
# Half-lives of a product's two trends, and of recent pairs.

SMOOTHING = 0.1  # Orders added to every product's: trends stay finite without recent sales

MAX_CATEGORIES = 2_000  # The most bought ones have lifts: a matrix of its square

CHUNK_ITEMS = 100_000


def build_item_features(
    corpus: Corpus, ages: Float32Array | None, pairs: Pairs, products: pa.Table, vectors: Vectors,
    n_orders: Int64Array, beta: float,
) -> ItemFeatures:  # fmt: skip
    """`ages` are days (n_baskets,); `beta` is the popularity weight of carts."""
    codes = encode_categories(products, n_orders)
    bias = beta * np.log(n_orders / len(corpus))
    return ItemFeatures(
        recent=compute_recent_probability(corpus, ages, pairs),
        sales=compute_sales_features(corpus, ages, len(n_orders)),
        category_codes=codes,
        category_lift=compute_category_lift(pairs, codes, n_orders),
        log_norms=compute_log_norms(**vars(vectors), bias=bias.astype(np.float32)),
    )


def compute_recent_probability(
    corpus: Corpus, ages: Float32Array | None, pairs: Pairs
) -> Float32Array:
    """P(companion | product) (n_pairs,) over baskets weighted by recency."""
    if ages is None:
        return pairs.probability
    n_items = len(pairs.offsets) - 1
    decayed = replace(corpus, weights=corpus.weights * decay_weights(ages, RECENT_DAYS))
    counter = PairCounter(decayed, n_items)
    result = np.zeros(len(pairs.rows), np.float32)
    # One dense row is reused: the new counts overwrite every entry that `pairs` reads.
    row = np.zeros(n_items, np.float32)
    for part in split_into_ranges(n_items, BLOCK):
        counted = counter.count(slice(part.start, part.stop))
        shares, bounds = counted.data.imag, pairwise(counted.indptr)
        for product, (start, end) in zip(part, bounds, strict=True):
            row[counted.indices[start:end]] = shares[start:end]
            own = slice(pairs.offsets[product], pairs.offsets[product + 1])
            result[own] = row[pairs.rows[own]]
    result /= np.repeat(np.maximum(counter.product_weights, 1e-9), np.diff(pairs.offsets))
    return result


def compute_sales_features(corpus: Corpus, ages: Float32Array | None, n_items: int) -> Float32Array:
    """SALES_COLUMNS (n_items, 4).

    Trends are log(share of recent orders / share of all), 0 without ages; basket size is the mean
    of 1/sqrt(n), robust to few large orders; days unsold are log(1 + d).
    """
    sizes = corpus.sizes
    n_orders = np.maximum(np.bincount(corpus.items, minlength=n_items), 1)
    features = np.zeros((n_items, 4), np.float32)
    roots = 1 / np.sqrt(np.maximum(sizes, 1))
    features[:, 2] = np.bincount(corpus.items, np.repeat(roots, sizes), n_items) / n_orders
    if ages is None:
        return features
    overall = np.log((n_orders + SMOOTHING) / len(corpus))
    for column, days in enumerate((SHORT_DAYS, LONG_DAYS)):
        weights = decay_weights(ages, days)
        orders = np.bincount(corpus.items, np.repeat(weights, sizes), n_items)
        features[:, column] = np.log((orders + SMOOTHING) / weights.sum()) - overall
    unsold = np.full(n_items, ages.max(initial=0), np.float32)
    np.minimum.at(unsold, corpus.items, np.repeat(ages, sizes).astype(np.float32))
    features[:, 3] = np.log1p(unsold)
    return features


def encode_categories(products: pa.Table, n_orders: Int64Array) -> Int32Array:
    """Category codes (n_items,), from 1 by descending orders; 0 for none."""
    values = products["category"].combine_chunks()[: len(n_orders)].dictionary_encode()
    indices = values.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    orders = np.bincount(indices + 1, n_orders, len(values.dictionary) + 1)[1:]
    code_by_index = np.zeros(len(orders) + 1, np.int32)
    best = np.argsort(-orders, kind="stable")[:MAX_CATEGORIES]
    code_by_index[best + 1] = np.arange(1, len(best) + 1)
    codes: Int32Array = code_by_index[indices + 1]
    return codes


def compute_category_lift(pairs: Pairs, codes: Int32Array, n_orders: Int64Array) -> Float32Array:
    """log P(category | category) / P(category), (n_codes, n_codes)."""
    n_codes = int(codes.max(initial=0)) + 1
    counted = np.zeros(n_codes**2)
    for part in split_into_ranges(len(n_orders), CHUNK_ITEMS):
        offsets = pairs.offsets[part.start : part.stop + 1]
        block = slice(offsets[0], offsets[-1])
        first = np.repeat(codes[part.start : part.stop].astype(np.int64), np.diff(offsets))
        cells = first * n_codes + codes[pairs.rows[block]]
        counted += np.bincount(cells, pairs.support[block], n_codes**2)
    support = counted.reshape(n_codes, n_codes)
    orders = np.bincount(codes, n_orders, n_codes)
    # Pairs are cut to the strongest of each product: lifts are comparable only within a row.
    share = support / np.maximum(support.sum(axis=1, keepdims=True), 1)
    chance = orders / max(orders.sum(), 1)
    lift: Float32Array = np.log((share + 1e-4) / (chance + 1e-4)).astype(np.float32)
    lift[0], lift[:, 0] = 0, 0
    return lift
