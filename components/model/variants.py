"""Variants: the same product in another size, colour or number.

Their names are the same once some kinds of words are left out, within a category and a brand.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.model.arrays import (
    AnyArray,
    BoolArray,
    Float32Array,
    Int32Array,
    Int64Array,
    UInt64Array,
)
from components.model.ragged import RaggedRows
from components.model.text_similarity import Attributes, hash_token, read_attributes, tokenize
from components.model.top_k import RankedRows

if TYPE_CHECKING:
    # A service has no use for Arrow, which takes 9 MB of every worker.
    import pyarrow as pa

# Differences between two names of the same product, each level with all before it. A ` #2` at the
# end, which only tells equal names apart, is none.
LEVELS = ("none", "same_name", "but_numbers", "but_colours", "but_one_word")
MAX_GROUP_SIZE = 100  # Of products with one name; a larger group is a kind of products
MIN_TOKENS = 3  # Of a name of which one word may differ

_AMOUNTS = """
    g gr gram grams kg mg oz ounce ounces lb lbs pound pounds ml cl dl l lt ltr liter liters litre
    litres gal gallon qt pt fl cc mm cm m in inch inches ft x ct count pk pack packs pc pcs piece
    pieces set of doz dozen size
"""
UNITS = frozenset(_AMOUNTS.split())

_LOOKS = """
    black white red blue green yellow orange purple pink brown grey gray silver gold golden cream
    ivory beige turquoise navy lilac violet mint amber clear multi dark light pale assorted asst
    small medium large big mini tiny jumbo giant extra xs s xl xxl xxxl tall short long
    schwarz weiss rot blau grun gelb lila rosa braun grau silber klein mittel gross
    noir blanc rouge bleu vert jaune rose marron gris petit moyen grand
    negro blanco rojo azul verde amarillo morado rosado pequeno mediano grande
"""
COLOURS = frozenset(_LOOKS.split())


@dataclass(frozen=True)
class Variants(RaggedRows, prefix="variants"):
    """List i holds the variants of product i, ascending; the relation is symmetric."""


def find_name_pairs(
    products: "pa.Table", n_items: int, level: str
) -> tuple[Int32Array, Int32Array]:
    """Pairs (one < other) of the first `n_items` products that are variants by their names."""
    rows, keys = [], []
    for row, attributes in enumerate(read_attributes(products.slice(0, n_items))):
        for key in _list_keys(attributes, level):
            rows.append(row)
            keys.append(key)
    return _pair_groups(np.array(rows, np.int32), np.array(keys, np.uint64))


def build_variants(one: Int32Array, other: Int32Array, n_items: int) -> Variants:
    keys = np.concatenate([_key(one, other, n_items), _key(other, one, n_items)])
    keys = np.unique(keys)
    offsets = np.searchsorted(keys, np.arange(n_items + 1) * n_items)
    return Variants(offsets.astype(np.int64), (keys % max(n_items, 1)).astype(np.int32))


def match_exceptions(
    one: Int32Array,
    other: Int32Array,
    exceptions: Iterable[tuple[str, str]],
    product_ids: Sequence[str],
) -> BoolArray:
    """Whether pairs are among `exceptions`, in any order; unknown ids are passed over."""
    row_of = {id_: row for row, id_ in enumerate(product_ids)}
    known = [sorted((row_of[a], row_of[b])) for a, b in exceptions if a in row_of and b in row_of]
    allowed = np.array(known, np.int64).reshape(-1, 2)
    n_items = len(product_ids)
    low, high = np.minimum(one, other), np.maximum(one, other)
    return np.isin(_key(low, high, n_items), _key(allowed[:, 0], allowed[:, 1], n_items))


def drop_variants(
    rows: Int64Array, scores: Float32Array, products: Iterable[int], variants: Variants, k: int
) -> RankedRows:
    """The first `k` rows of each product without its variants, filled up with -1 and -inf."""
    kept_rows = np.full((len(rows), k), -1, np.int64)
    kept_scores = np.full((len(rows), k), -np.inf, np.float32)
    for i, product in enumerate(products):
        is_kept = rows[i] >= 0
        if len(own := variants.rows[variants.entries(product)]):
            is_kept &= ~np.isin(rows[i], own)
        kept = np.flatnonzero(is_kept)[:k]
        kept_rows[i, : len(kept)] = rows[i, kept]
        kept_scores[i, : len(kept)] = scores[i, kept]
    return kept_rows, kept_scores


def _list_keys(attributes: Attributes, level: str) -> list[int]:
    """Hashes; products that share one are variants."""
    words = tokenize(_drop_number(attributes.name or ""))
    if level == "none" or not words:
        return []
    if level != "same_name":
        # A name of nothing but numbers and units is left whole.
        words = [one for one in words if not _is_amount(one)] or words
    if level in ("but_colours", "but_one_word"):
        words = [one for one in words if one not in COLOURS] or words
    shelf = f"{attributes.category}\n{attributes.brand}\n"
    whole = sorted(words)
    keys = [hash_token(shelf + " ".join(whole))]
    if level == "but_one_word" and len(words) >= MIN_TOKENS:
        # One word less on both sides: the place where it stood is part of the key.
        keys += [
            hash_token(f"{shelf}{' '.join(words[:i])} * {' '.join(words[i + 1 :])}")
            for i in range(len(words))
        ]
    return keys


def _drop_number(name: str) -> str:
    """Without the ` #2` that tells products of one name apart."""
    head, _, number = name.rpartition(" #")
    return head if head and number.isdigit() else name


def _is_amount(word: str) -> bool:
    return word in UNITS or any(character.isdigit() for character in word)


def _pair_groups(rows: Int32Array, keys: UInt64Array) -> tuple[Int32Array, Int32Array]:
    """Pairs of rows with the same key, each once, but for groups above MAX_GROUP_SIZE."""
    order = np.lexsort((rows, keys))
    rows = rows[order]
    _, starts, sizes = np.unique(keys[order], return_index=True, return_counts=True)
    fit = (sizes > 1) & (sizes <= MAX_GROUP_SIZE)
    starts, sizes = starts[fit], sizes[fit]
    # Member m of a group of s is paired with the s - 1 - m after it.
    ends = np.repeat(starts + sizes, sizes)
    members = np.arange(sizes.sum()) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    after = ends - members - 1
    one = np.repeat(members, after)
    step = np.arange(after.sum()) - np.repeat(np.cumsum(after) - after, after)
    width = int(rows.max(initial=0)) + 1
    pairs = np.unique(_key(rows[one], rows[one + 1 + step], width))
    return (pairs // width).astype(np.int32), (pairs % width).astype(np.int32)


def _key(one: AnyArray, other: AnyArray, n_items: int) -> Int64Array:
    keys: Int64Array = one.astype(np.int64) * n_items + other
    return keys
