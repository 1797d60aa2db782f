"""Kinds of products: their categories, or phrases of their names whose products sell alike."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.model.arrays import AnyArray, Float32Array, Float64Array, Int64Array, UInt64Array
from components.model.features import normalize_vectors
from components.model.kinds import Kinds
from components.model.text_similarity import hash_token, tokenize
from components.model.variants import Variants

MAX_CATEGORIES = 0.5  # A product; more categories than that tell nothing about kinds

MIN_COHESION = 0.1
"""Mean cosine between the vectors of a phrase's products, below which it is no kind."""

LARGE = 16
"""Products of a kind beyond which more count for nothing. Without it all that is CHRISTMAS is one
kind of Online Retail; at a quarter, mugs fall into fifty."""

PAIR_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # Makes the hash of two words depend on their order


def find_kinds(
    products: pa.Table, in_vectors: Float32Array, variants: Variants | None
) -> Kinds | None:
    """Of the product table, whose first rows have vectors (n_items, dims).

    A kind is a category. Products without one, or all products where categories tell nothing, go by
    their names; variants are then of one kind. The rest are kinds of their own; None if that would
    be all.
    """
    codes = encode_categories(products["category"].combine_chunks())
    rows = np.flatnonzero(codes < 0)
    if len(rows):
        known = rows[rows < len(in_vectors)]
        vectors = in_vectors[known] - in_vectors.mean(axis=0, keepdims=True)
        found = cluster_names(products["name"].take(rows), normalize_vectors(vectors))
        codes[rows] = np.where(found < 0, rows, len(codes) + found)
        if variants is not None:
            codes[rows] = join_variants(codes, variants)[rows]
        # Categories have codes below the number of products, as the rest would.
        codes[rows] += len(codes)
    kinds, dense = np.unique(codes, return_inverse=True)
    return Kinds(dense.astype(np.int32)) if len(kinds) < len(codes) else None


def encode_categories(categories: pa.Array) -> Int64Array:
    """Codes (n,); -1 without a category, and for all if they have one in common or one each."""
    texts = pc.utf8_trim_whitespace(categories)
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, texts.type), texts)
    indices = texts.dictionary_encode().indices.fill_null(-1)
    codes: Int64Array = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    n_known, n_categories = int((codes >= 0).sum()), int(codes.max(initial=-1)) + 1
    if 1 < n_categories <= MAX_CATEGORIES * n_known:
        return codes
    return np.full(len(codes), -1, np.int64)


def cluster_names(names: pa.ChunkedArray, vectors: Float32Array) -> Int64Array:
    """Numbers (n,) of the phrase that stands for a product's kind; -1 for none.

    That is the word, or pair of words, of its name whose products have the most similar vectors:
    `lunch bag` of LUNCH BAG RED RETROSPOT. The first `len(vectors)` products have
    centred vectors of length 1.
    """
    rows, hashes = _list_phrases(names)
    _, phrases, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    is_shared = sizes[phrases] > 1
    rows, phrases = rows[is_shared], phrases[is_shared]
    phrases = np.unique(phrases, return_inverse=True)[1]
    scores = _score_phrases(rows, phrases, vectors)
    is_kind = scores[phrases] > 0
    rows, phrases = rows[is_kind], phrases[is_kind]
    order = np.lexsort((phrases, -scores[phrases], rows))
    named, first = np.unique(rows[order], return_index=True)
    found = np.full(len(names), -1, np.int64)
    found[named] = phrases[order][first]
    return found


def join_variants(codes: Int64Array, variants: Variants) -> Int64Array:
    """The codes, where variants have that of the most bought of them."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n_items = len(variants.offsets) - 1
    pairs = (np.ones(len(variants.rows), np.int8), variants.rows, variants.offsets)
    _, families = connected_components(csr_array(pairs, shape=(n_items, n_items)), directed=False)
    _, first, family = np.unique(families, return_index=True, return_inverse=True)
    joined = codes.copy()
    joined[:n_items] = codes[first[family]]
    return joined


def _list_phrases(names: pa.ChunkedArray) -> tuple[Int64Array, UInt64Array]:
    """Distinct words and pairs of neighbouring words of all names: rows, and hashes of phrases."""
    words = [_list_words(name.as_py()) for name in names]
    owners = np.repeat(np.arange(len(words)), list(map(len, words)))
    single = np.fromiter((hash_token(word) for one in words for word in one), np.uint64)
    is_pair = owners[1:] == owners[:-1]
    double = (single[:-1] * PAIR_FACTOR + single[1:])[is_pair]
    rows, hashes = np.concatenate([owners, owners[1:][is_pair]]), np.concatenate([single, double])
    order = np.lexsort((hashes, rows))
    rows, hashes = rows[order], hashes[order]
    is_new = np.append(True, (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1]))[: len(rows)]
    return rows[is_new], hashes[is_new]


def _list_words(name: str | None) -> list[str]:
    """Without numbers and amounts, unless there is nothing else."""
    words = tokenize(name)
    return [one for one in words if not any(map(str.isdigit, one))] or words


def _score_phrases(rows: AnyArray, phrases: AnyArray, vectors: Float32Array) -> Float64Array:
    """Cohesion times the square root of the number of products, of each phrase; 0 for no kind.

    Without the root, groups of two win.
    """
    from scipy.sparse import csr_array

    has_vector = rows < len(vectors)
    rows, columns = phrases[has_vector], rows[has_vector]
    shape = (int(phrases.max(initial=-1)) + 1, len(vectors))
    members = csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    n = np.bincount(rows, minlength=shape[0]).astype(np.float64)
    sums = members @ vectors
    lengths = np.einsum("ij,ij->i", sums, sums)
    cohesion = (lengths - n) / np.maximum(n * (n - 1), 1)
    scores: Float64Array = np.where(
        cohesion < MIN_COHESION, 0, cohesion * np.sqrt(np.minimum(n, LARGE))
    )
    return scores
